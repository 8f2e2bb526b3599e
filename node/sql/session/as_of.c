/*
 * as_of.c -- AS OF SYSTEM TIME: reading the past.
 *
 * What may stand behind it, as in CockroachDB:
 *
 *     '-5s', '-1h30m', '-10 seconds'   that long ago; also INTERVAL '-5s'
 *     '2024-05-01 12:00:00+02'         then, in the session's time zone when it names none
 *     '1714557600000000000.0000000001' nanoseconds since 1970, and the logical part behind the point
 *     follower_read_timestamp()        as late as any replica can surely answer by itself
 *
 * It is evaluated when the statement begins, not when it is compiled: the tree stays with the statement.
 * The transaction is read-only then. In a block the time is that of BEGIN; a single statement has its own.
 */
#include <math.h>
#include <stdlib.h>

#include "node/runtime/hlc.h"
#include "node/sql/session/session_internal.h"
#include "node/sql/types/type.h"
#include "node/sql/types/type_io.h"

#define NS_PER_US      ((int64_t)1000)
#define NS_PER_S       1e9
#define PG_EPOCH_US    ((int64_t)946684800000000)
#define LOGICAL_DIGITS 10u

static const struct {
    const char *name;
    double seconds;
} units[] = {
    {"ns", 1e-9},      {"us", 1e-6},          {"microsecond", 1e-6},  {"microseconds", 1e-6},
    {"ms", 1e-3},      {"millisecond", 1e-3}, {"milliseconds", 1e-3}, {"s", 1.0},
    {"sec", 1.0},      {"secs", 1.0},         {"second", 1.0},        {"seconds", 1.0},
    {"m", 60.0},       {"min", 60.0},         {"mins", 60.0},         {"minute", 60.0},
    {"minutes", 60.0}, {"h", 3600.0},         {"hour", 3600.0},       {"hours", 3600.0},
    {"d", 86400.0},    {"day", 86400.0},      {"days", 86400.0},
};

static double unit_seconds(const char *word, size_t n)
{
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (strlen(units[i].name) == n && strncasecmp(units[i].name, word, n) == 0) {
            return units[i].seconds;
        }
    }
    return 0;
}

/* "-1h30m", "-10 seconds": signed numbers with units. False: it is something else. */
static bool parse_duration(const char *p, double *seconds)
{
    bool any = false;
    double sign = 1;

    *seconds = 0;
    while (*p != 0) {
        char *end = NULL;
        double n = 0;
        double unit = 0;
        size_t len = 0;

        p += strspn(p, " ");
        if (*p == '-' || *p == '+') {
            sign = *p++ == '-' ? -1 : 1;
        }
        if (*p < '0' || *p > '9') {
            return false;
        }
        n = strtod(p, &end);
        p = end + strspn(end, " ");
        len = strcspn(p, " +-0123456789.");
        unit = unit_seconds(p, len);
        if (unit <= 0) {
            return false;
        }
        *seconds += sign * n * unit;
        any = true;
        p += len;
        p += strspn(p, " ");
    }
    return any && isfinite(*seconds);
}

/* Nanoseconds, perhaps with ten digits of the logical part. */
static bool parse_hlc(const char *text, struct hts *out)
{
    char *end = NULL;
    const size_t digits = strspn(text, "0123456789");

    if (digits < 10 || digits > 19) { /* Shorter ones are more likely a year. */
        return false;
    }
    *out = (struct hts){.wall = strtoull(text, &end, 10)};
    if (*end == '.') {
        if (strlen(end + 1) != LOGICAL_DIGITS) {
            return false;
        }
        out->logical = (uint32_t)strtoul(end + 1, &end, 10);
    }
    return *end == 0;
}

static struct status bad_value(struct session *s, const struct ast_expr *e, const char *text,
                               struct sql_error *err)
{
    return sql_error_set(err, &s->scratch, "22023", e->location,
                         "AS OF SYSTEM TIME: \"%s\" is neither an interval before now nor a "
                         "timestamp",
                         text);
}

static struct status from_text(struct session *s, const struct ast_expr *e, const char *text,
                               struct sql_error *err, struct hts *out)
{
    const struct hts now = hclock_hts(hlc_now(s->sql->o.hlc));
    const struct type_io io = {.arena = &s->scratch,
                               .err = err,
                               .position = e->location,
                               .settings = &s->settings.types,
                               .now_us = s->statement_start_us};
    union datum d = {0};
    double seconds = 0;

    if (parse_duration(text, &seconds)) {
        if (seconds >= 0 || -seconds * NS_PER_S >= (double)now.wall) {
            return bad_value(s, e, text, err);
        }
        out->wall = now.wall - (uint64_t)(-seconds * NS_PER_S);
        return OK;
    }
    if (parse_hlc(text, out)) {
        return OK;
    }
    if (!status_ok(type_in_text(&io, TYPE_TIMESTAMPTZ, -1, bytes_str(text), &d)) ||
        d.i64 <= -PG_EPOCH_US) {
        return bad_value(s, e, text, err);
    }
    out->wall = d.i64 >= INT64_MAX / NS_PER_US - PG_EPOCH_US
                    ? UINT64_MAX
                    : (uint64_t)((d.i64 + PG_EPOCH_US) * NS_PER_US);
    return OK;
}

/* A string or a number, with a sign, or a type before or behind it; NULL: something else. */
static const char *constant_text(struct session *s, const struct ast_expr *e)
{
    const char *inner = NULL;

    switch (e->kind) {
    case AST_CAST:
        return e->cast.arg->kind == AST_CONST ? constant_text(s, e->cast.arg) : NULL;
    case AST_OP:
        if (e->op.left != NULL || strcmp(e->op.name, "-") != 0 || e->op.right->kind != AST_CONST) {
            return NULL;
        }
        inner = constant_text(s, e->op.right);
        return inner == NULL ? NULL : arena_printf(&s->scratch, "-%s", inner);
    case AST_CONST:
        break;
    default:
        return NULL;
    }
    if (e->constant.kind == AST_CONST_INT) {
        return arena_printf(&s->scratch, "%d", e->constant.integer);
    }
    if (e->constant.kind == AST_CONST_NUMERIC || e->constant.kind == AST_CONST_STRING) {
        return arena_strndup(&s->scratch, (const char *)e->constant.text.ptr, e->constant.text.len);
    }
    return NULL;
}

static struct status from_function(struct session *s, const struct ast_expr *e,
                                   struct sql_error *err, struct hts *out)
{
    const struct ast_function *f = e->function;

    if (strcmp(f->name.name, "follower_read_timestamp") == 0 && f->args.count == 0) {
        out->wall = hclock_hts(hlc_now(s->sql->o.hlc)).wall -
                    (uint64_t)(SQL_FOLLOWER_READ_LAG_US * NS_PER_US);
        return OK;
    }
    return sql_error_unsupported(err, &s->scratch, e->location,
                                 arena_printf(&s->scratch, "AS OF SYSTEM TIME %s()", f->name.name));
}

struct status as_of__resolve(struct session *s, const struct ast_expr *e, struct sql_error *err,
                             struct hts *out)
{
    const char *text = NULL;

    *out = HTS_ZERO;
    if (e->kind == AST_FUNCTION) {
        return from_function(s, e, err, out);
    }
    text = constant_text(s, e);
    if (text == NULL) {
        return sql_error_unsupported(err, &s->scratch, e->location,
                                     e->kind == AST_PARAM ? "a parameter in AS OF SYSTEM TIME"
                                                          : "this expression in AS OF SYSTEM TIME");
    }
    TRY(from_text(s, e, text, err, out));
    if (hts_less(hclock_hts(hlc_now(s->sql->o.hlc)), *out)) {
        return sql_error_set(err, &s->scratch, "22023", e->location,
                             "cannot specify a timestamp in the future: AS OF SYSTEM TIME '%s'",
                             text);
    }
    return OK;
}
