/*
 * progress.c -- what a leader knows about one peer, and how much it may send without an answer.
 *
 *              first ack                     needs truncated entries
 *     PROBE ---------------> REPLICATE      -----------------------> SNAPSHOT
 *       ^  <---------------     |                                       |
 *       |   reject, unreachable |                                       |
 *       +---------------------------------- delivered or failed <-------+
 *
 * PROBE     one App per probe interval, until we know where the logs agree.
 * REPLICATE Apps are sent optimistically: `next` runs ahead of `match`, bounded by the in-flight ring
 *           in messages and in bytes. A lost App shows as a reject of the one behind it.
 * SNAPSHOT  nothing is sent until the snapshot arrived or failed.
 *
 * The ring grows as needed up to RAFT_INFLIGHT_MSGS_MAX. When memory is out it counts as full: the
 * peer is then served one round trip at a time.
 */
#include <stdlib.h>

#include "node/raft/raft_internal.h"

#define RING_CAP_FIRST 8u

void raft__progress_init(struct raft__progress *p, uint64_t last)
{
    *p = (struct raft__progress){.next = last + 1, .recent_active = true, .heard = true};
}

void raft__progress_deinit(struct raft__progress *p)
{
    free(p->ring);
    p->ring = NULL;
    p->ring_cap = 0;
}

void raft__progress_trim(struct raft__progress *p)
{
    if (p->ring_count == 0) {
        raft__progress_deinit(p);
        p->ring_head = 0;
    }
}

static void enter(struct raft__progress *p, enum raft_progress_state state)
{
    p->state = state;
    p->probe_sent = false;
    p->ping = false;
    p->ring_head = 0;
    p->ring_count = 0;
    p->ring_bytes = 0;
}

void raft__progress_probe(struct raft__progress *p)
{
    p->next = p->match + 1;
    if (p->state == RAFT_PROGRESS_SNAPSHOT && p->snapshot_index >= p->next) {
        p->next = p->snapshot_index + 1;
    }
    p->sent_commit = 0;
    enter(p, RAFT_PROGRESS_PROBE);
}

void raft__progress_replicate(struct raft__progress *p)
{
    p->next = p->match + 1;
    enter(p, RAFT_PROGRESS_REPLICATE);
}

void raft__progress_snapshot(struct raft__progress *p, uint64_t index)
{
    enter(p, RAFT_PROGRESS_SNAPSHOT);
    p->snapshot_index = index;
}

static bool ring_grow(struct raft__progress *p)
{
    const uint32_t cap = p->ring_cap == 0 ? RING_CAP_FIRST : p->ring_cap * 2;
    struct raft__inflight *ring = malloc(cap * sizeof(ring[0]));

    if (ring == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < p->ring_count; i++) {
        ring[i] = p->ring[(p->ring_head + i) % p->ring_cap];
    }
    free(p->ring);
    p->ring = ring;
    p->ring_cap = cap;
    p->ring_head = 0;
    return true;
}

bool raft__progress_paused(const struct raft__progress *p)
{
    switch (p->state) {
    case RAFT_PROGRESS_PROBE:
        return p->probe_sent;
    case RAFT_PROGRESS_REPLICATE:
        return p->ring_count >= RAFT_INFLIGHT_MSGS_MAX || p->ring_bytes >= RAFT_INFLIGHT_BYTES_MAX;
    case RAFT_PROGRESS_SNAPSHOT:
        return true;
    }
    return true;
}

void raft__progress_sent(struct raft__progress *p, uint64_t last_index, uint64_t bytes)
{
    INVARIANT(p->state == RAFT_PROGRESS_REPLICATE);
    INVARIANT(last_index >= p->next);

    p->next = last_index + 1;
    if (p->ring_count == p->ring_cap && !ring_grow(p)) {
        p->ring_bytes = RAFT_INFLIGHT_BYTES_MAX; /* Full until the next acknowledgement. */
        return;
    }
    p->ring[(p->ring_head + p->ring_count) % p->ring_cap] =
        (struct raft__inflight){last_index, bytes};
    p->ring_count++;
    p->ring_bytes += bytes;
}

static void ring_free_upto(struct raft__progress *p, uint64_t index)
{
    while (p->ring_count > 0 && p->ring[p->ring_head].last_index <= index) {
        const uint64_t bytes = p->ring[p->ring_head].bytes;

        p->ring_bytes -= bytes < p->ring_bytes ? bytes : p->ring_bytes;
        p->ring_head = (p->ring_head + 1) % p->ring_cap;
        p->ring_count--;
    }
    if (p->ring_count == 0) {
        p->ring_bytes = 0;
    }
}

bool raft__progress_ack(struct raft__progress *p, uint64_t index)
{
    const bool news = index > p->match;

    if (news) {
        p->match = index;
    }
    if (p->next <= p->match) {
        p->next = p->match + 1;
    }
    if (p->state == RAFT_PROGRESS_REPLICATE) {
        ring_free_upto(p, index);
    }
    return news;
}

bool raft__progress_reject(struct raft__progress *p, uint64_t rejected, uint64_t hint)
{
    if (p->state == RAFT_PROGRESS_REPLICATE) {
        if (rejected <= p->match) {
            return false; /* Answers an App from before the last acknowledgement. */
        }
        raft__progress_probe(p);
        return true;
    }
    if (p->state != RAFT_PROGRESS_PROBE || rejected != p->next - 1) {
        return false;
    }
    p->next = hint + 1 < rejected ? hint + 1 : rejected;
    if (p->next <= p->match) {
        p->next = p->match + 1;
    }
    p->probe_sent = false;
    return true;
}
