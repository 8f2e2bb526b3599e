/*
 * wire_msg.c -- see wire_msg.h.
 *
 * One reader per body. It is sticky: after something is missing all reads give zeros, and the end of
 * each function asks once whether anything was wrong. A body must be used up exactly; what is left
 * over means that client and server disagree about the protocol, and then it is better to say so.
 */
#include "node/pgwire/wire_msg.h"

#include "node/base/codec.h"

#define STARTUP_HEAD 8u

/* NUL-terminated text; "" and bad when there is no NUL. */
static struct bytes read_cstring(struct reader *r)
{
    const uint8_t *end = NULL;
    struct bytes s = BYTES_EMPTY;

    if (!r->bad && r->rest.len > 0) {
        end = memchr(r->rest.ptr, 0, r->rest.len);
    }
    if (end == NULL) {
        r->bad = true;
        return BYTES_LIT("");
    }
    s = bytes_of(r->rest.ptr, (size_t)(end - r->rest.ptr));
    r->rest = bytes_skip(r->rest, s.len + 1);
    return s;
}

static const char *read_name(struct reader *r)
{
    return (const char *)read_cstring(r).ptr;
}

static struct status finish(const struct reader *r, const char *what)
{
    if (r->bad || r->rest.len != 0) {
        return FAIL(STATUS_INVALID, what);
    }
    return OK;
}

struct status wire_startup_length(struct bytes in, size_t *length_out)
{
    uint32_t length = 0;

    *length_out = 0;
    if (in.len < 4) {
        return OK;
    }
    length = be32_get(in.ptr);
    if (length < STARTUP_HEAD || length > WIRE_STARTUP_MAX) {
        return FAIL(STATUS_INVALID, "invalid length of startup packet");
    }
    *length_out = length;
    return OK;
}

struct status wire_startup_parse(struct bytes packet, struct wire_startup *out)
{
    struct reader r = reader_of(packet);
    struct bytes rest = BYTES_EMPTY;
    const char *name = NULL;
    const char *value = NULL;

    *out = (struct wire_startup){0};
    (void)read_be32(&r);
    out->code = read_be32(&r);
    if (out->code == WIRE_CANCEL_REQUEST) {
        out->cancel_pid = read_be32(&r);
        out->cancel_key = read_be32(&r);
        return finish(&r, "invalid length of cancel request");
    }
    if (out->code == WIRE_SSL_REQUEST || out->code == WIRE_GSS_REQUEST ||
        out->code >> 16 != WIRE_VERSION_MAJOR) {
        return finish(&(struct reader){.bad = r.bad}, "invalid startup packet");
    }
    out->params = r.rest;
    rest = r.rest;
    while (wire_startup_param(&rest, &name, &value)) {
    }
    if (rest.len != 1 || rest.ptr[0] != 0) {
        return FAIL(STATUS_INVALID,
                    "invalid startup packet layout: expected terminator as last byte");
    }
    return OK;
}

bool wire_startup_param(struct bytes *params, const char **name, const char **value)
{
    struct reader r = reader_of(*params);

    if (params->len == 0 || params->ptr[0] == 0) {
        return false;
    }
    *name = read_name(&r);
    *value = read_name(&r);
    if (r.bad) {
        return false;
    }
    *params = r.rest;
    return true;
}

/* The next blank-separated word with its backslashes resolved; NULL at the end. */
static char *options_word(const char **rest, struct arena *arena)
{
    const char *p = *rest;
    char *word = NULL;
    size_t n = 0;

    while (*p == ' ' || *p == '\t' || *p == '\n') {
        p++;
    }
    if (*p == 0) {
        return NULL;
    }
    word = arena_strdup(arena, p);
    if (word == NULL) {
        return NULL;
    }
    for (; *p != 0 && *p != ' ' && *p != '\t' && *p != '\n'; p++) {
        if (*p == '\\' && p[1] != 0) {
            p++;
        }
        word[n++] = *p;
    }
    word[n] = 0;
    *rest = p;
    return word;
}

bool wire_options_next(const char **rest, struct arena *arena, const char **name,
                       const char **value)
{
    char *word = options_word(rest, arena);
    char *equals = NULL;

    *name = "";
    *value = "";
    if (word == NULL) {
        return false;
    }
    if (strcmp(word, "-c") == 0) {
        word = options_word(rest, arena);
        if (word == NULL) {
            return true;
        }
    } else if (strncmp(word, "-c", 2) == 0 || strncmp(word, "--", 2) == 0) {
        word += 2;
    } else {
        return true;
    }
    equals = strchr(word, '=');
    if (equals == NULL) {
        return true;
    }
    *equals = 0;
    for (char *p = word; *p != 0; p++) {
        if (*p == '-') {
            *p = '_'; /* As PostgreSQL: --search-path is search_path. */
        }
    }
    *name = word;
    *value = equals + 1;
    return true;
}

struct status wire_query_parse(struct bytes body, struct bytes *text)
{
    struct reader r = reader_of(body);

    *text = read_cstring(&r);
    return finish(&r, "invalid Query message");
}

struct status wire_parse_parse(struct bytes body, struct arena *arena, struct wire_parse *out)
{
    struct reader r = reader_of(body);
    oid *types = NULL;

    out->name = read_name(&r);
    out->text = read_cstring(&r);
    out->types_count = read_be16(&r);
    if (r.bad || r.rest.len != (size_t)out->types_count * 4) {
        return FAIL(STATUS_INVALID, "invalid Parse message");
    }
    types = ARENA_ARRAY(arena, oid, out->types_count);
    if (types == NULL) {
        return FAIL(STATUS_MEMORY, "too many parameter types");
    }
    for (uint16_t i = 0; i < out->types_count; i++) {
        types[i] = read_be32(&r);
    }
    out->types = types;
    return finish(&r, "invalid Parse message");
}

static struct status read_formats(struct reader *r, struct arena *arena, const int16_t **out,
                                  uint16_t *count_out)
{
    const uint16_t count = read_be16(r);
    int16_t *formats = NULL;

    if (r->bad || r->rest.len < (size_t)count * 2) {
        return FAIL(STATUS_INVALID, "invalid Bind message");
    }
    formats = ARENA_ARRAY(arena, int16_t, count);
    if (formats == NULL) {
        return FAIL(STATUS_MEMORY, "too many formats");
    }
    for (uint16_t i = 0; i < count; i++) {
        formats[i] = (int16_t)read_be16(r);
        if (formats[i] != 0 && formats[i] != 1) {
            return FAIL(STATUS_INVALID, "unsupported format code");
        }
    }
    *out = formats;
    *count_out = count;
    return OK;
}

static struct status read_values(struct reader *r, struct arena *arena, struct session_bind *out)
{
    const uint16_t count = read_be16(r);
    struct bytes *values = NULL;

    if (r->bad || r->rest.len < (size_t)count * 4) {
        return FAIL(STATUS_INVALID, "insufficient data left in message");
    }
    values = ARENA_ARRAY(arena, struct bytes, count);
    if (values == NULL) {
        return FAIL(STATUS_MEMORY, "too many parameters");
    }
    for (uint16_t i = 0; i < count; i++) {
        const uint32_t len = read_be32(r);

        if (len == UINT32_MAX) {
            continue; /* NULL. */
        }
        values[i] = read_bytes(r, len);
        if (r->bad) {
            return FAIL(STATUS_INVALID, "insufficient data left in message");
        }
        if (len == 0) {
            values[i] = BYTES_LIT(""); /* Empty, not NULL. */
        }
    }
    out->values = values;
    out->values_count = count;
    return OK;
}

struct status wire_bind_parse(struct bytes body, struct arena *arena, struct session_bind *out)
{
    struct reader r = reader_of(body);

    *out = (struct session_bind){0};
    out->portal = read_name(&r);
    out->statement = read_name(&r);
    TRY(read_formats(&r, arena, &out->formats, &out->formats_count));
    TRY(read_values(&r, arena, out));
    if (out->formats_count > 1 && out->formats_count != out->values_count) {
        return FAIL(STATUS_INVALID, "bind message has more or fewer formats than parameters");
    }
    TRY(read_formats(&r, arena, &out->result_formats, &out->result_formats_count));
    return finish(&r, "invalid Bind message");
}

struct status wire_target_parse(struct bytes body, char *kind, const char **name)
{
    struct reader r = reader_of(body);

    *kind = (char)read_u8(&r);
    *name = read_name(&r);
    if (*kind != 'S' && *kind != 'P') {
        return FAIL(STATUS_INVALID, "invalid subtype of message");
    }
    return finish(&r, "invalid Describe or Close message");
}

struct status wire_execute_parse(struct bytes body, const char **portal, uint64_t *rows_max)
{
    struct reader r = reader_of(body);
    int32_t rows = 0;

    *portal = read_name(&r);
    rows = (int32_t)read_be32(&r);
    *rows_max = rows > 0 ? (uint64_t)rows : 0;
    return finish(&r, "invalid Execute message");
}
