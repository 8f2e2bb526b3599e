/*
 * tscache.c -- up to which timestamp has a key been read, and by whom.
 *
 * Every read of the store ends here, so the common case, a single key, must cost next to nothing: a
 * table of slots, keyed by hash, that is never enlarged and never searched. Keys that share a slot see
 * each other's reads; that is only too careful. A slot (struct mark) knows the highest read, whose it
 * was, and the highest read of all others, so that a transaction may write where it has read itself.
 *
 * Spans are an ordered array of segments that do not overlap. A new span cuts the segments it covers:
 * what it supersedes becomes one piece with it, what is newer stays, gaps are filled. Repeated scans of
 * a table thus keep the array short by themselves. Keys are kept in fixed places; longer ones are cut
 * to a prefix that makes the segment a little too wide.
 *
 * When the array is full the oldest quarter goes, and the floor rises to the highest timestamp that
 * went. What is at or below the floor need not be remembered at all.
 *
 * Markers are a hash with chains over a fixed array, in order of their last use. The oldest makes room
 * and leaves its time in the floor of the markers.
 *
 * Invariants: 1. tscache_max() is never below any read of that key by another transaction.
 *             2. Segments are ordered, not empty, do not overlap, and lie above the floor.
 *             3. Floors never fall.
 */
#include "node/range/conflict/tscache.h"

#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"

#define POINTS_DEFAULT  65536u
#define SPANS_DEFAULT   4096u
#define SPANS_MIN       8u
#define MARKERS_DEFAULT 65536u
#define KEY_MAX         96u /* Of a segment's ends. */
#define SAMPLES_MAX     64u
#define NONE            UINT32_MAX

/* Reads of one key or segment: the highest, by whom, and the highest of all others. */
struct mark {
    struct hts ts;
    struct hts other;  /* Meaningful if owner is not zero. */
    struct uuid owner; /* Zero: nobody in particular, or several. */
};

struct segment {
    struct mark mark;
    uint8_t start_len;
    uint8_t end_len;
    uint8_t start[KEY_MAX];
    uint8_t end[KEY_MAX];
};

_Static_assert(KEY_MAX <= UINT8_MAX, "lengths of ends are bytes");

/* Segments in order of their keys, none overlapping another. */
struct segments {
    struct segment *pool;
    uint32_t *order; /* Indices into the pool. */
    uint32_t *free;  /* The rest of the pool. */
    uint32_t *built; /* The pieces that replace what a span covers. */
    uint32_t count;
    uint32_t free_count;
    uint32_t built_count;
    uint32_t max; /* Of count, between two reads; while one is entered, twice as many and a bit. */
};

struct marker {
    struct uuid txn;
    struct tscache_marker what;
    struct hts made;       /* When it was last touched. */
    uint32_t next_in_slot; /* Of its chain. */
    uint32_t newer;
    uint32_t older;
};

struct markers {
    struct marker *pool;
    uint32_t *slots; /* Heads of chains. */
    uint32_t mask;
    uint32_t count;
    uint32_t max;
    uint32_t newest;
    uint32_t oldest;
    struct hts floor;
};

struct tscache {
    struct mark *points;
    uint64_t points_mask;
    struct segments segments;
    struct markers markers;
    struct hts floor; /* Everything was read up to here. */
};

/* ---- marks -------------------------------------------------------------------------------------- */

static void mark_read(struct mark *m, struct hts ts, struct uuid reader)
{
    if (!uuid_is_zero(reader) && uuid_eq(m->owner, reader)) {
        m->ts = hts_max(m->ts, ts);
    } else if (hts_less(m->ts, ts)) {
        m->other = m->ts; /* At least what `other` was. */
        m->ts = ts;
        m->owner = reader;
    } else {
        m->other = hts_max(m->other, ts);
    }
}

/* With the zero owner the timestamp is everybody's. */
static struct hts mark_max(const struct mark *m, struct uuid writer)
{
    return !uuid_is_zero(writer) && uuid_eq(m->owner, writer) ? m->other : m->ts;
}

/* ---- life --------------------------------------------------------------------------------------- */

static uint32_t power_of_two(uint32_t n)
{
    uint32_t p = 1;

    while (p < n && p < 1u << 31) {
        p *= 2;
    }
    return p;
}

/* Cutting k segments by one span leaves at most 2k + 1 pieces beside the k that are being cut. */
static uint32_t pool_size(uint32_t max)
{
    return 3 * max + 4;
}

static bool segments_init(struct segments *s, uint32_t max)
{
    const uint32_t size = pool_size(max);

    s->max = max;
    s->pool = calloc(size, sizeof(*s->pool));
    s->order = calloc(size, sizeof(*s->order));
    s->free = calloc(size, sizeof(*s->free));
    s->built = calloc(size, sizeof(*s->built));
    if (s->pool == NULL || s->order == NULL || s->free == NULL || s->built == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < size; i++) {
        s->free[i] = size - 1 - i; /* The first is handed out first. */
    }
    s->free_count = size;
    return true;
}

static bool markers_init(struct markers *m, uint32_t max)
{
    const uint32_t slots = power_of_two(max);

    m->max = max;
    m->mask = slots - 1;
    m->newest = NONE;
    m->oldest = NONE;
    m->pool = calloc(max, sizeof(*m->pool));
    m->slots = malloc(slots * sizeof(*m->slots));
    if (m->pool == NULL || m->slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < slots; i++) {
        m->slots[i] = NONE;
    }
    return true;
}

struct status tscache_create(const struct tscache_options *o, struct tscache **out)
{
    const uint32_t points = power_of_two(o->points == 0 ? POINTS_DEFAULT : o->points);
    const uint32_t spans = o->spans == 0 ? SPANS_DEFAULT : o->spans;
    struct tscache *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    c->points_mask = points - 1;
    c->points = calloc(points, sizeof(*c->points));
    if (c->points == NULL || !segments_init(&c->segments, spans < SPANS_MIN ? SPANS_MIN : spans) ||
        !markers_init(&c->markers, o->markers == 0 ? MARKERS_DEFAULT : o->markers)) {
        tscache_destroy(c);
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    *out = c;
    return OK;
}

void tscache_destroy(struct tscache *c)
{
    if (c == NULL) {
        return;
    }
    free(c->points);
    free(c->segments.pool);
    free(c->segments.order);
    free(c->segments.free);
    free(c->segments.built);
    free(c->markers.pool);
    free(c->markers.slots);
    free(c);
}

/* ---- segments ----------------------------------------------------------------------------------- */

static struct bytes seg_start(const struct segment *g)
{
    return bytes_of(g->start, g->start_len);
}

static struct bytes seg_end(const struct segment *g)
{
    return bytes_of(g->end, g->end_len);
}

static struct segment *seg_at(const struct segments *s, uint32_t i)
{
    return &s->pool[s->order[i]];
}

/* The first segment that ends above `key`: the one that contains it, or the next. */
static uint32_t seg_find(const struct segments *s, struct bytes key)
{
    uint32_t lo = 0;
    uint32_t hi = s->count;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;

        if (bytes_cmp(seg_end(seg_at(s, mid)), key) <= 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Appends the piece [start, end) to what is being built, or widens the last one, when that differs in
 * nothing but how far others have read: the higher of the two then counts for both. */
static void seg_emit(struct segments *s, struct bytes start, struct bytes end,
                     const struct mark *mark)
{
    struct segment *last = s->built_count == 0 ? NULL : &s->pool[s->built[s->built_count - 1]];
    uint32_t index = 0;

    if (bytes_cmp(start, end) >= 0) {
        return;
    }
    if (last == NULL || !bytes_eq(seg_end(last), start) || !hts_eq(last->mark.ts, mark->ts) ||
        !uuid_eq(last->mark.owner, mark->owner)) {
        INVARIANT(s->free_count > 0);
        index = s->free[--s->free_count];
        s->built[s->built_count++] = index;
        last = &s->pool[index];
        last->mark = *mark;
        last->start_len = (uint8_t)start.len;
        memcpy(last->start, start.ptr, start.len);
    }
    last->mark.other = hts_max(last->mark.other, mark->other);
    last->end_len = (uint8_t)end.len;
    memcpy(last->end, end.ptr, end.len);
}

/* Puts what was built in the place of the segments [lo, hi). */
static void seg_splice(struct segments *s, uint32_t lo, uint32_t hi)
{
    const uint32_t tail = s->count - hi;

    for (uint32_t i = lo; i < hi; i++) {
        s->free[s->free_count++] = s->order[i];
    }
    memmove(&s->order[lo + s->built_count], &s->order[hi], tail * sizeof(s->order[0]));
    memcpy(&s->order[lo], s->built, s->built_count * sizeof(s->order[0]));
    s->count = lo + s->built_count + tail;
    s->built_count = 0;
}

static int compare_ts(const void *a, const void *b)
{
    return hts_cmp(*(const struct hts *)a, *(const struct hts *)b);
}

/* A timestamp at or below which about a quarter of the segments are, by a sample of them. */
static struct hts seg_quarter(const struct segments *s)
{
    struct hts samples[SAMPLES_MAX];
    const uint32_t count = s->count < SAMPLES_MAX ? s->count : SAMPLES_MAX;

    for (uint32_t i = 0; i < count; i++) {
        samples[i] = seg_at(s, (uint32_t)((uint64_t)i * s->count / count))->mark.ts;
    }
    qsort(samples, count, sizeof(samples[0]), compare_ts);
    return samples[count / 4];
}

/* Removes all segments at or below ts. */
static void seg_drop(struct segments *s, struct hts ts)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        if (hts_less_eq(seg_at(s, i)->mark.ts, ts)) {
            s->free[s->free_count++] = s->order[i];
        } else {
            s->order[kept++] = s->order[i];
        }
    }
    s->count = kept;
}

/* Some key at or above `end` of at most KEY_MAX bytes. False: there is none. */
static bool round_up(struct bytes end, uint8_t mem[KEY_MAX], struct bytes *out)
{
    size_t len = KEY_MAX;

    if (end.len <= KEY_MAX) {
        *out = end;
        return true;
    }
    memcpy(mem, end.ptr, KEY_MAX);
    while (len > 0 && mem[len - 1] == 0xff) {
        len--;
    }
    if (len == 0) {
        return false;
    }
    mem[len - 1]++;
    *out = bytes_of(mem, len);
    return true;
}

static void raise_floor(struct tscache *c, struct hts ts)
{
    if (hts_less(c->floor, ts)) {
        c->floor = ts;
        seg_drop(&c->segments, ts);
    }
}

static void read_span(struct tscache *c, struct bytes start, struct bytes end, struct hts ts,
                      struct uuid reader)
{
    const struct mark fresh = {.ts = ts, .owner = reader};
    struct segments *s = &c->segments;
    uint8_t mem[KEY_MAX];
    uint32_t lo = 0;
    uint32_t hi = 0;

    if (!round_up(end, mem, &end)) {
        raise_floor(c, ts);
        return;
    }
    start.len = start.len < KEY_MAX ? start.len : KEY_MAX;
    lo = seg_find(s, start);
    for (hi = lo; hi < s->count && bytes_cmp(seg_start(seg_at(s, hi)), end) < 0; hi++) {
        const struct segment *g = seg_at(s, hi);
        const bool sticks_out = bytes_cmp(end, seg_end(g)) < 0;
        const struct bytes to = sticks_out ? end : seg_end(g);
        struct mark both = g->mark;

        seg_emit(s, seg_start(g), start, &g->mark); /* In front of us, if anything. */
        if (bytes_cmp(start, seg_start(g)) < 0) {
            seg_emit(s, start, seg_start(g), &fresh); /* The gap. */
            start = seg_start(g);
        }
        mark_read(&both, ts, reader);
        seg_emit(s, start, to, &both);
        if (sticks_out) {
            seg_emit(s, end, seg_end(g), &g->mark);
        }
        start = to;
    }
    seg_emit(s, start, end, &fresh);
    seg_splice(s, lo, hi);
    while (s->count > s->max) {
        raise_floor(c, seg_quarter(s));
    }
}

/* ---- reads -------------------------------------------------------------------------------------- */

static struct mark *point_of(const struct tscache *c, struct bytes key)
{
    return &c->points[hash64(key, 0) & c->points_mask];
}

/* [key, key + 0x00) holds nothing but key. */
static bool is_one_key(struct bytes start, struct bytes end)
{
    return end.len == start.len + 1 && end.ptr[start.len] == 0 && bytes_starts_with(end, start);
}

void tscache_read(struct tscache *c, struct bytes start, struct bytes end, struct hts ts,
                  struct uuid reader)
{
    if (hts_less_eq(ts, c->floor)) {
        return;
    }
    if (end.len == 0 || is_one_key(start, end)) {
        mark_read(point_of(c, start), ts, reader);
    } else if (bytes_cmp(start, end) < 0) {
        read_span(c, start, end, ts, reader);
    }
}

struct hts tscache_max(const struct tscache *c, struct bytes key, struct uuid writer)
{
    const struct segments *s = &c->segments;
    const uint32_t i = seg_find(s, key);
    struct hts ts = hts_max(c->floor, mark_max(point_of(c, key), writer));

    if (i < s->count && bytes_cmp(seg_start(seg_at(s, i)), key) <= 0) {
        ts = hts_max(ts, mark_max(&seg_at(s, i)->mark, writer));
    }
    return ts;
}

void tscache_forget_below(struct tscache *c, struct hts ts)
{
    /* Who should write there after all is not let through. */
    raise_floor(c, hts_prev(ts));
}

/* ---- markers ------------------------------------------------------------------------------------ */

static uint32_t *marker_slot(const struct markers *m, struct uuid txn)
{
    return &m->slots[hash64(bytes_of(txn.b, sizeof(txn.b)), 0) & m->mask];
}

static uint32_t marker_find(const struct markers *m, struct uuid txn)
{
    uint32_t i = *marker_slot(m, txn);

    while (i != NONE && !uuid_eq(m->pool[i].txn, txn)) {
        i = m->pool[i].next_in_slot;
    }
    return i;
}

static void marker_unlink(struct markers *m, uint32_t i)
{
    struct marker *k = &m->pool[i];

    *(k->newer == NONE ? &m->newest : &m->pool[k->newer].older) = k->older;
    *(k->older == NONE ? &m->oldest : &m->pool[k->older].newer) = k->newer;
}

static void marker_link_newest(struct markers *m, uint32_t i)
{
    struct marker *k = &m->pool[i];

    k->newer = NONE;
    k->older = m->newest;
    *(m->newest == NONE ? &m->oldest : &m->pool[m->newest].newer) = i;
    m->newest = i;
}

/* The place of the oldest, which is forgotten. */
static uint32_t marker_evict(struct markers *m)
{
    const uint32_t i = m->oldest;
    uint32_t *at = marker_slot(m, m->pool[i].txn);

    while (*at != i) {
        at = &m->pool[*at].next_in_slot;
    }
    *at = m->pool[i].next_in_slot;
    m->floor = hts_max(m->floor, hts_next(m->pool[i].made));
    return i;
}

/* The marker of txn, made if there is none, as the newest. */
static struct tscache_marker *marker_touch(struct markers *m, struct uuid txn, struct hts now)
{
    uint32_t i = marker_find(m, txn);

    if (i != NONE) {
        marker_unlink(m, i);
        m->pool[i].made = hts_max(m->pool[i].made, now);
    } else {
        uint32_t *slot = NULL;

        if (m->count < m->max) {
            i = m->count++;
        } else {
            i = marker_evict(m);
            marker_unlink(m, i);
        }
        slot = marker_slot(m, txn);
        m->pool[i] = (struct marker){.txn = txn, .made = now, .next_in_slot = *slot};
        *slot = i;
    }
    marker_link_newest(m, i);
    return &m->pool[i].what;
}

void tscache_mark_finished(struct tscache *c, struct uuid txn, struct hts now)
{
    marker_touch(&c->markers, txn, now)->finished = true;
}

void tscache_mark_pushed(struct tscache *c, struct uuid txn, struct hts to, struct hts now)
{
    struct tscache_marker *k = marker_touch(&c->markers, txn, now);

    k->pushed = hts_max(k->pushed, to);
}

struct tscache_marker tscache_marker_of(const struct tscache *c, struct uuid txn)
{
    const uint32_t i = marker_find(&c->markers, txn);

    return i == NONE ? (struct tscache_marker){0} : c->markers.pool[i].what;
}

struct hts tscache_marker_floor(const struct tscache *c)
{
    return c->markers.floor;
}
