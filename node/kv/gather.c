/*
 * gather.c -- sending a batch: as it is when one range holds it, else cut, in parallel.
 *
 * Nearly every batch lies in one range: it goes out without a copy. Otherwise parts are sent in waves of at
 * most KV_PARTS_AT_ONCE; a part that met another range than it expected is cut again for the next wave. A wave
 * ends when all its parts have ended, also when the caller is cancelled: they work in its memory. They
 * are told, and end soon.
 */
#include "node/base/invariant.h"
#include "node/kv/internal.h"
#include "node/runtime/fiber.h"

/* ---- a wave ------------------------------------------------------------------------------------- */

struct wave;

struct runner {
    struct wave *wave;
    struct kv_part *part;
    struct fiber *fiber; /* NULL: not started yet, or ended. */
};

struct wave {
    struct kv *kv;
    const struct kv_call *call;
    struct arena *arena;
    struct runner runners[KV_PARTS_AT_ONCE];
    uint32_t count;
    uint32_t running;
    bool cancelled;
    struct completion ended;
};

MAYYIELD static void send_part(struct wave *w, struct kv_part *part)
{
    part->result.st = kv__send_range(w->kv, &part->batch, w->call, w->arena, &part->result);
    part->state = KV_PART_DONE;
}

MAYYIELD static void runner_fiber(void *arg)
{
    struct runner *r = arg;
    struct wave *w = r->wave;

    r->fiber = fiber_current();
    if (w->cancelled) {
        fiber_cancel(r->fiber);
    }
    send_part(w, r->part);
    r->fiber = NULL;
    if (--w->running == 0) {
        completion_fire(&w->ended);
    }
}

static void cancel_wave(struct wave *w)
{
    w->cancelled = true;
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->runners[i].fiber != NULL) {
            fiber_cancel(w->runners[i].fiber);
        }
    }
}

/* Until all have ended, whatever happens to us meanwhile. */
MAYYIELD static struct status join(struct wave *w)
{
    struct status st = OK;

    while (w->running > 0) {
        const struct status waited = completion_wait(&w->ended, DEADLINE_NONE);

        if (status_ok(waited)) {
            break;
        }
        st = waited;
        cancel_wave(w);
        if (st.code == STATUS_CANCELLED) {
            fiber_clear_cancel(fiber_current());
        } else {
            fiber_set_deadline(DEADLINE_NONE); /* It has passed; the caller finds out by `st`. */
        }
    }
    if (st.code == STATUS_CANCELLED) {
        fiber_cancel(fiber_current());
    } else if (!status_ok(st)) {
        fiber_set_deadline(0);
    }
    return st;
}

/* Sends up to KV_PARTS_AT_ONCE of the parts that wait; the first of them right here. */
MAYYIELD static struct status run_wave(struct kv *kv, struct kv_parts *p,
                                       const struct kv_call *call, struct arena *arena)
{
    struct wave *w = ARENA_NEW(arena, struct wave);
    struct kv_part *mine = NULL;

    if (w == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    w->kv = kv;
    w->call = call;
    w->arena = arena;
    for (uint32_t i = 0; i < p->count && w->count + 1 < KV_PARTS_AT_ONCE; i++) {
        struct runner *r = &w->runners[w->count];

        if (p->parts[i].state != KV_PART_WAITS) {
            continue;
        }
        if (mine == NULL) {
            mine = &p->parts[i];
            continue;
        }
        *r = (struct runner){w, &p->parts[i], NULL};
        if (!status_ok(fiber_spawn(kv->o.shard, "kv.part", runner_fiber, r))) {
            break; /* No more at once: the others come with the next wave. */
        }
        w->count++;
        w->running++;
    }
    if (mine != NULL) {
        send_part(w, mine);
    }
    return join(w);
}

/* ---- all parts ---------------------------------------------------------------------------------- */

static uint32_t waiting(const struct kv_parts *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->count; i++) {
        n += p->parts[i].state == KV_PART_WAITS ? 1 : 0;
    }
    return n;
}

static struct status in_several(void)
{
    return FAIL(STATUS_RANGE_MISMATCH, "the writes lie in several ranges");
}

/* Is it certain already that the whole fails? Then what was not sent stays here. */
static bool hopeless(const struct kv_parts *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->parts[i].state == KV_PART_DONE && !status_ok(p->parts[i].result.st)) {
            return true;
        }
    }
    return false;
}

/* Parts whose range was another one are cut anew. *again: there were some. When that happens more than once
 * what we know may be wrong for good: `forget` it. */
MAYYIELD static struct status cut_again(struct kv *kv, struct kv_parts *p,
                                        const struct kv_call *call, struct arena *arena,
                                        bool forget, bool *again)
{
    const uint32_t count = p->count;

    *again = false;
    for (uint32_t i = 0; i < count; i++) {
        if (p->parts[i].state != KV_PART_DONE ||
            p->parts[i].result.st.code != STATUS_RANGE_MISMATCH) {
            continue;
        }
        *again = true;
        if (forget) {
            kv__cache_evict(kv, p->parts[i].requests[0].key);
        }
        TRY(kv__cut(kv, p, &p->parts[i].batch, p->parts[i].origin, call->deadline_ns, arena));
        p->parts[i].state = KV_PART_CUT;
    }
    return *again && !kv__is_repeatable(p->whole) && waiting(p) > 1 ? in_several() : OK;
}

/* What fails before it is sent, or instead, fails as the part would. */
static void fail_waiting(struct kv_parts *p, struct status st)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct kv_part *part = &p->parts[i];
        const bool lost =
            part->state == KV_PART_DONE && part->result.st.code == STATUS_RANGE_MISMATCH;

        if (part->state != KV_PART_WAITS && !lost) {
            continue;
        }
        part->state = KV_PART_DONE;
        part->result.st =
            part->batch.replay
                ? FAIL(STATUS_AMBIGUOUS, "an answer was lost; the write may or may not stand")
                : st;
    }
}

MAYYIELD static void send_parts(struct kv *kv, struct kv_parts *p, const struct kv_call *call,
                                struct arena *arena)
{
    uint32_t mismatches = 0;
    struct status st = OK;

    while (waiting(p) > 0) {
        bool again = false;

        TRY_OUT(run_wave(kv, p, call, arena));
        TRY_OUT(cut_again(kv, p, call, arena, mismatches > 0, &again));
        if (hopeless(p)) {
            TRY_OUT(FAIL(STATUS_NOT_PROPOSED, "another part failed"));
        }
        if (again && ++mismatches > 1) { /* Who knows more may have to learn it first. */
            TRY_OUT(kv__pause(kv, mismatches));
        }
        if (again && env_mono_ns(shard_env(kv->o.shard)) >= call->deadline_ns) {
            TRY_OUT(FAIL(STATUS_TIMEOUT, "no range held the key in time"));
        }
    }
    return;
out:
    fail_waiting(p, st);
}

static bool may_have_written(const struct kv_parts *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        const struct kv_part *part = &p->parts[i];

        if (part->state != KV_PART_CUT && kv__is_write(&part->batch) &&
            (status_ok(part->result.st) || part->result.st.code == STATUS_AMBIGUOUS)) {
            return true;
        }
    }
    return false;
}

/* ---- the whole ---------------------------------------------------------------------------------- */

MAYYIELD static struct status send_cut(struct kv *kv, struct range_batch *b, struct kv_call *call,
                                       struct arena *arena, struct range_result *out)
{
    struct kv_parts p = {.whole = b};

    p.home = ARENA_ARRAY(arena, uint32_t, (size_t)b->count + 1);
    if (p.home == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    TRY(kv__cut(kv, &p, b, NULL, call->deadline_ns, arena));
    call->parts = p.count;
    if (p.count > 1 && !kv__is_repeatable(b)) {
        return in_several();
    }
    if (p.count > 1) {
        kv->stats.cut++;
        b->read_ts = hts_is_zero(b->read_ts) ? kv_now(kv) : b->read_ts;
        for (uint32_t i = 0; i < p.count; i++) {
            p.parts[i].batch.read_ts = b->read_ts;
            /* Reads that moved by themselves would be of different times. */
            p.parts[i].batch.can_forward = b->can_forward && b->intents;
        }
    }
    send_parts(kv, &p, call, arena);
    call->wrote = may_have_written(&p);
    TRY(kv__merge(&p, arena, out));
    return out->st;
}

/* Writes of one command only; what is left is the evaluation's to refuse. */
static bool is_large(const struct range_batch *b)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < b->count; i++) {
        if (range_op_writes(b->requests[i].op)) {
            bytes += 2 * b->requests[i].key.len + b->requests[i].value.len;
        }
    }
    return b->count > 1 && bytes > RANGE_COMMAND_MAX / 2;
}

MAYYIELD static struct status send_whole(struct kv *kv, struct range_batch *b, struct kv_call *call,
                                         struct arena *arena, struct range_result *out)
{
    struct status st = FAIL(STATUS_RANGE_MISMATCH, "too large for one command");

    call->parts = 1;
    if (!is_large(b)) {
        st = kv__send_range(kv, b, call, arena, out);
    }
    if (st.code != STATUS_RANGE_MISMATCH) {
        call->wrote = kv__is_write(b) && (status_ok(st) || st.code == STATUS_AMBIGUOUS);
        return st;
    }
    return send_cut(kv, b, call, arena, out);
}

struct status kv_send_call(struct kv *kv, struct range_batch *b, struct kv_call *call,
                           struct arena *arena, struct range_result *out)
{
    struct status st = OK;

    INVARIANT(b->count > 0);
    if (call->deadline_ns == DEADLINE_NONE) {
        call->deadline_ns = env_mono_ns(shard_env(kv->o.shard)) + KV_DEADLINE_NS_DEFAULT;
    }
    kv->stats.batches++;
    *out = (struct range_result){0};
    st = send_whole(kv, b, call, arena, out);
    out->st = st;
    return st;
}

struct status kv_send(struct kv *kv, struct range_batch *b, uint64_t deadline_ns,
                      struct arena *arena, struct range_result *out)
{
    struct kv_call call = {.deadline_ns = deadline_ns};

    return kv_send_call(kv, b, &call, arena, out);
}

bool kv_same_range(struct kv *kv, struct bytes a, struct bytes b)
{
    const struct cached_range *c = kv__cache_find(kv, a);

    return c != NULL && range_desc_contains(&c->desc, b);
}
