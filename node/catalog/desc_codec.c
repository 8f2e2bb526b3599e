/*
 * desc_codec.c -- see desc_codec.h for the layout.
 *
 * The same check runs before writing and after reading. A descriptor that fails it when written is a
 * mistake of ours or of the DDL (STATUS_INVALID); one that fails it when read was damaged or written
 * by somebody newer (STATUS_CORRUPT). Counts are compared with the bytes that are left before
 * anything is allocated, so that a few foreign bytes cannot ask for a lot of memory.
 */
#include "node/catalog/desc_codec.h"

#include "node/base/codec.h"

enum {
    DESC_FLAG_HIDDEN_ROWID = 1,
    COLUMN_FLAG_NOT_NULL = 1,
    COLUMN_FLAG_DEFAULT = 2,
    INDEX_FLAG_UNIQUE = 1,
    PART_FLAG_DESC = 1,
};

/* Smallest encoding of a column: id, type, typmod, flags, length and one letter of its name. */
#define COLUMN_BYTES_MIN 6u

static bool name_ok(const char *name)
{
    const size_t len = strnlen(name, CATALOG_NAME_MAX + 1);

    return len > 0 && len <= CATALOG_NAME_MAX;
}

static bool has_column(const struct table_desc *d, uint32_t id)
{
    for (uint32_t i = 0; i < d->columns_count; i++) {
        if (d->columns[i].id == id) {
            return true;
        }
    }
    return false;
}

static struct status check_columns(const struct table_desc *d)
{
    uint32_t last_id = 0;

    for (uint32_t i = 0; i < d->columns_count; i++) {
        const struct column_desc *c = &d->columns[i];

        if (!name_ok(c->name)) {
            return FAIL(STATUS_INVALID, "column name is empty or too long");
        }
        if (c->id <= last_id || c->id > CATALOG_COLUMNS_MAX) {
            return FAIL(STATUS_INVALID, "column ids are not ascending");
        }
        if (c->has_default != (c->default_text != NULL)) {
            return FAIL(STATUS_INVALID, "column default without text");
        }
        if (c->has_default && strnlen(c->default_text, DESC_DEFAULT_MAX + 1) > DESC_DEFAULT_MAX) {
            return FAIL(STATUS_INVALID, "column default is too long");
        }
        last_id = c->id;
    }
    return OK;
}

static struct status check_index(const struct table_desc *d, const struct index_desc *x)
{
    if (!name_ok(x->name)) {
        return FAIL(STATUS_INVALID, "index name is empty or too long");
    }
    if (x->id == 0 || x->columns_count == 0 || x->columns_count > ARRAY_COUNT(x->columns)) {
        return FAIL(STATUS_INVALID, "index without id or columns");
    }
    for (uint32_t i = 0; i < x->columns_count; i++) {
        if (!has_column(d, x->columns[i].column)) {
            return FAIL(STATUS_INVALID, "index names a column that is not there");
        }
        for (uint32_t j = 0; j < i; j++) {
            if (x->columns[j].column == x->columns[i].column) {
                return FAIL(STATUS_INVALID, "index names a column twice");
            }
        }
    }
    return OK;
}

struct status desc_check(const struct table_desc *d)
{
    if (!name_ok(d->name)) {
        return FAIL(STATUS_INVALID, "table name is empty or too long");
    }
    if (d->columns_count == 0 || d->columns_count > CATALOG_COLUMNS_MAX) {
        return FAIL(STATUS_INVALID, "number of columns out of range");
    }
    TRY(check_columns(d));
    return check_index(d, &d->primary);
}

static uint64_t zigzag(int32_t v)
{
    return v < 0 ? ((uint64_t)(-(int64_t)v) << 1) - 1 : (uint64_t)v << 1;
}

static int64_t unzigzag(uint64_t v)
{
    return (v & 1) != 0 ? -(int64_t)(v >> 1) - 1 : (int64_t)(v >> 1);
}

static struct status encode_column(const struct column_desc *c, struct buf *out)
{
    const uint8_t flags = (uint8_t)((c->not_null ? COLUMN_FLAG_NOT_NULL : 0) |
                                    (c->has_default ? COLUMN_FLAG_DEFAULT : 0));

    TRY(buf_append_varint(out, c->id));
    TRY(buf_append_varint(out, c->type));
    TRY(buf_append_varint(out, zigzag(c->typmod)));
    TRY(buf_append_u8(out, flags));
    TRY(buf_append_lp(out, bytes_str(c->name)));
    if (c->has_default) {
        TRY(buf_append_lp(out, bytes_str(c->default_text)));
    }
    return OK;
}

static struct status encode_index(const struct index_desc *x, struct buf *out)
{
    TRY(buf_append_varint(out, x->id));
    TRY(buf_append_u8(out, x->unique ? INDEX_FLAG_UNIQUE : 0));
    TRY(buf_append_lp(out, bytes_str(x->name)));
    TRY(buf_append_varint(out, x->columns_count));
    for (uint32_t i = 0; i < x->columns_count; i++) {
        TRY(buf_append_varint(out, x->columns[i].column));
        TRY(buf_append_u8(out, x->columns[i].desc ? PART_FLAG_DESC : 0));
    }
    return OK;
}

struct status desc_encode(const struct table_desc *d, struct buf *out)
{
    TRY(desc_check(d));
    TRY(buf_append_u8(out, DESC_FORMAT));
    TRY(buf_append_varint(out, d->id));
    TRY(buf_append_varint(out, d->version));
    TRY(buf_append_varint(out, d->schema));
    TRY(buf_append_lp(out, bytes_str(d->name)));
    TRY(buf_append_u8(out, d->hidden_rowid ? DESC_FLAG_HIDDEN_ROWID : 0));
    TRY(buf_append_varint(out, d->columns_count));
    for (uint32_t i = 0; i < d->columns_count; i++) {
        TRY(encode_column(&d->columns[i], out));
    }
    return encode_index(&d->primary, out);
}

static uint32_t read_u32(struct reader *r)
{
    const uint64_t v = read_varint(r);

    if (v > UINT32_MAX) {
        r->bad = true;
        return 0;
    }
    return (uint32_t)v;
}

static uint8_t read_flags(struct reader *r, uint8_t known)
{
    const uint8_t v = read_u8(r);

    if ((v & ~known) != 0) {
        r->bad = true;
    }
    return v;
}

static void read_name(struct reader *r, char out[CATALOG_NAME_MAX + 1])
{
    const struct bytes b = read_lp_bytes(r);

    if (b.len > CATALOG_NAME_MAX || (b.len > 0 && memchr(b.ptr, 0, b.len) != NULL)) {
        r->bad = true;
    } else if (b.len > 0) {
        memcpy(out, b.ptr, b.len);
    }
}

static struct status decode_column(struct reader *r, struct arena *arena, struct column_desc *out)
{
    int64_t typmod = 0;
    uint8_t flags = 0;

    out->id = read_u32(r);
    out->type = read_u32(r);
    typmod = unzigzag(read_varint(r));
    if (typmod < INT32_MIN || typmod > INT32_MAX) {
        r->bad = true;
        return OK;
    }
    out->typmod = (int32_t)typmod;
    flags = read_flags(r, COLUMN_FLAG_NOT_NULL | COLUMN_FLAG_DEFAULT);
    out->not_null = (flags & COLUMN_FLAG_NOT_NULL) != 0;
    out->has_default = (flags & COLUMN_FLAG_DEFAULT) != 0;
    read_name(r, out->name);
    if (out->has_default) {
        const struct bytes text = read_lp_bytes(r);

        if (r->bad || (text.len > 0 && memchr(text.ptr, 0, text.len) != NULL)) {
            r->bad = true;
            return OK;
        }
        out->default_text =
            arena_strndup(arena, text.len == 0 ? "" : (const char *)text.ptr, text.len);
        if (out->default_text == NULL) {
            return FAIL(STATUS_MEMORY, "descriptor too large");
        }
    }
    return OK;
}

static void decode_index(struct reader *r, struct index_desc *out)
{
    uint32_t count = 0;

    out->id = read_u32(r);
    out->unique = (read_flags(r, INDEX_FLAG_UNIQUE) & INDEX_FLAG_UNIQUE) != 0;
    read_name(r, out->name);
    count = read_u32(r);
    if (count > ARRAY_COUNT(out->columns)) {
        r->bad = true;
        return;
    }
    out->columns_count = (uint16_t)count;
    for (uint32_t i = 0; i < count && !r->bad; i++) {
        out->columns[i].column = read_u32(r);
        out->columns[i].desc = (read_flags(r, PART_FLAG_DESC) & PART_FLAG_DESC) != 0;
    }
}

static struct status decode_columns(struct reader *r, struct arena *arena, struct table_desc *out)
{
    const uint32_t count = read_u32(r);

    if (r->bad || count > CATALOG_COLUMNS_MAX || count > r->rest.len / COLUMN_BYTES_MIN) {
        r->bad = true;
        return OK;
    }
    out->columns = ARENA_ARRAY(arena, struct column_desc, count);
    if (out->columns == NULL) {
        return FAIL(STATUS_MEMORY, "descriptor too large");
    }
    out->columns_count = count;
    for (uint32_t i = 0; i < count && !r->bad; i++) {
        TRY(decode_column(r, arena, &out->columns[i]));
    }
    return OK;
}

struct status desc_decode(struct bytes in, struct arena *arena, struct table_desc *out)
{
    struct reader r = reader_of(in);

    memset(out, 0, sizeof(*out));
    if (read_u8(&r) != DESC_FORMAT) {
        return FAIL(STATUS_CORRUPT, "table descriptor of an unknown format");
    }
    out->id = read_u32(&r);
    out->version = read_u32(&r);
    out->schema = read_u32(&r);
    read_name(&r, out->name);
    out->hidden_rowid = (read_flags(&r, DESC_FLAG_HIDDEN_ROWID) & DESC_FLAG_HIDDEN_ROWID) != 0;
    TRY(decode_columns(&r, arena, out));
    if (!r.bad) {
        decode_index(&r, &out->primary);
    }
    if (r.bad || r.rest.len != 0) {
        return FAIL(STATUS_CORRUPT, "damaged table descriptor");
    }
    if (!status_ok(desc_check(out))) {
        return FAIL(STATUS_CORRUPT, "inconsistent table descriptor");
    }
    return OK;
}
