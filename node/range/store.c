/*
 * store.c -- one engine, many logs, one write at a time.
 *
 * The problem: thousands of ranges share one disk, and each wants its log durable before it speaks.
 * The idea: at the end of a turn we take what every replica that moved has to store, put it into one
 * batch, and give it to the writer. While the writer is busy further turns pile up in the next batch,
 * so that group commit across ranges happens by itself. When a batch is durable, what depended on it
 * (messages, applied state, promises between stores) comes free in one go.
 *
 * Invariants
 *   1. A message that promises durability waits in the outbox of the write that makes it true.
 *   2. A failed write stops the process: what a failed sync left behind is unknown.
 *   3. After a restart no Raft message is handled before our own promises have run out.
 */
#include "node/range/store.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define IDENT_FORMAT    1u
#define WRITE_BYTES_MAX ((size_t)256 << 20)

/* ---- ident and bootstrap ------------------------------------------------------------------------ */

struct status store_read_ident(struct engine *e, struct store_ident *out)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct bytes key;
    struct bytes value;
    struct arena arena;
    struct reader r;
    struct status st = OK;

    arena_init(&arena, 0);
    key_enc_init(&k, mem, sizeof(mem));
    key_enc_store(&k, KEY_STORE_IDENT);
    TRY_OUT(key_enc_finish(&k, &key));
    TRY_OUT(engine_get(e, ENGINE_CF_RAFT, key, ENGINE_TIER_ANY, &arena, &value));
    r = reader_of(value);
    if (read_u8(&r) == IDENT_FORMAT) {
        const struct bytes cluster = read_bytes(&r, sizeof(out->cluster.b));

        out->node.v = read_be32(&r);
        out->store.v = read_be32(&r);
        if (!r.bad && out->node.v != 0 && out->store.v != 0) {
            memcpy(out->cluster.b, cluster.ptr, sizeof(out->cluster.b));
            goto out;
        }
    }
    st = FAIL(STATUS_CORRUPT, "damaged store identity");
out:
    arena_deinit(&arena);
    return st;
}

/* Empty for a new store. */
static struct status read_liveness(struct engine *e, struct arena *arena, struct bytes *out)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct bytes key;
    struct status st = OK;

    *out = BYTES_EMPTY;
    key_enc_init(&k, mem, sizeof(mem));
    key_enc_store(&k, KEY_STORE_LIVENESS);
    TRY(key_enc_finish(&k, &key));
    st = engine_get(e, ENGINE_CF_RAFT, key, ENGINE_TIER_ANY, arena, out);
    return st.code == STATUS_NOT_FOUND ? OK : st;
}

static struct status put_ident(struct engine_batch *b, const struct store_ident *id)
{
    uint8_t mem[KEY_STACK_SIZE];
    uint8_t value[1 + 16 + 8];
    struct key_enc k;
    struct bytes key;

    key_enc_init(&k, mem, sizeof(mem));
    key_enc_store(&k, KEY_STORE_IDENT);
    TRY(key_enc_finish(&k, &key));
    value[0] = IDENT_FORMAT;
    memcpy(value + 1, id->cluster.b, 16);
    be32_put(value + 17, id->node.v);
    be32_put(value + 21, id->store.v);
    return engine_batch_put(b, ENGINE_CF_RAFT, key, bytes_of(value, sizeof(value)));
}

struct status store_write_ident(struct engine *e, const struct store_ident *id)
{
    struct engine_batch batch;
    struct status st = OK;

    engine_batch_init(&batch);
    TRY_OUT(put_ident(&batch, id));
    TRY_OUT(engine_write(e, &batch, true));
out:
    engine_batch_deinit(&batch);
    return st;
}

struct status store_read_clock_bound(struct engine *e, uint64_t *wall_out)
{
    struct arena arena;
    struct liveness *l = NULL;
    struct hts wait;
    struct bytes record = BYTES_EMPTY;
    struct status st = OK;

    arena_init(&arena, 0);
    *wall_out = 0;
    st = read_liveness(e, &arena, &record);
    if (status_ok(st) && record.len > 0) {
        TRY_OUT(liveness_create(&(struct liveness_options){0}, record, HTS_ZERO, &l, &wait));
        *wall_out = liveness_clock_bound(l);
    }
out:
    liveness_destroy(l);
    arena_deinit(&arena);
    return st;
}

/* The descriptor on the range itself and its copies in the index. */
static struct status put_first_desc(struct engine *e, struct engine_batch *b, struct arena *arena,
                                    const struct range_desc *d, struct hts now,
                                    struct mvcc_stats *stats)
{
    struct mvcc_reader reader;
    struct mvcc_writer w;
    struct mvcc_written written;
    struct mvcc_conflict conflict;
    struct buf value = {0};
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct mvcc_write op = {.ts = now, .expect = MVCC_EXPECT_ABSENT};
    struct status st = OK;

    mvcc_reader_init(&reader, e, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&w, &reader, b, arena);
    w.no_intents = true;
    TRY_OUT(range_desc_encode(d, &value));
    op.value = buf_bytes(&value);
    key_enc_init(&k, mem, sizeof(mem));
    key_enc_local(&k, d->start, KEY_LOCAL_DESCRIPTOR);
    TRY_OUT(key_enc_finish(&k, &op.key));
    TRY_OUT(mvcc_put(&w, &op, &written, &conflict));
    for (int level = 1; level <= 2; level++) { /* It holds keys of both: see change/address.c. */
        key_enc_init(&k, mem, sizeof(mem));
        key_enc_meta(&k, level, d->end);
        TRY_OUT(key_enc_finish(&k, &op.key));
        TRY_OUT(mvcc_put(&w, &op, &written, &conflict));
    }
    *stats = w.stats;
out:
    mvcc_reader_deinit(&reader);
    buf_deinit(&value);
    return st;
}

static struct status put_first_raft_state(struct engine_batch *b, const struct range_desc *d,
                                          const struct applied_state *a)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct buf v = {0};
    struct replica *fake = calloc(1, sizeof(*fake)); /* Too large for the stack. */
    struct status st = OK;

    if (fake == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    fake->range = d->id;
    fake->id = d->replicas[0].id;
    TRY_OUT(applied_state_encode(a, &v));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_STATE, key_range_record(mem, d->id, KEY_RANGE_APPLIED),
                             buf_bytes(&v)));
    buf_clear(&v);
    TRY_OUT(replica__ident_encode(fake, d->start, &v));
    TRY_OUT(
        engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, d->id, KEY_RAFT_IDENT), buf_bytes(&v)));
    buf_clear(&v);
    TRY_OUT(buf_append_varint(&v, a->index));
    TRY_OUT(buf_append_varint(&v, a->term));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, d->id, KEY_RAFT_TRUNCATED),
                             buf_bytes(&v)));
out:
    buf_deinit(&v);
    free(fake);
    return st;
}

struct status store_bootstrap(struct engine *e, const struct store_ident *id, struct hts now)
{
    struct applied_state a = {
        .index = RANGE_FIRST_INDEX, .term = RANGE_FIRST_TERM, .generation = 1, .addressed = true};
    struct range_desc d = {
        .id.v = RANGE_FIRST_ID,
        .start = KEY_MIN,
        .end = KEY_MAX,
        .replicas = {{id->node, id->store, {1}, RANGE_VOTER}},
        .replicas_count = 1,
        .next_replica = 2,
        .generation = 1,
    };
    struct engine_batch batch;
    struct arena arena;
    struct status st = OK;

    engine_batch_init(&batch);
    arena_init(&arena, 0);
    TRY_OUT(put_first_desc(e, &batch, &arena, &d, now, &a.stats));
    TRY_OUT(put_first_raft_state(&batch, &d, &a));
    TRY_OUT(put_ident(&batch, id));
    TRY_OUT(engine_write(e, &batch, true));
out:
    engine_batch_deinit(&batch);
    arena_deinit(&arena);
    return st;
}

/* ---- writes ------------------------------------------------------------------------------------- */

void store__fatal(struct store *s, struct status why)
{
    s->failed = true;
    LOG_ERROR("store.fatal", U64("store", s->o.ident.store.v), STR("why", status_text(why)));
    INVARIANT(s->o.on_fatal != NULL);
    s->o.on_fatal(s->o.ctx, why);
}

struct store_write *store__pending(struct store *s)
{
    struct store_write *w = s->pending;

    if (w == NULL) {
        w = calloc(1, sizeof(*w));
        INVARIANT(w != NULL); /* Without memory for what must become durable we cannot go on. */
        w->store = s;
        w->seq = ++s->write_seq;
        engine_batch_init(&w->batch);
        w->batch.ops.limit = WRITE_BYTES_MAX;
        list_init(&w->link);
        list_init(&w->items);
        outbox__init(&w->outbox);
        s->pending = w;
    }
    return w;
}

void store__seal(struct store *s)
{
    if (s->pending != NULL) {
        list_push_back(&s->sealed, &s->pending->link);
        s->pending = NULL;
    }
}

struct write_item *store__add_item(struct store_write *w, struct replica *r)
{
    struct write_item *item = calloc(1, sizeof(*item));

    INVARIANT(item != NULL);
    item->replica = r;
    if (r != NULL) {
        replica__acquire(r);
    }
    list_push_back(&w->items, &item->link);
    return item;
}

static void item_free(struct write_item *item)
{
    blob_release(item->desc);
    if (item->born != NULL) {
        replica__release(item->born);
    }
    if (item->replica != NULL) {
        replica__release(item->replica);
    }
    free(item);
}

static void write_free(struct store_write *w)
{
    engine_snap_release(w->store->engine, w->snap);
    engine_batch_deinit(&w->batch);
    outbox__clear(&w->outbox);
    free(w);
}

static void write_work(struct env_job *job)
{
    struct store_write *w = CONTAINER_OF(job, struct store_write, job);

    /* An empty one only keeps its place behind the writes before it. */
    w->st =
        w->batch.count == 0 && !w->sync ? OK : engine_write(w->store->engine, &w->batch, w->sync);
    if (w->wants_snap && status_ok(w->st) &&
        !status_ok(engine_snap_acquire(w->store->engine, &w->snap))) {
        w->snap = NULL; /* The digest is missing then. */
    }
}

static void write_done(struct env_job *job)
{
    struct store_write *w = CONTAINER_OF(job, struct store_write, job);
    struct store *s = w->store;
    struct list *it = NULL;

    s->writes_inflight--;
    if (!status_ok(w->st)) {
        store__fatal(s, w->st);
    }
    while ((it = list_pop_front(&w->items)) != NULL) {
        struct write_item *item = LIST_ENTRY(it, struct write_item, link);

        if (!s->failed) {
            if (item->replica == NULL) {
                liveness_durable(s->liveness, item->liveness_version);
            } else {
                replica__write_done(s, item);
            }
            if (item->checksum_index != 0) {
                checksum__applied(item->replica, item->checksum_index, w->snap);
                w->snap = NULL;
            }
        }
        item_free(item);
    }
    if (!s->failed) { /* Otherwise nothing may be promised any more, by later writes either. */
        outbox__send(s, &w->outbox);
        s->synced_seq = w->synced ? w->seq : s->synced_seq;
    }
    write_free(w);
    wait_queue_wake_all(&s->idle);
}

struct status store__wait_synced(struct store *s, uint64_t deadline_ns)
{
    struct store_write *w = store__pending(s);
    const uint64_t seq = w->seq;

    INVARIANT(w->batch.count > 0);
    w->sync = true;
    while (s->synced_seq < seq) {
        if (s->failed) {
            return FAIL(STATUS_IO, "the disk has failed");
        }
        TRY(wait_queue_wait(&s->idle, deadline_ns));
    }
    return OK;
}

static bool write_has_work(const struct store_write *w)
{
    return w->batch.count > 0 || !list_empty(&w->items) || w->outbox.count > 0;
}

/* The next write; taken out. NULL: none, or the writer is busy. */
static struct store_write *take_write(struct store *s)
{
    struct store_write *w = s->pending;

    if (s->writes_inflight >= RANGE_WRITES_INFLIGHT_MAX) {
        return NULL;
    }
    if (!list_empty(&s->sealed)) {
        return LIST_ENTRY(list_pop_front(&s->sealed), struct store_write, link);
    }
    if (w == NULL || !write_has_work(w)) {
        return NULL;
    }
    s->pending = NULL;
    return w;
}

static void submit(struct store *s, struct store_write *w)
{
    s->writes_inflight++;
    if (w->batch.count == 0 && !w->sync && s->writes_inflight == 1) {
        w->st = OK;
        write_done(&w->job); /* Nothing to write and nothing to wait for. */
        return;
    }
    s->stats.writes++;
    s->stats.syncs += w->sync ? 1 : 0;
    w->synced = w->sync;
#ifdef DSQL_PLANTS
    if ((s->o.plants & STORE_PLANT_NO_SYNC) != 0) {
        w->sync = false;
    }
#endif
    w->job.work = write_work;
    w->job.done = write_done;
    env_submit(shard_env(s->shard), ENV_LANE_WRITER, &w->job);
}

static void submit_pending(struct store *s)
{
    bool more = true;

    while (more) {
        struct store_write *w = NULL;

        more = !list_empty(&s->sealed);
        w = take_write(s);
        if (w == NULL) {
            return;
        }
        submit(s, w);
    }
}

/* ---- liveness ----------------------------------------------------------------------------------- */

static struct hts store_now(struct store *s)
{
    return hclock_hts(hlc_now(s->hlc));
}

static void send_liveness(struct store *s, const struct liveness_msg *m)
{
    Dsql__Pb__Liveness pb;
    Dsql__Pb__Hts expiration;
    struct rpc_to to = {.store = m->to, .cls = RPC_CLASS_CONTROL};
    struct bytes body;

    if (!s->o.node_of_store(s->o.node_ctx, m->to, &to.node)) {
        return;
    }
    dsql__pb__liveness__init(&pb);
    dsql__pb__hts__init(&expiration);
    expiration.wall = m->expiration.wall;
    expiration.logical = m->expiration.logical;
    pb.from_store = m->from.v;
    pb.to_store = m->to.v;
    pb.epoch = m->epoch;
    pb.expiration = &expiration;
    pb.response = m->response;
    arena_reset(&s->scratch);
    if (status_ok(pb_pack(&pb.base, &s->scratch, &body))) {
        status_ignore(
            rpc_send(s->o.rpc, to, RPC_TYPE_LIVENESS, &body, 1)); /* Repeats every heartbeat. */
    }
}

static void on_liveness(void *ctx, const struct rpc_message *m)
{
    struct store *s = ctx;
    ProtobufCAllocator allocator;
    const Dsql__Pb__Liveness *pb = NULL;

    arena_reset(&s->scratch);
    allocator = pb_arena_allocator(&s->scratch);
    pb = dsql__pb__liveness__unpack(&allocator, m->body.len, m->body.ptr);
    if (pb == NULL || pb->expiration == NULL || pb->from_store != m->from_store.v || s->stopping) {
        return;
    }
    liveness_receive(
        s->liveness,
        &(struct liveness_msg){.from = {pb->from_store},
                               .to = {pb->to_store},
                               .epoch = pb->epoch,
                               .expiration = {pb->expiration->wall, pb->expiration->logical},
                               .response = pb->response},
        store_now(s));
}

static void put_liveness(struct store *s)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct bytes key;
    struct buf record = {0};
    uint64_t version = 0;

    if (liveness_take_record(s->liveness, &record, &version)) {
        struct store_write *w = store__pending(s);

        key_enc_init(&k, mem, sizeof(mem));
        key_enc_store(&k, KEY_STORE_LIVENESS);
        if (!status_ok(key_enc_finish(&k, &key)) ||
            !status_ok(engine_batch_put(&w->batch, ENGINE_CF_RAFT, key, buf_bytes(&record)))) {
            store__fatal(s, FAIL(STATUS_MEMORY, "no memory for a liveness record"));
        }
        w->sync = true;
        store__add_item(w, NULL)->liveness_version = version;
    }
    buf_deinit(&record);
}

/* ---- replicas ----------------------------------------------------------------------------------- */

struct replica *store__find(struct store *s, range_id id)
{
    return map_get(&s->replicas, id.v);
}

static int compare_id(const struct tree_node *node, const void *key)
{
    const uint64_t a = CONTAINER_OF(node, const struct replica, id_node)->range.v;
    const uint64_t b = *(const uint64_t *)key;

    return a < b ? -1 : a > b;
}

static int compare_start(const struct tree_node *node, const void *key)
{
    return bytes_cmp(CONTAINER_OF(node, const struct replica, key_node)->desc.start,
                     *(const struct bytes *)key);
}

static struct replica *of_key_node(const struct tree_node *node)
{
    return node == NULL
               ? NULL
               : CONTAINER_OF((struct tree_node *)(uintptr_t)node, struct replica, key_node);
}

struct status store__enter(struct replica *r)
{
    struct store *s = r->store;

    TRY(map_put(&s->replicas, r->range.v, r));
    INVARIANT(tree_insert(&s->by_id, &r->id_node, &r->range.v));
    store__enter_keys(r);
    side__attach(r);
    gone__heard(r);
    return OK;
}

void store__leave(struct replica *r)
{
    struct store *s = r->store;

    (void)map_remove(&s->replicas, r->range.v);
    tree_remove(&s->by_id, &r->id_node);
    tree_remove(&s->by_key, &r->key_node);
    list_remove(&r->awake_link);
    list_remove(&r->ask_link);
}

void store__enter_keys(struct replica *r)
{
    if (r->desc.start.len > 0 && tree_linked(&r->id_node) && !tree_linked(&r->key_node)) {
        (void)tree_insert(&r->store->by_key, &r->key_node, &r->desc.start);
    }
}

struct replica *store__find_key(struct store *s, struct bytes key)
{
    struct replica *r = of_key_node(tree_at_or_before(&s->by_key, &key));

    return r != NULL && range_desc_contains(&r->desc, key) ? r : NULL;
}

struct replica *store__first_from(struct store *s, struct bytes key)
{
    return of_key_node(tree_at_or_after(&s->by_key, &key));
}

struct replica *store__right_of(const struct replica *r)
{
    return tree_linked(&r->key_node) ? of_key_node(tree_next(&r->key_node)) : NULL;
}

struct replica *store__left_of(const struct replica *r)
{
    return tree_linked(&r->key_node) ? of_key_node(tree_prev(&r->key_node)) : NULL;
}

void store__mark_dirty(struct replica *r)
{
    if (!r->dirty && r->life != REPLICA_REMOVED) {
        r->dirty = true;
        replica__acquire(r);
        list_push_back(&r->store->dirty, &r->dirty_link);
        if (list_empty(&r->awake_link)) {
            list_push_back(&r->store->awake_replicas, &r->awake_link);
        }
        shard_timer_arm_in(r->store->shard, &r->store->tick, 0);
    }
}

/* A leader cares about all its peers, a follower about its leader. Whoever knows no leader is awake and
 * looks for itself. */
static bool cares_about(const struct replica *r, store_id peer)
{
    const struct raft_state rs = raft_get_state(r->raft);
    const struct range_replica *leader = NULL;

    if (rs.role == RAFT_LEADER) {
        return range_desc_find(&r->desc, peer) != NULL;
    }
    leader = range_desc_find_id(&r->desc, rs.leader);
    return leader != NULL && leader->store.v == peer.v;
}

static void tell_support_changed(struct store *s, store_id peer)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;

    while (map_next(&s->replicas, &pos, &key, &value)) {
        struct replica *r = value;

        if (!list_empty(&r->awake_link) || cares_about(r, peer)) {
            replica__refresh_view(r);
            raft_support_changed(r->raft, peer);
            store__mark_dirty(r);
        }
    }
}

static void after_liveness(struct store *s)
{
    struct liveness_msg m;
    store_id changed;

    /* Before the first durable record there is no bound to keep. */
    if (liveness_clock_bound(s->liveness) >= s->hlc->last.wall) {
        hlc_set_upper_bound(s->hlc, liveness_clock_bound(s->liveness));
    }
    while (liveness_take_changed(s->liveness, &changed)) {
        tell_support_changed(s, changed);
    }
    while (liveness_take_msg(s->liveness, &m)) {
        send_liveness(s, &m);
    }
}

/* Nobody else can lead a range whose only voter we are: no need to wait for a timeout. */
static void campaign_alone(struct store *s)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;

    while (map_next(&s->replicas, &pos, &key, &value)) {
        struct replica *r = value;

        if (r->life == REPLICA_INIT && r->desc.replicas_count == 1) {
            replica__refresh_view(r);
            raft_campaign(r->raft);
            store__mark_dirty(r);
        }
    }
}

/* Below our own promises of an earlier life nothing of Raft may be heard or said. */
static bool store_silent(struct store *s)
{
    if (s->awake) {
        return false;
    }
    if (hts_less_eq(store_now(s), s->quiet_until)) {
        return true;
    }
    s->awake = true;
    campaign_alone(s);
    LOG_INFO("store.awake", U64("store", s->o.ident.store.v));
    return false;
}

static void handle_dirty(struct store *s)
{
    struct list *it = NULL;

    while ((it = list_pop_front(&s->dirty)) != NULL) {
        struct replica *r = LIST_ENTRY(it, struct replica, dirty_link);

        r->dirty = false;
        if (r->life != REPLICA_REMOVED && !s->failed && !r->unborn) {
            replica__handle_ready(r);
        }
        replica__release(r);
    }
}

/* The disk does not keep up: what replicas have to store waits in their cores, which are bounded. */
static bool writer_behind(const struct store *s)
{
    return s->writes_inflight >= RANGE_WRITES_INFLIGHT_MAX && s->pending != NULL &&
           s->pending->batch.ops.len >= RANGE_PENDING_BYTES_MAX;
}

/* End of a turn: collect, write, send. */
static bool store_hook(void *ctx)
{
    struct store *s = ctx;

    if (s->liveness == NULL || s->failed) {
        return false;
    }
    put_liveness(s);
    after_liveness(s);
    if (!store_silent(s) && !writer_behind(s)) {
        handle_dirty(s);
        side__flush(s); /* Behind all changes of role. */
    }
    if (s->failed) {
        return false;
    }
    outbox__send(s, &s->outbox);
    submit_pending(s);
    return false;
}

/* It sleeps from now on: no ticks, and no memory that only work needs. store__mark_dirty() wakes it. */
static void fall_asleep(struct replica *r)
{
    list_remove(&r->awake_link);
    latches_trim(&r->latches);
    raft_trim(r->raft);
}

/* Costs what is awake. Everything that changes the core marks its replica dirty, and thereby awake. */
static void tick_replicas(struct store *s)
{
    s->ticks++;
    LIST_FOREACH(it, &s->awake_replicas) {
        struct replica *r = LIST_ENTRY(it, struct replica, awake_link);

        replica__refresh_view(r);
        change__tick(r);
        if (raft_quiet(r->raft) && !r->dirty && r->lease_retry_term == 0 &&
            !change__wants_ticks(r)) {
            fall_asleep(r);
            continue;
        }
        raft_tick(r->raft);
        store__mark_dirty(r);
        lease__retry(r);
    }
    gone__tick(s);
}

static void store_tick(struct shard_timer *t)
{
    struct store *s = CONTAINER_OF(t, struct store, tick);
    const uint64_t now = shard_now_ns(s->shard);

    if (s->stopping || s->failed) {
        return;
    }
    if (now >= s->next_tick_ns) {
        s->next_tick_ns = now + RANGE_TICK_NS;
        liveness_tick(s->liveness, store_now(s));
        if (!store_silent(s)) {
            tick_replicas(s);
        }
    }
    shard_timer_arm(s->shard, t, s->next_tick_ns);
}

/* ---- life --------------------------------------------------------------------------------------- */

static struct status load_liveness(struct store *s)
{
    struct bytes record;

    TRY(read_liveness(s->engine, &s->scratch, &record));
    s->o.liveness.self = s->o.ident.store;
    TRY(liveness_create(&s->o.liveness, record, store_now(s), &s->liveness, &s->quiet_until));
    liveness_set_plants(s->liveness, s->o.liveness_plants);
#ifdef DSQL_PLANTS
    if ((s->o.liveness_plants & LIVENESS_PLANT_NO_RESTART_WAIT) != 0) {
        s->quiet_until = HTS_ZERO;
    }
#endif
    return OK;
}

/* Loads every replica that has an ident record. */
static struct status load_replicas(struct store *s)
{
    const uint8_t first = 'R';
    const uint8_t behind = 'R' + 1;
    struct engine_iter_options io = {
        .cf = ENGINE_CF_RAFT, .lower = bytes_of(&first, 1), .upper = bytes_of(&behind, 1)};
    struct engine_iter *it = NULL;
    uint8_t mem[KEY_RAFT_SIZE];
    struct status st = OK;

    TRY(engine_iter_open(s->engine, &io, &it));
    engine_iter_seek_first(it);
    while (engine_iter_valid(it)) {
        range_id range;
        enum key_raft_tag tag;
        uint64_t index = 0;

        if (!key_raft_split(engine_iter_key(it), &range, &tag, &index)) {
            TRY_OUT(FAIL(STATUS_CORRUPT, "unknown record in the raft family"));
        }
        if (tag == KEY_RAFT_IDENT) {
            TRY_OUT(replica__load(s, range, engine_iter_value(it)));
            /* Over the log to the next range. */
            engine_iter_seek(it, key_raft(mem, (range_id){range.v + 1}, KEY_RAFT_HARD_STATE));
        } else {
            engine_iter_seek(it, tag < KEY_RAFT_IDENT
                                     ? key_raft(mem, range, KEY_RAFT_IDENT)
                                     : key_raft(mem, (range_id){range.v + 1}, KEY_RAFT_HARD_STATE));
        }
    }
    TRY_OUT(engine_iter_status(it));
out:
    engine_iter_close(it);
    return st;
}

static void init_options(struct store *s, const struct store_options *o)
{
    s->o = *o;
    s->o.election_ticks = o->election_ticks == 0 ? 10 : o->election_ticks;
    s->o.election_jitter_ticks = o->election_jitter_ticks == 0 ? 10 : o->election_jitter_ticks;
    s->o.log_bytes_max = o->log_bytes_max == 0 ? (uint64_t)16 << 20 : o->log_bytes_max;
    s->o.closed_lag_ns = o->closed_lag_ns == 0 ? 3000000000u : o->closed_lag_ns;
    s->o.side_interval_ns = o->side_interval_ns == 0 ? 200000000u : o->side_interval_ns;
    s->shard = o->shard;
    s->engine = o->engine;
    s->hlc = o->hlc;
}

/* ctx NULL: nobody is at home any more. */
static void set_handlers(struct store *s, struct store *ctx)
{
    struct rpc *rpc = s->o.rpc;

    rpc_set_handler(rpc, RPC_TYPE_LIVENESS, ctx == NULL ? NULL : on_liveness, ctx);
    rpc_set_handler(rpc, RPC_TYPE_RAFT, ctx == NULL ? NULL : outbox__on_raft, ctx);
    rpc_set_handler(rpc, RPC_TYPE_SNAPSHOT, ctx == NULL ? NULL : snapshot__on_chunk, ctx);
    rpc_set_handler(rpc, RPC_TYPE_RANGE, ctx == NULL ? NULL : change__on_ask, ctx);
    rpc_set_handler(rpc, RPC_TYPE_CHECKSUM, ctx == NULL ? NULL : checksum__on_ask, ctx);
    rpc_set_handler(rpc, RPC_TYPE_BATCH, ctx == NULL ? NULL : range__on_batch, ctx);
    rpc_set_handler(rpc, RPC_TYPE_CLOSED, ctx == NULL ? NULL : side__on_message, ctx);
    shard_set_slot(s->shard, SHARD_SLOT_STORE, ctx);
}

struct status store_create(const struct store_options *o, struct arena *msg_arena,
                           struct store **out)
{
    struct store *s = calloc(1, sizeof(*s));
    struct status st = OK;

    UNUSED(msg_arena);
    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    init_options(s, o);
    map_init(&s->replicas, STORE_RANGES_MAX);
    tree_init(&s->by_id, compare_id);
    tree_init(&s->by_key, compare_start);
    list_init(&s->awake_replicas);
    for (uint32_t i = 0; i < RANGE_ASK_LEVELS; i++) {
        list_init(&s->ask[i]);
    }
    list_init(&s->dirty);
    list_init(&s->graves);
    list_init(&s->change_work);
    list_init(&s->incoming);
    list_init(&s->maintenance);
    list_init(&s->sealed);
    wait_queue_init(&s->snapshot_turn);
    outbox__init(&s->outbox);
    arena_init(&s->scratch, 0);
    engine_batch_init(&s->eval_batch);
    s->eval_batch.ops.limit = RANGE_COMMAND_MAX;
    wait_queue_init(&s->idle);
    s->tick.fn = store_tick;
    TRY_OUT(tscache_create(&(struct tscache_options){0}, &s->tscache));
    TRY_OUT(recent_create(store_now(s), &s->recent));
    if (s->o.side_interval_ns > s->o.closed_lag_ns / 4) {
        TRY_OUT(FAIL(STATUS_INVALID, "idle ranges must be closed four times per lag at least"));
    }
    TRY_OUT(load_liveness(s));
    TRY_OUT(side__create(s, &s->side));
    TRY_OUT(load_replicas(s));
    TRY_OUT(shard_add_hook(s->shard, store_hook, s));
    set_handlers(s, s);
    s->next_tick_ns = shard_now_ns(s->shard);
    shard_timer_arm(s->shard, &s->tick, s->next_tick_ns);
    LOG_INFO("store.started", U64("store", o->ident.store.v), U64("replicas", s->replicas.count));
    *out = s;
    return OK;
out:
    store_destroy(s);
    return st;
}

void store_stop(struct store *s)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;

    s->stopping = true;
    work__stop(s);
    change__stop(s);
    shard_timer_disarm(s->shard, &s->tick);
    side__stop(s->side);
    while (map_next(&s->replicas, &pos, &key, &value)) {
        struct replica *r = value;

        apply__fail_proposals(r, FAIL(STATUS_AMBIGUOUS, "the node is stopping"));
        wait_queue_wake_all(&r->progress); /* They see that we stop. */
        wait_queue_wake_all(&r->serving);
        snapshot__stop(r);
        install__stop(r);
        wait_queue_wake_all(&r->admission.queue);
    }
    while (s->writes_inflight > 0 || s->fibers > 0) {
        /* Each end of a write or fiber wakes us. */
        if (!status_ok(wait_queue_wait(&s->idle, DEADLINE_NONE))) {
            return;
        }
    }
}

static void drop_pending(struct store *s)
{
    struct list *sealed = NULL;

    store__seal(s);
    while ((sealed = list_pop_front(&s->sealed)) != NULL) {
        struct store_write *w = LIST_ENTRY(sealed, struct store_write, link);
        struct list *it = NULL;

        while ((it = list_pop_front(&w->items)) != NULL) {
            item_free(LIST_ENTRY(it, struct write_item, link));
        }
        write_free(w);
    }
}

void store_destroy(struct store *s)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;
    struct list *it = NULL;

    if (s == NULL) {
        return;
    }
    shard_timer_disarm(s->shard, &s->tick);
    shard_remove_hooks(s->shard, s);
    set_handlers(s, NULL);
    drop_pending(s);
    outbox__clear(&s->outbox);
    while ((it = list_pop_front(&s->dirty)) != NULL) {
        replica__release(LIST_ENTRY(it, struct replica, dirty_link));
    }
    while (map_next(&s->replicas, &pos, &key, &value)) {
        replica__destroy(value);
    }
    map_deinit(&s->replicas);
    gc__destroy(s);
    side__destroy(s->side);
    liveness_destroy(s->liveness);
    tscache_destroy(s->tscache);
    recent_destroy(s->recent);
    engine_batch_deinit(&s->eval_batch);
    buf_deinit(&s->block);
    arena_deinit(&s->scratch);
    free(s);
}

struct status store_add_peer(struct store *s, store_id peer)
{
    return liveness_add_peer(s->liveness, peer);
}

bool store_peer_live(struct store *s, store_id peer)
{
    uint64_t epoch = 0;
    struct hts until;

    liveness_support_from(s->liveness, peer, &epoch, &until);
    return epoch != 0 && hts_less(store_now(s), until);
}

/* ---- looking in --------------------------------------------------------------------------------- */

static void fill_info(struct replica *r, struct arena *arena, struct store_range_info *out)
{
    const struct raft_state rs = raft_get_state(r->raft);

    *out = (struct store_range_info){
        .replica = r->id,
        .role = rs.role,
        .leaseholder = status_ok(lease__check(r, HTS_ZERO)),
        .term = rs.term,
        .applied = r->applied.index,
        .commit = rs.commit,
        .lease_sequence = r->applied.lease_sequence,
        .lease_age_ns = r->lease_open ? shard_now_ns(r->store->shard) - r->lease_since_ns + 1 : 0,
        .addressed = r->applied.addressed,
        .frozen = r->applied.freeze.index != 0,
        .stats = r->applied.stats,
        .load = load__read(r),
        .closed_ts = closed__effective(r),
    };
    if (!status_ok(range_desc_dup(arena, &r->desc, &out->desc))) {
        out->desc = (struct range_desc){.id = r->range};
    }
    out->desc.id = r->range;
}

bool store_next_range(struct store *s, range_id after, struct arena *arena,
                      struct store_range_info *out)
{
    const uint64_t from = after.v + 1;
    struct tree_node *node = tree_at_or_after(&s->by_id, &from);

    if (node == NULL) {
        return false;
    }
    fill_info(CONTAINER_OF(node, struct replica, id_node), arena, out);
    return true;
}

bool store_find_range(struct store *s, range_id id, struct arena *arena,
                      struct store_range_info *out)
{
    struct replica *r = store__find(s, id);

    if (r == NULL) {
        return false;
    }
    fill_info(r, arena, out);
    return true;
}

bool store_range_at(struct store *s, struct bytes key, struct arena *arena,
                    struct store_range_info *out)
{
    struct replica *r = store__find_key(s, key);

    if (r == NULL) {
        return false;
    }
    fill_info(r, arena, out);
    return true;
}

void store_get_stats(struct store *s, struct store_stats *out)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;

    *out = s->stats;
    out->replicas = s->replicas.count;
    while (map_next(&s->replicas, &pos, &key, &value)) {
        struct replica *r = value;

        out->leases += status_ok(lease__check(r, HTS_ZERO)) ? 1 : 0;
        out->proposals_open += r->proposals_count;
        out->bytes_live += (uint64_t)r->applied.stats.live_bytes;
    }
}

struct status store__read_applied(struct engine *e, const struct engine_snap *snap,
                                  enum engine_tier tier, range_id range, struct applied_state *out)
{
    uint8_t mem[KEY_RANGE_ID_SIZE];
    const struct bytes key = key_range_record(mem, range, KEY_RANGE_APPLIED);
    struct engine_iter_options io = {
        .cf = ENGINE_CF_STATE, .lower = key, .snap = snap, .tier = tier};
    struct engine_iter *it = NULL;
    struct status st = OK;

    TRY(engine_iter_open(e, &io, &it));
    engine_iter_seek(it, key);
    TRY_OUT(engine_iter_status(it));
    if (!engine_iter_valid(it) || !bytes_eq(engine_iter_key(it), key)) {
        TRY_OUT(FAIL(STATUS_NOT_FOUND, "a range has no applied state"));
    }
    TRY_OUT(applied_state_decode(engine_iter_value(it), out));
out:
    engine_iter_close(it);
    return st;
}

struct status store_range_digest(struct store *s, range_id range, uint64_t *index_out,
                                 uint64_t *digest_out)
{
    struct replica *r = store__find(s, range);
    struct key_span spans[KEY_RANGE_SPANS];
    struct engine_snap *snap = NULL;
    struct applied_state state;
    struct status st = OK;

    if (r == NULL || r->life != REPLICA_INIT) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    arena_reset(&s->scratch);
    TRY(key_range_spans(&s->scratch, range, r->desc.start, r->desc.end, spans));
    TRY(engine_snap_acquire(s->engine, &snap));
    TRY_OUT(store__read_applied(s->engine, snap, ENGINE_TIER_ANY, range, &state));
    *index_out = state.index;
    *digest_out = 0;
    for (int i = 0; i < KEY_RANGE_SPANS; i++) {
        uint64_t digest = 0;

        TRY_OUT(engine_digest(s->engine, snap, spans[i].start, spans[i].end, &digest));
        *digest_out = *digest_out * 31 + digest;
    }
out:
    engine_snap_release(s->engine, snap);
    return st;
}

void store_set_probe(struct store *s, const struct store_probe *probe)
{
    s->probe = *probe;
}
