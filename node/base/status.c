/*
 * status.c -- texts of status codes.
 *
 * The origin keeps a hash of the file name instead of a pointer so that a status fits two registers;
 * `git grep` over the 12-bit hash is enough to find the place, the line makes it unique in practice.
 */
#include "node/base/status.h"

#include <stddef.h>

static const char *const code_texts[STATUS_CODE_COUNT] = {
#define X(name, text) [STATUS_##name] = (text),
#include "node/base/status_codes.def"
#undef X
};

uint32_t status_origin(const char *file, uint32_t line)
{
    uint32_t hash = 2166136261u;

    for (const char *p = file; *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    }
    return ((hash ^ (hash >> 20)) << 20) | (line & 0xFFFFFu);
}

const char *status_code_text(enum status_code code)
{
    if ((unsigned)code >= (unsigned)STATUS_CODE_COUNT) {
        return "unknown";
    }
    return code_texts[code];
}

const char *status_text(struct status st)
{
    return st.msg != NULL ? st.msg : status_code_text(st.code);
}
