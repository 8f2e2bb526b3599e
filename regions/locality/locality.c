/*
 * locality.c -- reading, writing and comparing localities.
 *
 * Localities come from a command line and decide where data may stand, so reading them is strict:
 * whatever is not exactly "key=value,..." is refused with the reason, rather than repaired. The
 * region has to stand first, because "differs in an earlier tier" is read as "stands further away".
 *
 * Diversity is in thousandths and not a fraction of type double: placements must come out the same on
 * every machine and in every replay.
 */
#include "regions/locality/locality.h"

#include <string.h>

#include "node/base/invariant.h"

#define REGION_KEY "region"
#define ZONE_KEY   "zone"

NOYIELD static bool is_name_char(uint8_t c, bool in_key)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-') {
        return true;
    }
    return !in_key && ((c >= 'A' && c <= 'Z') || c == '.');
}

/* Copies a name into out[max + 1] after checking it. Returns why it is refused, or NULL. */
NOYIELD static const char *copy_name(struct bytes name, bool in_key, size_t max, char *out)
{
    if (name.len == 0) {
        return in_key ? "a key is empty" : "a value is empty";
    }
    if (name.len > max) {
        return in_key ? "a key is too long" : "a value is too long";
    }
    for (size_t i = 0; i < name.len; i++) {
        if (!is_name_char(name.ptr[i], in_key)) {
            return in_key ? "a key has a character other than a-z, 0-9, '_' and '-'"
                          : "a value has a character other than letters, digits, '_', '-' and '.'";
        }
    }
    memcpy(out, name.ptr, name.len);
    return NULL;
}

/* Cuts the text in front of the first `c` off *rest; all of it when there is none. */
NOYIELD static struct bytes cut_at(struct bytes *rest, char c, bool *found)
{
    const uint8_t *at = rest->len == 0 ? NULL : memchr(rest->ptr, c, rest->len);
    struct bytes head = *rest;

    *found = at != NULL;
    if (at == NULL) {
        *rest = BYTES_EMPTY;
        return head;
    }
    head.len = (size_t)(at - rest->ptr);
    *rest = bytes_skip(*rest, head.len + 1);
    return head;
}

/* Appends one "key=value" to l. Returns why it is refused, or NULL. */
NOYIELD static const char *add_tier(struct locality *l, struct bytes text)
{
    struct locality_tier tier = {0};
    struct bytes value = text;
    bool has_value = false;
    const struct bytes key = cut_at(&value, '=', &has_value);
    const char *why = copy_name(key, true, LOCALITY_KEY_MAX, tier.key);

    if (why == NULL && !has_value) {
        why = "a tier is not key=value";
    }
    if (why == NULL) {
        why = copy_name(value, false, LOCALITY_VALUE_MAX, tier.value);
    }
    if (why != NULL) {
        return why;
    }
    if (l->count == 0 && strcmp(tier.key, REGION_KEY) != 0) {
        return "the first tier is not the region";
    }
    if (l->count == LOCALITY_TIERS_MAX) {
        return "too many tiers";
    }
    if (locality_value(l, tier.key) != NULL) {
        return "a key stands there twice";
    }
    l->tiers[l->count++] = tier;
    return NULL;
}

struct status locality_parse(struct bytes text, struct arena *arena, struct locality *out)
{
    struct locality l = {0};
    struct bytes rest = text;
    bool more = true;

    while (more) {
        const struct bytes tier = cut_at(&rest, ',', &more);
        const char *why = add_tier(&l, tier);

        if (why != NULL) {
            /* At most what a valid text could have: the rest of a long one helps nobody. */
            const size_t shown = text.len < LOCALITY_TEXT_MAX ? text.len : LOCALITY_TEXT_MAX;

            return FAIL(STATUS_INVALID, arena_printf(arena, "locality \"%.*s\" is invalid: %s",
                                                     (int)shown, (const char *)text.ptr, why));
        }
    }
    *out = l;
    return OK;
}

void locality_format(const struct locality *l, char *out, size_t size)
{
    size_t len = 0;

    INVARIANT(size > 0);
    INVARIANT(l->count <= LOCALITY_TIERS_MAX);
    out[0] = '\0';
    for (uint32_t i = 0; i < l->count; i++) {
        const char *parts[] = {i == 0 ? "" : ",", l->tiers[i].key, "=", l->tiers[i].value};

        for (size_t p = 0; p < ARRAY_COUNT(parts); p++) {
            const size_t room = size - 1 - len;
            const size_t want = strlen(parts[p]);
            const size_t n = want < room ? want : room;

            memcpy(out + len, parts[p], n);
            len += n;
            out[len] = '\0';
        }
    }
}

const char *locality_value(const struct locality *l, const char *key)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (strcmp(l->tiers[i].key, key) == 0) {
            return l->tiers[i].value;
        }
    }
    return NULL;
}

const char *locality_region(const struct locality *l)
{
    return l->count == 0 ? "" : l->tiers[0].value;
}

const char *locality_zone(const struct locality *l)
{
    const char *zone = locality_value(l, ZONE_KEY);

    return zone == NULL ? "" : zone;
}

NOYIELD static bool tier_eq(const struct locality_tier *a, const struct locality_tier *b)
{
    return strcmp(a->key, b->key) == 0 && strcmp(a->value, b->value) == 0;
}

bool locality_eq(const struct locality *a, const struct locality *b)
{
    return a->count == b->count && locality_diversity(a, b) == 0;
}

uint32_t locality_diversity(const struct locality *a, const struct locality *b)
{
    const uint32_t most = a->count > b->count ? a->count : b->count;
    const uint32_t both = a->count < b->count ? a->count : b->count;
    uint32_t same = 0;

    while (same < both && tier_eq(&a->tiers[same], &b->tiers[same])) {
        same++;
    }
    return most == 0 ? 0 : (most - same) * LOCALITY_DIVERSITY_MAX / most;
}
