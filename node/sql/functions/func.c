/*
 * func.c -- the tables of functions, operators, casts and aggregates, and their kernels.
 *
 * Every line of the .def files is read twice: once to make `k_NAME`, an inline function on C values,
 * with `s_NAME` (one row of datums) and `v_NAME` (a loop over columns) around it; once to make the row
 * of the table. A loop over all rows without a list of lanes runs PURE kernels on every row, NULL or
 * not, so that the compiler can vectorise it; other kernels skip NULLs and stop at the first failure.
 */
#include "node/sql/functions/func.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/runtime/env.h"
#include "node/sql/functions/text.h"

bool eval_fail(struct eval *e, const char *sqlstate, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    e->st = sql_error_set(e->err, e->err_arena, sqlstate, -1, "%s", text);
    return false;
}

bool eval_check(struct eval *e, struct status st)
{
    e->st = st;
    return status_ok(st);
}

uint8_t *eval_alloc(struct eval *e, size_t size)
{
    uint8_t *p = arena_alloc(e->arena, size == 0 ? 1 : size, 1);

    if (p == NULL) {
        e->st = FAIL(STATUS_MEMORY, "no memory for the result of a function");
    }
    return p;
}

struct type_io eval_io(struct eval *e)
{
    static const struct type_settings plain = {{"UTC", 0}, 1};

    return (struct type_io){.arena = e->arena,
                            .err = e->err,
                            .position = -1,
                            .settings = e->view == NULL ? &plain : &e->view->types,
                            .now_us = e->view == NULL ? 0 : e->view->txn_start_us};
}

/* ---- helpers of func.def ----------------------------------------------------------------------- */

static bool range_error(struct eval *e, oid type)
{
    return eval_fail(e, "22003", "%s out of range", type_sql_name(type));
}

#define FITS_INT2(v) ((v) == (int16_t)(v))
#define FITS_INT4(v) ((v) == (int32_t)(v))
#define FITS_INT8(v) true

/* PostgreSQL's CHECKFLOATVAL: infinity and zero need an argument that explains them. */
#define FLOAT_RESULT(inf_ok, zero_ok)                                      \
    do {                                                                   \
        if (isinf(out) && !(inf_ok)) {                                     \
            return eval_fail(e, "22003", "value out of range: overflow");  \
        }                                                                  \
        if (out == 0 && !(zero_ok)) {                                      \
            return eval_fail(e, "22003", "value out of range: underflow"); \
        }                                                                  \
    } while (0)

static bool float_sqrt(struct eval *e, double a, double *out)
{
    if (a < 0) {
        return eval_fail(e, "2201F", "cannot take square root of a negative number");
    }
    *out = sqrt(a);
    return true;
}

static bool float_power(struct eval *e, double a, double b, double *result)
{
    const double out = pow(a, b);

    if (a == 0 && b < 0) {
        return eval_fail(e, "2201F", "zero raised to a negative power is undefined");
    }
    if (a < 0 && isfinite(a) && isfinite(b) && floor(b) != b) {
        return eval_fail(e, "2201F",
                         "a negative number raised to a non-integer power yields a complex result");
    }
    FLOAT_RESULT(isinf(a) || isinf(b), a == 0 || isinf(a) || isinf(b));
    *result = out;
    return true;
}

/* Rounds half to even, as PostgreSQL's rint(). */
static bool float_to_int(struct eval *e, double a, oid type, int64_t *out)
{
    const double r = rint(a);
    const double limit = type == TYPE_INT2 ? 32768.0 : type == TYPE_INT4 ? 2147483648.0 : 0x1p63;

    if (isnan(r) || r < -limit || r >= limit) {
        return range_error(e, type);
    }
    *out = (int64_t)r;
    return true;
}

static double eval_random(struct eval *e)
{
    return (double)(env_random_u64(e->view->env) >> 11) * 0x1p-53;
}

static int64_t eval_clock_us(struct eval *e)
{
    return e->view->clock_us == NULL ? e->view->statement_start_us
                                     : e->view->clock_us(e->view->ctx);
}

/*
 * Microseconds and 12 bits that differ between sessions: rows of one session sort by insertion, and
 * two sessions meet only when their bits and their microsecond agree, which the insert then reports.
 */
static int64_t eval_unique_rowid(struct eval *e)
{
    int64_t us = eval_clock_us(e);

    if (e->view->unique_rowid != NULL) {
        return e->view->unique_rowid(e->view->ctx);
    }
    if (us <= e->rowid_last_us) {
        us = e->rowid_last_us + 1;
    }
    e->rowid_last_us = us;
    return (int64_t)((uint64_t)us << 12 | (e->view->backend_pid & 0xFFF));
}

static struct bytes session_text(const char *s)
{
    return s == NULL ? BYTES_EMPTY : bytes_str(s);
}

static bool session_version(struct eval *e, struct bytes *out)
{
    const char *v =
        e->view->setting == NULL ? NULL : e->view->setting(e->view->ctx, "server_version");

    *out = bytes_str(arena_printf(e->arena, "PostgreSQL %s (dsql)", v == NULL ? "15.0" : v));
    return true;
}

static bool session_setting(struct eval *e, struct bytes name, struct bytes *out)
{
    char copy[128];
    const char *v = NULL;

    if (name.len < sizeof(copy)) {
        memcpy(copy, name.ptr, name.len);
        copy[name.len] = '\0';
        v = e->view->setting == NULL ? NULL : e->view->setting(e->view->ctx, copy);
    }
    if (v == NULL) {
        return eval_fail(e, "42704", "unrecognized configuration parameter \"%.*s\"", (int)name.len,
                         (const char *)name.ptr);
    }
    *out = bytes_str(v);
    return true;
}

static bool text_concat_loose(struct eval *e, const union datum *args, const uint8_t *nulls,
                              union datum *out, uint8_t *null_out)
{
    const struct bytes a = nulls[0] != 0 ? BYTES_EMPTY : args[0].bytes;
    const struct bytes b = nulls[1] != 0 ? BYTES_EMPTY : args[1].bytes;

    *null_out = 0;
    return text_concat(e, a, b, &out->bytes);
}

/* ---- kernels ----------------------------------------------------------------------------------- */

#define C_BOOL        int64_t
#define C_INT2        int64_t
#define C_INT4        int64_t
#define C_INT8        int64_t
#define C_OID         int64_t
#define C_TIMESTAMPTZ int64_t
#define C_FLOAT8      double
#define C_TEXT        struct bytes
#define C_NAME        struct bytes
#define F_BOOL        i64
#define F_INT2        i64
#define F_INT4        i64
#define F_INT8        i64
#define F_OID         i64
#define F_TIMESTAMPTZ i64
#define F_FLOAT8      f64
#define F_TEXT        bytes
#define F_NAME        bytes

#define CMP_I64(a, op, b)   ((a)op(b))
#define CMP_F64(a, op, b)   (float8_cmp((a), (b)) op 0)
#define CMP_BYTES(a, op, b) (bytes_cmp((a), (b)) op 0)
#define PURE_I64            FUNC_PURE
#define PURE_F64            FUNC_PURE
#define PURE_BYTES          0

/* All rows, or the lanes that are not NULL. `call` computes row i into po[i]. */
#define VECTOR_LOOP(pure, call)                       \
    if ((pure) != 0 && lanes->index == NULL) {        \
        for (uint32_t i = 0; i < lanes->count; i++) { \
            if (!(call)) {                            \
                return false;                         \
            }                                         \
        }                                             \
        return true;                                  \
    }                                                 \
    for (uint32_t n = 0; n < lanes->count; n++) {     \
        const uint32_t i = lane(lanes, n);            \
        if (!vec_is_null(out, i) && !(call)) {        \
            return false;                             \
        }                                             \
    }                                                 \
    return true;

#define AT(arg) (mask_##arg & i)
#define MASK(n) (args[n]->constant ? 0u : UINT32_MAX)

#define FN0(c_, id_, name_, flags_, R, ...)                                           \
    static bool s_##c_(struct eval *e, const union datum *args, union datum *result_) \
    {                                                                                 \
        C_##R *result = &result_->F_##R;                                              \
        C_##R out = {0};                                                              \
        (void)e, (void)args;                                                          \
        __VA_ARGS__                                                                   \
        *result = out;                                                                \
        return true;                                                                  \
    }
#define FN1(c_, id_, name_, flags_, R, A, ...)                                                   \
    static inline bool k_##c_(struct eval *e, C_##A a, C_##R *result)                            \
    {                                                                                            \
        C_##R out = {0};                                                                         \
        (void)e;                                                                                 \
        __VA_ARGS__                                                                              \
        *result = out;                                                                           \
        return true;                                                                             \
    }                                                                                            \
    static bool s_##c_(struct eval *e, const union datum *args, union datum *result)             \
    {                                                                                            \
        return k_##c_(e, args[0].F_##A, &result->F_##R);                                         \
    }                                                                                            \
    static bool v_##c_(struct eval *e, const struct vec *const *args, const struct lanes *lanes, \
                       struct vec *out)                                                          \
    {                                                                                            \
        const uint32_t mask_a = MASK(0);                                                         \
        const C_##A *pa = args[0]->F_##A;                                                        \
        C_##R *po = out->F_##R;                                                                  \
        VECTOR_LOOP((flags_)&FUNC_PURE, k_##c_(e, pa[AT(a)], &po[i]))                            \
    }
#define FN2(c_, id_, name_, flags_, R, A, B, ...)                                                \
    static inline bool k_##c_(struct eval *e, C_##A a, C_##B b, C_##R *result)                   \
    {                                                                                            \
        C_##R out = {0};                                                                         \
        (void)e;                                                                                 \
        __VA_ARGS__                                                                              \
        *result = out;                                                                           \
        return true;                                                                             \
    }                                                                                            \
    static bool s_##c_(struct eval *e, const union datum *args, union datum *result)             \
    {                                                                                            \
        return k_##c_(e, args[0].F_##A, args[1].F_##B, &result->F_##R);                          \
    }                                                                                            \
    static bool v_##c_(struct eval *e, const struct vec *const *args, const struct lanes *lanes, \
                       struct vec *out)                                                          \
    {                                                                                            \
        const uint32_t mask_a = MASK(0);                                                         \
        const uint32_t mask_b = MASK(1);                                                         \
        const C_##A *pa = args[0]->F_##A;                                                        \
        const C_##B *pb = args[1]->F_##B;                                                        \
        C_##R *po = out->F_##R;                                                                  \
        VECTOR_LOOP((flags_)&FUNC_PURE, k_##c_(e, pa[AT(a)], pb[AT(b)], &po[i]))                 \
    }
#define FN3(c_, id_, name_, flags_, R, A, B, C, ...)                                  \
    static bool s_##c_(struct eval *e, const union datum *args, union datum *result_) \
    {                                                                                 \
        const C_##A a = args[0].F_##A;                                                \
        const C_##B b = args[1].F_##B;                                                \
        const C_##C c = args[2].F_##C;                                                \
        C_##R *result = &result_->F_##R;                                              \
        C_##R out = {0};                                                              \
        __VA_ARGS__                                                                   \
        *result = out;                                                                \
        return true;                                                                  \
    }
#define LOOSE2(...)
#define FNU(...)
#define CMP(c_, id_, A, B, P, op) \
    FN2(c_, id_, #c_, PURE_##P, BOOL, A, B, { out = CMP_##P(a, op, b); })

#define INT_ADD(c_, id_, R, A, B)                                   \
    FN2(c_, id_, #c_, 0, R, A, B, {                                 \
        if (__builtin_add_overflow(a, b, &out) || !FITS_##R(out)) { \
            return range_error(e, TYPE_##R);                        \
        }                                                           \
    })
#define INT_SUB(c_, id_, R, A, B)                                   \
    FN2(c_, id_, #c_, 0, R, A, B, {                                 \
        if (__builtin_sub_overflow(a, b, &out) || !FITS_##R(out)) { \
            return range_error(e, TYPE_##R);                        \
        }                                                           \
    })
#define INT_MUL(c_, id_, R, A, B)                                   \
    FN2(c_, id_, #c_, 0, R, A, B, {                                 \
        if (__builtin_mul_overflow(a, b, &out) || !FITS_##R(out)) { \
            return range_error(e, TYPE_##R);                        \
        }                                                           \
    })
/* The least number divided by -1 does not fit. */
#define INT_DIV(c_, id_, R, A, B)                                                \
    FN2(c_, id_, #c_, 0, R, A, B, {                                              \
        if (b == 0) {                                                            \
            return eval_fail(e, "22012", "division by zero");                    \
        }                                                                        \
        if (b == -1) {                                                           \
            if (__builtin_sub_overflow((int64_t)0, a, &out) || !FITS_##R(out)) { \
                return range_error(e, TYPE_##R);                                 \
            }                                                                    \
        } else {                                                                 \
            out = a / b;                                                         \
        }                                                                        \
    })
#define INT_MOD(c_, id_, R, A, B)                             \
    FN2(c_, id_, #c_, 0, R, A, B, {                           \
        if (b == 0) {                                         \
            return eval_fail(e, "22012", "division by zero"); \
        }                                                     \
        out = b == -1 ? 0 : a % b;                            \
    })
#define INT_AND(c_, id_, R, A, B) FN2(c_, id_, #c_, FUNC_PURE, R, A, B, { out = a & b; })
#define INT_OR(c_, id_, R, A, B)  FN2(c_, id_, #c_, FUNC_PURE, R, A, B, { out = a | b; })
#define INT_XOR(c_, id_, R, A, B) FN2(c_, id_, #c_, FUNC_PURE, R, A, B, { out = a ^ b; })
/* Counts wrap at the width of the machine's shift, as PostgreSQL's C does on x86. */
#define WRAP_INT2(v) ((int16_t)(v))
#define WRAP_INT4(v) ((int32_t)(v))
#define WRAP_INT8(v) ((int64_t)(v))
#define BITS_INT2    31
#define BITS_INT4    31
#define BITS_INT8    63
#define INT_SHL(c_, id_, R, A, B) \
    FN2(c_, id_, #c_, FUNC_PURE, R, A, B, { out = WRAP_##R((uint64_t)a << (b & BITS_##R)); })
#define INT_SHR(c_, id_, R, A, B) \
    FN2(c_, id_, #c_, FUNC_PURE, R, A, B, { out = a >> (b & BITS_##R); })
#define INT_NEG(c_, id_, R)                                                  \
    FN1(c_, id_, #c_, 0, R, R, {                                             \
        if (__builtin_sub_overflow((int64_t)0, a, &out) || !FITS_##R(out)) { \
            return range_error(e, TYPE_##R);                                 \
        }                                                                    \
    })
#define INT_ABS(c_, id_, R)                                                         \
    FN1(c_, id_, #c_, 0, R, R, {                                                    \
        if (a >= 0) {                                                               \
            out = a;                                                                \
        } else if (__builtin_sub_overflow((int64_t)0, a, &out) || !FITS_##R(out)) { \
            return range_error(e, TYPE_##R);                                        \
        }                                                                           \
    })
#define INT_NOT(c_, id_, R)  FN1(c_, id_, #c_, FUNC_PURE, R, R, { out = ~a; })
#define INT_PLUS(c_, id_, R) FN1(c_, id_, #c_, FUNC_PURE, R, R, { out = a; })

#include "node/sql/functions/compare.def"
#include "node/sql/functions/func.def"
#include "node/sql/functions/integer.def"

#undef FN0
#undef FN1
#undef FN2
#undef FN3
#undef LOOSE2
#undef FNU

/* ---- tables ------------------------------------------------------------------------------------ */

#define FN0(c_, id_, name_, flags_, R, ...) \
    {id_, name_, TYPE_##R, 0, flags_, {0}, s_##c_, NULL, NULL},
#define FN1(c_, id_, name_, flags_, R, A, ...) \
    {id_, name_, TYPE_##R, 1, flags_, {TYPE_##A}, s_##c_, NULL, v_##c_},
#define FN2(c_, id_, name_, flags_, R, A, B, ...) \
    {id_, name_, TYPE_##R, 2, flags_, {TYPE_##A, TYPE_##B}, s_##c_, NULL, v_##c_},
#define FN3(c_, id_, name_, flags_, R, A, B, C, ...) \
    {id_, name_, TYPE_##R, 3, flags_, {TYPE_##A, TYPE_##B, TYPE_##C}, s_##c_, NULL, NULL},
#define LOOSE2(c_, id_, name_, flags_, R, A, B, fn_) \
    {id_, name_, TYPE_##R, 2, flags_, {TYPE_##A, TYPE_##B}, NULL, fn_, NULL},
#define TYPE_1(A)       TYPE_##A
#define TYPE_2(A, B)    TYPE_##A, TYPE_##B
#define TYPE_3(A, B, C) TYPE_##A, TYPE_##B, TYPE_##C
#define FNU(id_, name_, R, n_, ...) \
    {id_, name_, TYPE_##R, n_, 0, {TYPE_##n_(__VA_ARGS__)}, NULL, NULL, NULL},

static const struct func_impl funcs[] = {
#include "node/sql/functions/compare.def"
#include "node/sql/functions/func.def"
#include "node/sql/functions/integer.def"
};

static const struct operator_desc operators[] = {
#define OP(id_, name_, L, R, ret_, func_, com_) \
    {id_, name_, TYPE_##L, TYPE_##R, TYPE_##ret_, func_, com_},
#include "node/sql/functions/operator.def"
#undef OP
};

static const struct {
    oid from;
    oid to;
    oid func;
    char context;
    char method;
} casts[] = {
#define CAST(F, T, func_, context_, method_) {TYPE_##F, TYPE_##T, func_, context_, method_},
#include "node/sql/functions/cast.def"
#undef CAST
};

static const struct agg_desc aggs[] = {
#define AGG(id_, name_, A, R, kind_) {id_, name_, TYPE_##A, TYPE_##R, AGG_##kind_},
#include "node/sql/functions/agg.def"
#undef AGG
};

/* Linear: a few hundred entries, asked only while a statement is compiled. */
const struct func_impl *func_find(oid id)
{
    for (size_t i = 0; i < ARRAY_COUNT(funcs); i++) {
        if (funcs[i].id == id) {
            return &funcs[i];
        }
    }
    return NULL;
}

const struct func_impl *func_next(const char *name, size_t *pos)
{
    for (; *pos < ARRAY_COUNT(funcs); (*pos)++) {
        if (strcmp(funcs[*pos].name, name) == 0) {
            return &funcs[(*pos)++];
        }
    }
    return NULL;
}

const struct operator_desc *operator_next(const char *name, size_t *pos)
{
    for (; *pos < ARRAY_COUNT(operators); (*pos)++) {
        if (strcmp(operators[*pos].name, name) == 0) {
            return &operators[(*pos)++];
        }
    }
    return NULL;
}

const struct operator_desc *operator_find(oid id)
{
    for (size_t i = 0; i < ARRAY_COUNT(operators); i++) {
        if (operators[i].id == id) {
            return &operators[i];
        }
    }
    return NULL;
}

const struct operator_desc *operator_of_func(oid func)
{
    for (size_t i = 0; i < ARRAY_COUNT(operators); i++) {
        if (operators[i].func == func) {
            return &operators[i];
        }
    }
    return NULL;
}

const struct agg_desc *agg_next(const char *name, size_t *pos)
{
    for (; *pos < ARRAY_COUNT(aggs); (*pos)++) {
        if (strcmp(aggs[*pos].name, name) == 0) {
            return &aggs[(*pos)++];
        }
    }
    return NULL;
}

static bool context_allows(char cast, enum cast_context context)
{
    switch (context) {
    case CAST_IMPLICIT:
        return cast == 'i';
    case CAST_ASSIGNMENT:
        return cast != 'e';
    case CAST_EXPLICIT:
        return true;
    }
    return false;
}

struct cast_path cast_find(oid from, oid to, enum cast_context context)
{
    const struct type_desc *f = type_find(from);
    const struct type_desc *t = type_find(to);

    if (from == to) {
        return (struct cast_path){CAST_SAME, NULL};
    }
    for (size_t i = 0; i < ARRAY_COUNT(casts); i++) {
        if (casts[i].from == from && casts[i].to == to) {
            if (!context_allows(casts[i].context, context)) {
                return (struct cast_path){CAST_NONE, NULL};
            }
            if (casts[i].method == 'b') {
                return (struct cast_path){CAST_SAME, NULL};
            }
            return (struct cast_path){casts[i].method == 'i' ? CAST_IO : CAST_FUNCTION,
                                      func_find(casts[i].func)};
        }
    }
    if (f == NULL || t == NULL || f->category == 'P' || t->category == 'P') {
        return (struct cast_path){CAST_NONE, NULL};
    }
    if ((t->category == 'S' && context >= CAST_ASSIGNMENT) ||
        (f->category == 'S' && context == CAST_EXPLICIT)) {
        return (struct cast_path){CAST_IO, NULL};
    }
    return (struct cast_path){CAST_NONE, NULL};
}

bool cast_through_text(struct eval *e, oid from, oid to, union datum in, union datum *out)
{
    struct type_io io = eval_io(e);
    char scratch[TYPE_OUT_SIZE];
    struct bytes text = type_out_text(from, in, io.settings, scratch);

    io.arena = e->err_arena; /* Only texts of errors are allocated by input functions. */
    if (text.ptr == (const uint8_t *)scratch) {
        uint8_t *copy = eval_alloc(e, text.len);

        if (copy == NULL) {
            return false;
        }
        memcpy(copy, text.ptr, text.len);
        text.ptr = copy;
    }
    return eval_check(e, type_in_text(&io, to, TYPE_TYPMOD_NONE, text, out));
}
