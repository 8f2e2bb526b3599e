/*
 * row.c -- rows as keys and values.
 */
#include "node/sql/exec/row.h"

#include <string.h>

#define DETAIL_VALUE_MAX 64u /* PostgreSQL cuts values in "Failing row contains" there. */

static struct status no_memory(void)
{
    return FAIL(STATUS_MEMORY, "no memory for the layout of a table");
}

static struct status layout_columns(const struct table_desc *t, struct arena *arena,
                                    struct row_layout *out, bool *stored)
{
    int16_t *by_id = NULL;

    for (uint32_t i = 0; i < t->columns_count; i++) {
        if (t->columns[i].id >= out->ids_count) {
            out->ids_count = (uint16_t)(t->columns[i].id + 1);
        }
    }
    by_id = ARENA_ARRAY(arena, int16_t, out->ids_count);
    out->types = ARENA_ARRAY(arena, const struct type_desc *, t->columns_count);
    if (by_id == NULL || out->types == NULL) {
        return no_memory();
    }
    memset(by_id, 0xFF, out->ids_count * sizeof(*by_id));
    for (uint32_t i = 0; i < t->columns_count; i++) {
        by_id[t->columns[i].id] = (int16_t)i;
        stored[i] = true;
        out->types[i] = type_find(t->columns[i].type);
        if (out->types[i] == NULL || !out->types[i]->full) {
            return FAIL(STATUS_UNSUPPORTED, "a column has a type that this node does not know");
        }
    }
    out->column_of_id = by_id;
    return OK;
}

struct status row_layout_init(const struct table_desc *t, struct arena *arena,
                              struct row_layout *out)
{
    bool *stored = ARENA_ARRAY(arena, bool, t->columns_count);
    struct key_enc e;
    struct bytes prefix;

    memset(out, 0, sizeof(*out));
    out->table = t;
    out->columns_count = (uint16_t)t->columns_count;
    out->key_count = t->primary.columns_count;
    out->key = ARENA_ARRAY(arena, struct row_key_column, out->key_count);
    if (stored == NULL || out->key == NULL) {
        return no_memory();
    }
    TRY(layout_columns(t, arena, out, stored));
    for (uint32_t i = 0; i < out->key_count; i++) {
        const uint32_t id = t->primary.columns[i].column;

        if (id >= out->ids_count || out->column_of_id[id] < 0) {
            return FAIL(STATUS_CORRUPT, "a primary key names a column that does not exist");
        }
        out->key[i].column = (uint16_t)out->column_of_id[id];
        out->key[i].order = t->primary.columns[i].desc ? KEY_DESC : KEY_ASC;
        stored[out->key[i].column] = out->types[out->key[i].column]->id == TYPE_FLOAT8;
    }
    out->stored = stored;
    key_enc_init(&e, out->prefix, sizeof(out->prefix));
    key_enc_index(&e, t->id, t->primary.id);
    TRY(key_enc_finish(&e, &prefix));
    out->prefix_len = (uint8_t)prefix.len;
    return OK;
}

void row_enc_key_column(const struct row_layout *l, uint16_t key_column, union datum d,
                        struct key_enc *e)
{
    const struct row_key_column *k = &l->key[key_column];
    const struct type_desc *t = l->types[k->column];

    switch (t->phys) {
    case PHYS_I64:
        if (t->id == TYPE_BOOL) {
            key_enc_bool(e, k->order, d.i64 != 0);
        } else {
            key_enc_int(e, k->order, d.i64);
        }
        return;
    case PHYS_F64:
        key_enc_float(e, k->order, d.f64);
        return;
    case PHYS_BYTES:
        break;
    }
    key_enc_text(e, k->order, d.bytes);
}

struct status row_key(const struct row_layout *l, const union datum *values, struct key_enc *e,
                      struct bytes *out)
{
    key_enc_raw(e, row_prefix(l));
    for (uint16_t i = 0; i < l->key_count; i++) {
        row_enc_key_column(l, i, values[l->key[i].column], e);
    }
    key_enc_family(e, 0);
    return key_enc_finish(e, out);
}

struct status row_key_start(const struct row_layout *l, const union datum *values, uint16_t count,
                            struct arena *arena, struct bytes *out)
{
    size_t room = KEY_STACK_SIZE;
    struct key_enc e;
    uint8_t *mem = NULL;

    for (uint16_t i = 0; i < count; i++) {
        if (l->types[l->key[i].column]->phys == PHYS_BYTES) {
            room += 2 * values[i].bytes.len;
        }
    }
    mem = arena_alloc(arena, room, 1);
    if (mem == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    key_enc_init(&e, mem, room);
    key_enc_raw(&e, row_prefix(l));
    for (uint16_t i = 0; i < count; i++) {
        row_enc_key_column(l, i, values[i], &e);
    }
    return key_enc_finish(&e, out);
}

static struct key_row_column stored_column(const struct type_desc *t, uint32_t id, union datum d)
{
    struct key_row_column c = {.id = id, .kind = KEY_ROW_INT};

    switch (t->phys) {
    case PHYS_I64:
        c.v.i = d.i64;
        if (t->id == TYPE_BOOL) {
            c.kind = d.i64 != 0 ? KEY_ROW_TRUE : KEY_ROW_FALSE;
        }
        return c;
    case PHYS_F64:
        c.kind = KEY_ROW_FLOAT;
        c.v.f = d.f64;
        return c;
    case PHYS_BYTES:
        break;
    }
    c.kind = KEY_ROW_BYTES;
    c.v.b = d.bytes;
    return c;
}

struct status row_value(const struct row_layout *l, const union datum *values, const uint8_t *nulls,
                        struct buf *buf)
{
    struct key_row_enc enc;

    buf_clear(buf);
    key_row_enc_init(&enc, buf);
    for (uint32_t id = 1; id < l->ids_count; id++) {
        const int16_t i = l->column_of_id[id];

        if (i >= 0 && l->stored[i] && nulls[i] == 0) {
            const struct key_row_column c = stored_column(l->types[i], id, values[i]);

            TRY(key_row_put(&enc, &c));
        }
    }
    return OK;
}

static struct status corrupt(void)
{
    return FAIL(STATUS_CORRUPT, "a row does not match its table");
}

static bool from_column(const struct type_desc *t, const struct key_row_column *c, union datum *out)
{
    switch (c->kind) {
    case KEY_ROW_FALSE:
    case KEY_ROW_TRUE:
        out->i64 = c->kind == KEY_ROW_TRUE;
        return t->id == TYPE_BOOL;
    case KEY_ROW_INT:
        out->i64 = c->v.i;
        return t->phys == PHYS_I64;
    case KEY_ROW_FLOAT:
        out->f64 = c->v.f;
        return t->phys == PHYS_F64;
    case KEY_ROW_BYTES:
        out->bytes = c->v.b;
        return t->phys == PHYS_BYTES;
    case KEY_ROW_UUID:
    case KEY_ROW_INTERVAL:
    case KEY_ROW_TIMETZ:
    case KEY_ROW_NUMERIC:
    case KEY_ROW_KIND_COUNT:
        break;
    }
    return false;
}

static void decode_key_column(const struct row_layout *l, uint16_t key_column, struct reader *r,
                              struct arena *arena, union datum *out)
{
    const struct row_key_column *k = &l->key[key_column];
    const struct type_desc *t = l->types[k->column];

    switch (t->phys) {
    case PHYS_I64:
        out->i64 = t->id == TYPE_BOOL ? key_dec_bool(r, k->order) : key_dec_int(r, k->order);
        return;
    case PHYS_F64:
        out->f64 = key_dec_float(r, k->order);
        return;
    case PHYS_BYTES:
        break;
    }
    out->bytes = key_dec_bytes(r, k->order, arena);
}

/* Which key column is the last that somebody wants? One more than its place. */
static uint16_t key_columns_wanted(const struct row_layout *l, const bool *needed)
{
    uint16_t n = l->key_count;

    while (n > 0 && needed != NULL && !needed[l->key[n - 1].column]) {
        n--;
    }
    return n;
}

static struct status decode_key(const struct row_layout *l, struct bytes key, const bool *needed,
                                struct arena *arena, union datum *values, uint8_t *nulls)
{
    const uint16_t wanted = key_columns_wanted(l, needed);
    struct reader r;

    if (!bytes_starts_with(key, row_prefix(l))) {
        return corrupt();
    }
    r = reader_of(bytes_skip(key, l->prefix_len));
    for (uint16_t i = 0; i < wanted; i++) {
        const uint16_t column = l->key[i].column;

        if (needed == NULL || needed[column]) {
            decode_key_column(l, i, &r, arena, &values[column]);
            nulls[column] = 0;
        } else {
            (void)key_dec_skip(&r); /* Damage shows in r.bad. */
        }
    }
    return r.bad ? corrupt() : OK;
}

struct status row_decode(const struct row_layout *l, struct bytes key, struct bytes value,
                         const bool *needed, struct arena *arena, union datum *values,
                         uint8_t *nulls)
{
    struct key_row_dec dec;
    struct key_row_column c;

    memset(nulls, 1, l->columns_count);
    TRY(decode_key(l, key, needed, arena, values, nulls));
    key_row_dec_init(&dec, value);
    while (key_row_next(&dec, &c)) {
        const int16_t i = c.id < l->ids_count ? l->column_of_id[c.id] : -1;

        if (i < 0 || (needed != NULL && !needed[i])) {
            continue;
        }
        if (!from_column(l->types[i], &c, &values[i])) {
            return corrupt();
        }
        nulls[i] = 0;
    }
    return dec.r.bad ? corrupt() : OK;
}

/* ---- errors ------------------------------------------------------------------------------------ */

static struct status append_value(struct buf *b, const struct type_desc *t, union datum d,
                                  bool null, const struct type_settings *settings, size_t max)
{
    char scratch[TYPE_OUT_SIZE];
    struct bytes text = null ? BYTES_LIT("null") : type_out_text(t->id, d, settings, scratch);

    if (!null && max > 0 && text.len > max) {
        text.len = utf8_offset(text, max); /* Characters; good enough for a message. */
        TRY(buf_append_bytes(b, text));
        return buf_append_str(b, "...");
    }
    return buf_append_bytes(b, text);
}

/* Copies a finished text into the arena; what could not be built becomes no detail at all. */
static const char *detail_of(struct buf *b, struct status st, struct arena *arena)
{
    const char *out = status_ok(st) ? arena_strndup(arena, (const char *)b->ptr, b->len) : NULL;

    buf_deinit(b);
    return out;
}

static struct status key_detail(const struct row_layout *l, struct bytes key, struct arena *arena,
                                struct buf *b)
{
    const struct type_settings plain = TYPE_SETTINGS_DEFAULT;
    struct reader r = reader_of(bytes_skip(key, l->prefix_len));

    TRY(buf_append_str(b, "Key ("));
    for (uint16_t i = 0; i < l->key_count; i++) {
        TRY(buf_printf(b, "%s%s", i == 0 ? "" : ", ", l->table->columns[l->key[i].column].name));
    }
    TRY(buf_append_str(b, ")=("));
    for (uint16_t i = 0; i < l->key_count; i++) {
        union datum d = {.bytes = {NULL, 0}};

        decode_key_column(l, i, &r, arena, &d);
        if (r.bad) {
            return corrupt();
        }
        TRY(buf_append_str(b, i == 0 ? "" : ", "));
        TRY(append_value(b, l->types[l->key[i].column], d, false, &plain, 0));
    }
    return buf_append_str(b, ") already exists.");
}

static struct status columns_text(const struct row_layout *l, struct bytes key, struct arena *arena,
                                  struct buf *b)
{
    const struct type_settings plain = TYPE_SETTINGS_DEFAULT;
    struct reader r = reader_of(bytes_skip(key, l->prefix_len));

    for (uint16_t i = 0; i < l->key_count && r.rest.len > 0; i++) {
        union datum d = {.bytes = {NULL, 0}};

        decode_key_column(l, i, &r, arena, &d);
        if (r.bad) {
            return corrupt();
        }
        TRY(buf_append_str(b, "/"));
        TRY(append_value(b, l->types[l->key[i].column], d, false, &plain, 0));
    }
    return OK;
}

const char *row_key_text(const struct row_layout *l, struct bytes key, struct arena *arena)
{
    struct buf b = {0};

    if (key.len == 0) {
        return "";
    }
    if (key.len > l->prefix_len && bytes_starts_with(key, row_prefix(l)) &&
        status_ok(columns_text(l, key, arena, &b))) {
        return detail_of(&b, OK, arena);
    }
    buf_clear(&b);
    for (size_t i = 0; i < key.len; i++) {
        if (!status_ok(buf_printf(&b, "%02x", key.ptr[i]))) {
            break;
        }
    }
    return detail_of(&b, OK, arena);
}

struct status row_duplicate_error(const struct row_layout *l, struct bytes key, struct arena *arena,
                                  struct sql_error *err)
{
    struct buf b = {0};
    const struct status st = sql_error_set(err, arena, "23505", -1,
                                           "duplicate key value violates unique constraint \"%s\"",
                                           l->table->primary.name);
    const struct status built = key.len > l->prefix_len
                                    ? key_detail(l, key, arena, &b)
                                    : FAIL(STATUS_INVALID, "not a key of this table");

    err->detail = detail_of(&b, built, arena);
    err->schema = "public";
    err->table = arena_strdup(arena, l->table->name);
    err->constraint = arena_strdup(arena, l->table->primary.name);
    return st;
}

static struct status row_detail(const struct row_layout *l, const union datum *values,
                                const uint8_t *nulls, const struct type_settings *settings,
                                struct buf *b)
{
    const uint32_t shown = l->columns_count - (l->table->hidden_rowid ? 1u : 0u);

    TRY(buf_append_str(b, "Failing row contains ("));
    for (uint32_t i = 0; i < shown; i++) {
        TRY(buf_append_str(b, i == 0 ? "" : ", "));
        TRY(append_value(b, l->types[i], values[i], nulls[i] != 0, settings, DETAIL_VALUE_MAX));
    }
    return buf_append_str(b, ").");
}

struct status row_null_error(const struct row_layout *l, uint16_t column, const union datum *values,
                             const uint8_t *nulls, const struct type_settings *settings,
                             struct arena *arena, struct sql_error *err)
{
    struct buf b = {0};
    const char *name = l->table->columns[column].name;
    const struct status st =
        sql_error_set(err, arena, "23502", -1,
                      "null value in column \"%s\" of relation \"%s\" violates not-null constraint",
                      name, l->table->name);

    err->detail = detail_of(&b, row_detail(l, values, nulls, settings, &b), arena);
    err->schema = "public";
    err->table = arena_strdup(arena, l->table->name);
    err->column = arena_strdup(arena, name);
    return st;
}
