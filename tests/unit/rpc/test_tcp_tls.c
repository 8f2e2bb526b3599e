/*
 * test_tcp_tls.c -- nodes with certificates.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/rpc/tcp_internal.h"
#include "tests/unit/rpc/cert_rig.h"
#include "tests/unit/rpc/tcp_rig.h"

struct tls_rig {
    struct tcp_rig rig;
    struct certs certs;
    struct tls_config *tls[2];
};

static struct tls_rig *tls_rig_new(void)
{
    struct tls_rig *t = calloc(1, sizeof(*t));

    INVARIANT(t != NULL);
    certs_init(&t->certs);
    for (int i = 0; i < 2; i++) {
        INVARIANT(status_ok(certs_config(&t->certs, "node", true, &t->tls[i])));
    }
    return t;
}

static void tls_rig_free(struct tls_rig *t)
{
    rig_deinit(&t->rig);
    tls_config_release(t->tls[0]);
    tls_config_release(t->tls[1]);
    certs_deinit(&t->certs);
    free(t);
}

TEST(tcp_tls, nodes_talk_and_resume_after_a_lost_connection)
{
    struct tls_rig *t = tls_rig_new();
    struct tcp_node *a = &t->rig.nodes[0];
    struct tcp_node *b = &t->rig.nodes[1];
    struct tcp_link *l = NULL;

    rig_pair(&t->rig, t->tls[0], t->tls[1]);
    EXPECT_OK(call_now(&t->rig, a, b));
    for (uint32_t i = 0; i < 1000; i++) {
        EXPECT_OK(send_number(a, b, i));
    }
    fake_world_settle(t->rig.world);
    EXPECT_EQ(1000, b->seen_count);
    EXPECT_EQ(999, b->seen[999]);

    l = &tcp__peer(a->tcp, b->id)->links[RPC_CLASS_NORMAL];
    EXPECT_TRUE(l->ticket != NULL);
    fake_world_advance(t->rig.world, 2 * SECOND);
    env_stream_close(shard_env(a->shard), l->conn->stream);
    fake_world_settle(t->rig.world);
    EXPECT_TRUE(l->conn == NULL);
    EXPECT_OK(call_now(&t->rig, a, b));
    tls_rig_free(t);
}

TEST(tcp_tls, delayed_line_works_with_tls)
{
    struct tls_rig *t = tls_rig_new();
    struct tcp_node *a = &t->rig.nodes[0];
    struct tcp_node *b = &t->rig.nodes[1];
    uint64_t start_ns = 0;

    rig_pair(&t->rig, t->tls[0], t->tls[1]);
    rpc_tcp_set_delay(a->tcp, b->id, 40 * MS);
    EXPECT_OK(call_now(&t->rig, a, b));
    start_ns = fake_world_now_ns(t->rig.world);
    EXPECT_OK(call_now(&t->rig, a, b));
    EXPECT_EQ(40 * MS, fake_world_now_ns(t->rig.world) - start_ns);
    tls_rig_free(t);
}

/* The one who joins with a wrong CA reads why. */
TEST(tcp_tls, wrong_ca_is_refused_with_a_reason)
{
    struct tls_rig *t = tls_rig_new();
    struct tcp_caller c = {.body = BYTES_LIT("me")};
    struct tls_config *strange_tls = NULL;
    struct tcp_node *stranger = NULL;
    struct certs other;

    certs_init(&other);
    EXPECT_OK(certs_config(&other, "node", true, &strange_tls));
    rig_pair(&t->rig, t->tls[0], t->tls[1]);
    stranger = rig_add(&t->rig, (struct tcp_node_options){.tls = strange_tls});
    c.address = rpc_tcp_address(t->rig.nodes[0].tcp);
    call_begin(&t->rig, stranger, &c);
    EXPECT_CODE(STATUS_INVALID, c.st);
    EXPECT_TRUE(strstr(c.st.msg, "not signed by our certificate authority") != NULL);
    arena_deinit(&c.arena);
    EXPECT_OK(call_now(&t->rig, &t->rig.nodes[0], &t->rig.nodes[1]));
    tls_rig_free(t);
    tls_config_release(strange_tls);
    certs_deinit(&other);
}

TEST(tcp_tls, plain_text_is_refused)
{
    struct tls_rig *t = tls_rig_new();
    struct tcp_caller c = {.body = BYTES_LIT("me")};
    struct tcp_node *insecure = NULL;

    rig_pair(&t->rig, t->tls[0], t->tls[1]);
    insecure = rig_add(&t->rig, (struct tcp_node_options){0});
    c.address = rpc_tcp_address(t->rig.nodes[0].tcp);
    call_begin(&t->rig, insecure, &c);
    EXPECT_TRUE(c.ended);
    EXPECT_FALSE(status_ok(c.st));
    EXPECT_EQ(0, t->rig.nodes[0].seen_count);
    arena_deinit(&c.arena);

    /* And the other way round. */
    c = (struct tcp_caller){.body = BYTES_LIT("me")};
    c.address = rpc_tcp_address(insecure->tcp);
    call_begin(&t->rig, &t->rig.nodes[0], &c);
    EXPECT_TRUE(c.ended);
    EXPECT_FALSE(status_ok(c.st));
    arena_deinit(&c.arena);
    tls_rig_free(t);
}
