/* The index of ranges follows, in an order that keeps it useful. */
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/topology.h"

#define K(c) "\x88" c "\x88"

static struct replica *at(struct cluster *c, const char *key)
{
    return store__find_key(c->nodes[0].store, bytes_str(key));
}

static struct bytes meta_key(struct arena *arena, int level, const char *end)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct bytes key;
    struct bytes out;

    key_enc_init(&k, mem, sizeof(mem));
    key_enc_meta(&k, level, bytes_str(end));
    INVARIANT(status_ok(key_enc_finish(&k, &key)));
    INVARIANT(status_ok(bytes_dup(arena, key, &out)));
    return out;
}

static enum status_code write_entry(struct cluster *c, struct bytes key, const struct range_desc *d)
{
    struct buf value = {0};
    struct cluster_call call = {.node = &c->nodes[0], .kind = CLUSTER_SEND};

    call.one = (struct range_request){.op = d == NULL ? RANGE_OP_DELETE : RANGE_OP_PUT, .key = key};
    if (d != NULL) {
        INVARIANT(status_ok(range_desc_encode(d, &value)));
        call.one.value = buf_bytes(&value);
    }
    cluster_call_start(&call);
    INVARIANT(cluster_call_wait(&call, 5000));
    cluster_call_end(&call);
    buf_deinit(&value);
    return call.st.code;
}

/* Generation of the entry; 0: none. */
static uint64_t entry(struct cluster *c, struct bytes key)
{
    struct cluster_call call = {
        .node = &c->nodes[0], .kind = CLUSTER_SEND, .one = {.op = RANGE_OP_GET, .key = key}};
    struct range_desc d = {0};

    cluster_call_start(&call);
    INVARIANT(cluster_call_wait(&call, 5000));
    if (status_ok(call.st) && call.result.responses[0].found) {
        INVARIANT(status_ok(range_desc_decode(call.result.responses[0].value, &call.arena, &d)));
    }
    cluster_call_end(&call);
    return d.generation;
}

/* As if the descriptor had changed just now. */
static void forget(struct replica *r)
{
    r->applied.addressed = false;
    r->submitted.addressed = false;
    r->addressing = true; /* The store does not begin by itself. */
}

static enum status_code address(struct cluster *c, struct replica *r)
{
    struct cluster_call call = {
        .node = &c->nodes[0], .kind = CLUSTER_ADDRESS, .range = r->range.v, .timeout_ms = 2000};

    r->addressing = false;
    cluster_call_start(&call);
    INVARIANT(cluster_call_wait(&call, 5000));
    cluster_call_end(&call);
    return call.st.code;
}

static bool halves(struct cluster *c)
{
    cluster_start(c, 1);
    return topo_split(c, K("e")) == STATUS_OK && topo_settles(c, 3000);
}

TEST(address, the_left_neighbour_comes_first)
{
    struct cluster c;
    struct arena arena;
    struct bytes left;

    EXPECT_TRUE(halves(&c));
    arena_init(&arena, 0);
    left = meta_key(&arena, 2, K("e"));
    EXPECT_EQ(2, entry(&c, left));
    EXPECT_EQ(STATUS_OK, write_entry(&c, left, NULL));
    forget(at(&c, K("e")));
    EXPECT_FALSE(store_is_addressed(c.nodes[0].store, (range_id){2}));
    EXPECT_EQ(STATUS_UNAVAILABLE, address(&c, at(&c, K("e"))));
    forget(at(&c, K("a")));
    EXPECT_EQ(STATUS_OK, address(&c, at(&c, K("a"))));
    EXPECT_EQ(2, entry(&c, left));
    EXPECT_EQ(STATUS_OK, address(&c, at(&c, K("e"))));
    EXPECT_TRUE(store_is_addressed(c.nodes[0].store, (range_id){2}));
    arena_deinit(&arena);
    cluster_stop(&c);
}

TEST(address, older_entries_inside_go_and_newer_ones_stay)
{
    struct cluster c;
    struct arena arena;
    struct range_desc d;

    EXPECT_TRUE(halves(&c));
    arena_init(&arena, 0);
    d = at(&c, K("e"))->desc;
    d.generation = 1;
    EXPECT_EQ(STATUS_OK, write_entry(&c, meta_key(&arena, 2, K("f")), &d));
    d.generation = 9;
    EXPECT_EQ(STATUS_OK, write_entry(&c, meta_key(&arena, 2, K("g")), &d));
    d.generation = 1;
    EXPECT_EQ(STATUS_OK, write_entry(&c, meta_key(&arena, 2, K("b")), &d)); /* Not inside. */
    forget(at(&c, K("e")));
    EXPECT_EQ(STATUS_OK, address(&c, at(&c, K("e"))));
    EXPECT_EQ(0, entry(&c, meta_key(&arena, 2, K("f"))));
    EXPECT_EQ(9, entry(&c, meta_key(&arena, 2, K("g"))));
    EXPECT_EQ(1, entry(&c, meta_key(&arena, 2, K("b"))));
    arena_deinit(&arena);
    cluster_stop(&c);
}

/* A later leaseholder was quicker. */
TEST(address, a_newer_entry_is_not_replaced)
{
    struct cluster c;
    struct arena arena;
    struct range_desc d;

    EXPECT_TRUE(halves(&c));
    arena_init(&arena, 0);
    d = at(&c, K("e"))->desc;
    d.generation = 50;
    EXPECT_EQ(STATUS_OK, write_entry(&c, meta_key(&arena, 2, "\xff"), &d));
    forget(at(&c, K("e")));
    EXPECT_EQ(STATUS_OK, address(&c, at(&c, K("e"))));
    EXPECT_EQ(50, entry(&c, meta_key(&arena, 2, "\xff")));
    arena_deinit(&arena);
    cluster_stop(&c);
}

MAYYIELD static struct status no_way(void *ctx, struct range_batch *b, uint64_t deadline_ns,
                                     struct arena *arena, struct range_result *out)
{
    UNUSED(ctx);
    UNUSED(b);
    UNUSED(deadline_ns);
    UNUSED(arena);
    *out = (struct range_result){0};
    return FAIL(STATUS_UNAVAILABLE, "the index cannot be reached");
}

/* Nothing changes any further before the index knows; the range serves all the same, and catches up. */
TEST(address, changes_wait_for_the_index)
{
    struct cluster c;
    struct store *s = NULL;
    struct status (*send)(void *, struct range_batch *, uint64_t, struct arena *,
                          struct range_result *) = NULL;

    EXPECT_TRUE(halves(&c));
    s = c.nodes[0].store;
    send = s->o.send;
    s->o.send = no_way;
    forget(at(&c, K("e")));
    at(&c, K("e"))->addressing = false;
    EXPECT_EQ(STATUS_OVERLOADED, topo_split(&c, K("h")));
    EXPECT_EQ(STATUS_OVERLOADED, topo_merge(&c, K("a")));
    EXPECT_EQ(STATUS_OK, topo_put(&c, K("h"), "v"));
    EXPECT_FALSE(store_is_addressed(s, (range_id){2}));
    s->o.send = send;
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(store_is_addressed(s, (range_id){2}));
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("h")));
    cluster_stop(&c);
}

/* Membership: each step is told before the next one. */
TEST(address, members_are_in_the_index)
{
    struct cluster c;
    struct arena arena;

    cluster_start(&c, 3);
    arena_init(&arena, 0);
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 2));
    EXPECT_EQ(at(&c, K("a"))->desc.generation, entry(&c, meta_key(&arena, 1, "\xff")));
    EXPECT_EQ(at(&c, K("a"))->desc.generation, entry(&c, meta_key(&arena, 2, "\xff")));
    EXPECT_TRUE(topo_settles(&c, 2000));
    EXPECT_TRUE(topo_index_is_right(&c));
    arena_deinit(&arena);
    cluster_stop(&c);
}

/* A store without a way to others tells the index when it stands here. */
TEST(address, a_store_alone_tells_itself)
{
    struct cluster c;

    cluster_start_with(&c, 1, (struct cluster_options){.no_send = true});
    {
        struct cluster_call call = {
            .node = &c.nodes[0], .kind = CLUSTER_SPLIT, .key = BYTES_LIT(K("e"))};

        cluster_call_start(&call);
        EXPECT_TRUE(cluster_call_wait(&call, 3000));
        EXPECT_OK(call.st);
        cluster_call_end(&call);
    }
    cluster_run_ms(&c, 2000);
    EXPECT_TRUE(store_is_addressed(c.nodes[0].store, (range_id){1}));
    EXPECT_TRUE(store_is_addressed(c.nodes[0].store, (range_id){2}));
    cluster_stop(&c);
}

/* Cuts the lease of the teller off between its reading and its writing. */
static struct replica *deposed;

MAYYIELD static struct status then_deposed(void *ctx, struct range_batch *b, uint64_t deadline_ns,
                                           struct arena *arena, struct range_result *out)
{
    UNUSED(ctx);
    b->range = (range_id){1};
    store_execute(deposed->store, b, deadline_ns, arena, out);
    if (b->requests[0].op == RANGE_OP_GET && b->requests[0].key.ptr[0] == 0x05) {
        deposed->serving_term = 0; /* As when leadership moves. */
    }
    return out->st;
}

/* One who was replaced after he had read an entry does not write it (tests/model/merge.pml). */
TEST(address, a_replaced_leader_writes_nothing)
{
    struct cluster c;
    struct arena arena;
    struct bytes right;

    EXPECT_TRUE(halves(&c));
    arena_init(&arena, 0);
    right = meta_key(&arena, 2, "\xff");
    EXPECT_EQ(STATUS_OK, write_entry(&c, right, NULL));
    deposed = at(&c, K("e"));
    forget(deposed);
    c.nodes[0].store->o.send = then_deposed;
    EXPECT_EQ(STATUS_NOT_LEADER, address(&c, deposed));
    deposed->serving_term = raft_get_state(deposed->raft).term;
    EXPECT_EQ(0, entry(&c, right));
    arena_deinit(&arena);
    cluster_stop(&c);
}
