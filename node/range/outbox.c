/*
 * outbox.c -- Raft messages of all ranges, grouped by the store they go to.
 *
 * The header of each message is protobuf, so that versions can mix; entries follow all headers as a
 * block that is written from and read into shared blobs without another copy in between:
 *
 *   varint length | RaftBatch | per message, per entry: varint term, u8 kind, varint length, payload
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define OUTBOX_MSGS_MAX    100000u
#define FRAME_BYTES_TARGET ((size_t)4 << 20)
#define ENTRY_HEADER_MAX   (2 * VARINT_MAX + 1)

void outbox__init(struct outbox *o)
{
    list_init(&o->msgs);
    o->count = 0;
}

static void msg_free(struct outbox_msg *m)
{
    for (uint32_t i = 0; i < m->msg.entries_count; i++) {
        blob_release(m->entries[i].payload);
    }
    free(m);
}

void outbox__clear(struct outbox *o)
{
    struct list *it = NULL;

    while ((it = list_pop_front(&o->msgs)) != NULL) {
        msg_free(LIST_ENTRY(it, struct outbox_msg, link));
    }
    o->count = 0;
}

void outbox__add(struct outbox *o, struct replica *r, const struct raft_msg *m)
{
    const struct range_replica *peer = range_desc_find_id(&r->desc, m->to);
    store_id to = {0};

    if (peer != NULL) {
        to = peer->store;
    } else if (m->to.v == r->last_from.v) {
        to = r->last_from_store; /* An answer to somebody whom our descriptor does not know. */
    }
    outbox__add_to(o, r, to, m);
}

void outbox__add_to(struct outbox *o, struct replica *r, store_id to, const struct raft_msg *m)
{
    struct outbox_msg *q = NULL;

    if (to.v == 0 || o->count >= OUTBOX_MSGS_MAX) {
        return; /* Raft repeats what is lost. */
    }
    q = malloc(sizeof(*q) + m->entries_count * sizeof(q->entries[0]));
    if (q == NULL) {
        return;
    }
    q->to = to;
    q->range = r->range;
    q->msg = *m;
    q->msg.entries = q->entries;
    q->msg.conf = NULL;
    for (uint32_t i = 0; i < m->entries_count; i++) {
        q->entries[i] = m->entries[i];
        (void)blob_acquire(q->entries[i].payload);
    }
    list_push_back(&o->msgs, &q->link);
    o->count++;
}

static void msg_to_pb(const struct outbox_msg *q, uint32_t block_bytes, Dsql__Pb__RaftMsg *pb)
{
    const struct raft_msg *m = &q->msg;

    dsql__pb__raft_msg__init(pb);
    pb->range_id = q->range.v;
    pb->from = m->from.v;
    pb->to = m->to.v;
    pb->type = (uint32_t)m->type;
    pb->term = m->term;
    pb->index = m->index;
    pb->log_term = m->log_term;
    pb->commit = m->commit;
    pb->match = m->match;
    pb->hint_index = m->hint_index;
    pb->hint_term = m->hint_term;
    pb->support_epoch = m->support_epoch;
    pb->truncate_hint = m->truncate_hint;
    pb->reject = m->reject;
    pb->transfer = m->transfer;
    pb->entries_count = m->entries_count;
    pb->block_bytes = block_bytes;
}

static struct status append_entries(struct buf *block, const struct raft_msg *m)
{
    for (uint32_t i = 0; i < m->entries_count; i++) {
        const struct raft_entry *e = &m->entries[i];

        TRY(buf_append_varint(block, e->term));
        TRY(buf_append_u8(block, (uint8_t)e->kind));
        TRY(buf_append_lp(block, blob_bytes(e->payload)));
    }
    return OK;
}

/* Everything for one store as one frame (several when large). Sent messages leave the list. */
static struct status send_to_store(struct store *s, struct outbox *o, store_id to)
{
    Dsql__Pb__RaftBatch batch;
    Dsql__Pb__RaftMsg *pbs = NULL;
    Dsql__Pb__RaftMsg **pointers = NULL;
    struct rpc_to target = {.store = to, .cls = RPC_CLASS_NORMAL};
    struct bytes parts[3];
    uint8_t prefix[VARINT_MAX];
    const bool known = s->o.node_of_store(s->o.node_ctx, to, &target.node);

    arena_reset(&s->scratch);
    buf_clear(&s->block);
    pbs = ARENA_ARRAY(&s->scratch, Dsql__Pb__RaftMsg, o->count);
    pointers = ARENA_ARRAY(&s->scratch, Dsql__Pb__RaftMsg *, o->count);
    if (pbs == NULL || pointers == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    dsql__pb__raft_batch__init(&batch);
    batch.msgs = pointers;
    LIST_FOREACH(it, &o->msgs) {
        struct outbox_msg *q = LIST_ENTRY(it, struct outbox_msg, link);
        const size_t before = s->block.len;

        if (q->to.v != to.v || before > FRAME_BYTES_TARGET) {
            continue;
        }
        if (known) {
            TRY(append_entries(&s->block, &q->msg));
            msg_to_pb(q, (uint32_t)(s->block.len - before), &pbs[batch.n_msgs]);
            pointers[batch.n_msgs] = &pbs[batch.n_msgs];
            batch.n_msgs++;
        }
        list_remove(&q->link);
        o->count--;
        msg_free(q);
    }
    if (!known) {
        return OK;
    }
    TRY(pb_pack(&batch.base, &s->scratch, &parts[1]));
    parts[0] = bytes_of(prefix, varint_put(prefix, parts[1].len));
    parts[2] = buf_bytes(&s->block);
    return rpc_send(s->o.rpc, target, RPC_TYPE_RAFT, parts, 3);
}

void outbox__send(struct store *s, struct outbox *o)
{
    while (!list_empty(&o->msgs)) {
        const struct outbox_msg *first = LIST_ENTRY(o->msgs.next, struct outbox_msg, link);
        const uint32_t before = o->count;

        if (!status_ok(send_to_store(s, o, first->to)) && o->count == before) {
            outbox__clear(o); /* No memory: Raft repeats. */
        }
    }
}

/* ---- receiving ---------------------------------------------------------------------------------- */

static bool read_entries(struct reader *block, const Dsql__Pb__RaftMsg *pb,
                         struct raft_entry *entries)
{
    struct reader r = reader_of(read_bytes(block, pb->block_bytes));
    uint32_t n = 0;

    for (; n < pb->entries_count; n++) {
        struct raft_entry *e = &entries[n];
        struct bytes payload;

        *e = (struct raft_entry){.index = pb->index + 1 + n, .term = read_varint(&r)};
        e->kind = read_u8(&r) == RAFT_ENTRY_CONF ? RAFT_ENTRY_CONF : RAFT_ENTRY_NORMAL;
        payload = read_lp_bytes(&r);
        if (block->bad || r.bad) {
            break;
        }
        e->payload = payload.len == 0 ? NULL : blob_copy(payload);
        if (payload.len > 0 && e->payload == NULL) {
            break;
        }
    }
    if (n < pb->entries_count || r.rest.len != 0) {
        while (n > 0) {
            blob_release(entries[--n].payload);
        }
        return false;
    }
    return true;
}

/* The replica a message is for, created when it is a newcomer's first. NULL: not for us. */
static struct replica *find_target(struct store *s, const Dsql__Pb__RaftMsg *pb)
{
    struct replica *r = store__find(s, (range_id){pb->range_id});

    if (r != NULL && r->id.v == pb->to) {
        return r; /* One that is not born yet hears, and says nothing until it is. */
    }
    if (r != NULL && r->unborn) {
        return NULL;
    }
    if (pb->range_id == 0 || pb->to == 0 || (r != NULL && r->id.v > pb->to)) {
        return NULL; /* An older incarnation of ours is meant. */
    }
    if (r != NULL && r->life == REPLICA_INSTALLING) {
        return NULL; /* It goes when it is complete. */
    }
    if (pb->type != RAFT_MSG_APP && pb->type != RAFT_MSG_HEARTBEAT && pb->type != RAFT_MSG_SNAP &&
        pb->type != RAFT_MSG_FORTIFY && pb->type != RAFT_MSG_VOTE &&
        pb->type != RAFT_MSG_PRE_VOTE) {
        return NULL;
    }
    if (r != NULL) {
        replica__remove(r);
    }
    return status_ok(replica__create(s, (range_id){pb->range_id}, (replica_id){pb->to}, &r)) ? r
                                                                                             : NULL;
}

/* Messages of change/gone.c. */
static void step_range_msg(struct store *s, store_id from_store, const Dsql__Pb__RaftMsg *pb)
{
    struct replica *r = store__find(s, (range_id){pb->range_id});

    if (r == NULL || r->unborn) {
        return;
    }
    if (pb->type == RANGE_MSG_MEMBER) {
        (void)gone__check_sender(r, (replica_id){pb->from}, from_store); /* Silence means yes. */
    } else if (pb->type == RANGE_MSG_GONE && r->id.v == pb->to) {
        gone__told(r);
    }
}

static void step(struct store *s, store_id from_store, const Dsql__Pb__RaftMsg *pb,
                 const struct raft_entry *entries)
{
    struct replica *r =
        pb->type <= RAFT_MSG_DE_FORTIFY && pb->type != RAFT_MSG_SNAP ? find_target(s, pb) : NULL;
    const struct raft_msg m = {
        .type = (enum raft_msg_type)pb->type,
        .from = {pb->from},
        .to = {pb->to},
        .term = pb->term,
        .index = pb->index,
        .log_term = pb->log_term,
        .commit = pb->commit,
        .match = pb->match,
        .hint_index = pb->hint_index,
        .hint_term = pb->hint_term,
        .support_epoch = pb->support_epoch,
        .truncate_hint = pb->truncate_hint,
        .reject = pb->reject,
        .transfer = pb->transfer,
        .entries = entries,
        .entries_count = pb->entries_count,
    };

    if (pb->type > RAFT_MSG_DE_FORTIFY) {
        step_range_msg(s, from_store, pb);
        return;
    }
    if (r == NULL || gone__check_sender(r, m.from, from_store)) {
        return; /* Snapshots arrive by their own stream. */
    }
    gone__heard(r);
    r->last_from = m.from;
    r->last_from_store = from_store;
    replica__refresh_view(r);
    status_ignore(raft_step(r->raft, &m)); /* Nonsense is ignored by the core. */
    store__mark_dirty(r);
}

void outbox__on_raft(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    struct reader r = reader_of(m->body);
    struct bytes head;
    ProtobufCAllocator allocator;
    const Dsql__Pb__RaftBatch *batch = NULL;

    if (!s->awake || s->stopping) {
        return; /* Still bound by promises of the life before. */
    }
    arena_reset(&s->scratch);
    allocator = pb_arena_allocator(&s->scratch);
    head = read_lp_bytes(&r);
    batch = r.bad ? NULL : dsql__pb__raft_batch__unpack(&allocator, head.len, head.ptr);
    for (size_t i = 0; batch != NULL && i < batch->n_msgs; i++) {
        const Dsql__Pb__RaftMsg *pb = batch->msgs[i];
        struct raft_entry *entries = NULL;

        if (pb->entries_count > pb->block_bytes) {
            break;
        }
        entries = ARENA_ARRAY(&s->scratch, struct raft_entry, (size_t)pb->entries_count + 1);
        if (entries == NULL || !read_entries(&r, pb, entries)) {
            break;
        }
        step(s, m->from_store, pb, entries);
        for (uint32_t k = 0; k < pb->entries_count; k++) {
            blob_release(entries[k].payload);
        }
    }
}
