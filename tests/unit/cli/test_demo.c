/*
 * test_demo.c -- layout, names and the state file of demo clusters. Processes: tests/cluster.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/demo/demo.h"
#include "node/base/invariant.h"
#include "regions/topology/rtt.h"
#include "tests/lib/test.h"

struct rig {
    struct arena arena;
    struct demo *d;
    char dir[64];
};

static void rig_init(struct rig *r)
{
    arena_init(&r->arena, 0);
    r->d = ARENA_NEW(&r->arena, struct demo);
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/dsql-demo-XXXXXX");
    INVARIANT(r->d != NULL && mkdtemp(r->dir) != NULL);
    r->d->dir = r->dir;
}

static void rig_deinit(struct rig *r)
{
    static const char *const made[] = {"demo.json", "lock", "a/b/lock"};

    for (size_t i = 0; i < ARRAY_COUNT(made); i++) {
        (void)unlink(arena_printf(&r->arena, "%s/%s", r->dir, made[i]));
    }
    (void)rmdir(arena_printf(&r->arena, "%s/a/b", r->dir));
    (void)rmdir(arena_printf(&r->arena, "%s/a", r->dir));
    EXPECT_EQ(0, rmdir(r->dir)); /* Nothing else may be left. */
    arena_deinit(&r->arena);
}

static void fill_ports(struct demo *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        d->nodes[i].sql_port = (uint16_t)(1000 + i);
        d->nodes[i].rpc_port = (uint16_t)(2000 + i);
        d->nodes[i].http_port = (uint16_t)(65535 - i);
    }
}

/* ---- layout -------------------------------------------------------------------------------------- */

TEST(demo, lays_out_three_regions_of_three_zones_by_default)
{
    struct rig r;

    rig_init(&r);
    EXPECT_OK(demo_layout(DEMO_REGIONS, 0, &r.arena, r.d));
    EXPECT_EQ(DEMO_NODES, r.d->count);
    EXPECT_EQ(1, r.d->nodes[0].id);
    EXPECT_STREQ("us-east-1", r.d->nodes[0].region);
    EXPECT_STREQ("us-east-1a", r.d->nodes[0].zone);
    EXPECT_STREQ("eu-west-1", r.d->nodes[5].region);
    EXPECT_STREQ("eu-west-1c", r.d->nodes[5].zone);
    EXPECT_EQ(9, r.d->nodes[8].id);
    EXPECT_STREQ("ap-southeast-1c", r.d->nodes[8].zone);
    rig_deinit(&r);
}

TEST(demo, spreads_nodes_over_regions_and_round_their_zones)
{
    struct rig r;

    rig_init(&r);
    EXPECT_OK(demo_layout("a:2,b:1", 0, &r.arena, r.d));
    EXPECT_EQ(3, r.d->count);
    EXPECT_OK(demo_layout("a:2,b:1", 7, &r.arena, r.d));
    EXPECT_EQ(7, r.d->count);
    EXPECT_STREQ("ab", r.d->nodes[3].zone); /* 4 in a: a b a b. */
    EXPECT_STREQ("ba", r.d->nodes[6].zone); /* 3 in b, all in its one zone. */
    EXPECT_OK(demo_layout("a", DEMO_NODES_MAX, &r.arena, r.d));
    EXPECT_EQ(DEMO_NODES_MAX, r.d->count);
    rig_deinit(&r);
}

TEST(demo, refuses_layouts_that_make_no_sense)
{
    static const char *const wrong[] = {"",     ",",    "a,",   "a,a",   "a:0",
                                        "a:27", "a:",   "a:x",  "a:1:1", "a b",
                                        "a=b",  "a:-1", "a: 1", ":3",    "a:26,b:26"};
    char longest[LOCALITY_VALUE_MAX + 8];
    struct rig r;

    rig_init(&r);
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        EXPECT_CODE(STATUS_INVALID, demo_layout(wrong[i], 0, &r.arena, r.d));
    }
    EXPECT_CODE(STATUS_INVALID, demo_layout("a,b,c", 2, &r.arena, r.d));
    EXPECT_CODE(STATUS_INVALID, demo_layout("a", DEMO_NODES_MAX + 1, &r.arena, r.d));
    memset(longest, 'r', sizeof(longest));
    longest[LOCALITY_VALUE_MAX] = '\0'; /* Fits a region, but not with a zone's letter. */
    EXPECT_CODE(STATUS_INVALID, demo_layout(longest, 1, &r.arena, r.d));
    longest[LOCALITY_VALUE_MAX - 1] = '\0';
    EXPECT_OK(demo_layout(longest, 1, &r.arena, r.d));
    rig_deinit(&r);
}

static int64_t find(struct rig *r, const char *target)
{
    demo_set s = {0};

    return status_ok(demo_find(r->d, target, &r->arena, &s)) ? (int64_t)s.bits : -1;
}

TEST(demo, finds_nodes_by_number_zone_and_region)
{
    struct rig r;

    rig_init(&r);
    EXPECT_OK(demo_layout(DEMO_REGIONS, 0, &r.arena, r.d));
    EXPECT_EQ(1 << 3, find(&r, "4"));
    EXPECT_EQ(1 << 8, find(&r, "node9"));
    EXPECT_EQ(1 << 1, find(&r, "us-east-1b"));
    EXPECT_EQ(7 << 3, find(&r, "eu-west-1"));
    EXPECT_EQ(7 << 3 | 1, find(&r, "eu-west-1,1,4"));
    EXPECT_EQ(-1, find(&r, "10"));
    EXPECT_EQ(-1, find(&r, "0"));
    EXPECT_EQ(-1, find(&r, ""));
    EXPECT_EQ(-1, find(&r, "1,"));
    EXPECT_EQ(-1, find(&r, "eu-west-"));
    EXPECT_EQ(-1, find(&r, "1x"));
    rig_deinit(&r);
}

/* An installed dsqlctl has no source tree; what is built in has to be the file that people read. */
TEST(demo, ships_the_round_trips_of_the_example)
{
    char text[4096] = {0};
    struct arena arena;
    struct rtt_matrix *m = NULL;
    FILE *f = fopen("regions/examples/us-eu-ap.rtt", "re");

    EXPECT_TRUE(f != NULL);
    EXPECT_TRUE(fread(text, 1, sizeof(text) - 1, f) > 0);
    (void)fclose(f);
    EXPECT_STREQ(text, demo_rtt_text());
    arena_init(&arena, 0);
    m = ARENA_NEW(&arena, struct rtt_matrix);
    EXPECT_OK(rtt_parse(bytes_str(demo_rtt_text()), &arena, m));
    EXPECT_EQ(3, m->count);
    arena_deinit(&arena);
}

/* ---- state --------------------------------------------------------------------------------------- */

TEST(demo, remembers_itself)
{
    struct demo *back = NULL;
    struct rig r;

    rig_init(&r);
    back = ARENA_NEW(&r.arena, struct demo);
    EXPECT_OK(demo_layout(DEMO_REGIONS, 0, &r.arena, r.d));
    fill_ports(r.d);
    r.d->rtt = true;
    r.d->joined = 4;
    r.d->cut[2][7] = true;
    r.d->nodes[3].process = (struct process_name){4711, UINT64_MAX};
    EXPECT_OK(demo_save(r.d, &r.arena));
    EXPECT_OK(demo_load(r.dir, &r.arena, back));
    EXPECT_EQ(9, back->count);
    EXPECT_EQ(4, back->joined);
    EXPECT_TRUE(back->rtt);
    EXPECT_TRUE(back->cut[2][7]);
    EXPECT_FALSE(back->cut[7][2]);
    EXPECT_EQ(4711, back->nodes[3].process.pid);
    EXPECT_TRUE(back->nodes[3].process.start_ticks == UINT64_MAX);
    EXPECT_EQ(0, back->nodes[4].process.pid);
    EXPECT_EQ(1008, back->nodes[8].sql_port);
    EXPECT_EQ(2008, back->nodes[8].rpc_port);
    EXPECT_EQ(65527, back->nodes[8].http_port);
    EXPECT_STREQ("ap-southeast-1c", back->nodes[8].zone);
    rig_deinit(&r);
}

#define NODE(id, pid)                                                                  \
    "{\"id\":" #id                                                                     \
    ",\"region\":\"a\",\"zone\":\"aa\",\"sql_port\":1,\"rpc_port\":2,\"http_port\":3," \
    "\"pid\":" #pid ",\"start_ticks\":7}"
#define STATE(boot, joined, nodes, cuts)                                                          \
    "{\"version\":1,\"boot\":\"" boot "\",\"rtt\":false,\"joined\":" #joined ",\"nodes\":[" nodes \
    "],\"cuts\":[" cuts "]}"

/* After a reboot the same pid with the same start time may be anybody. */
TEST(demo, pids_of_another_boot_are_nobody)
{
    struct rig r;

    rig_init(&r);
    EXPECT_OK(demo_decode(BYTES_LIT(STATE("another", 1, NODE(1, 4711), "")), &r.arena, r.d));
    EXPECT_EQ(1, r.d->count);
    EXPECT_EQ(0, r.d->nodes[0].process.pid);
    rig_deinit(&r);
}

TEST(demo, refuses_state_that_would_hurt)
{
    static const char *const wrong[] = {
        "{}",
        "[]",
        "{\"version\":2}",
        STATE("", 0, "", ""),
        STATE("", 0, NODE(2, 1), ""),
        STATE("", 2, NODE(1, 1), ""),
        STATE("", 4294967297, NODE(1, 1), ""),
        STATE("", 0, NODE(1, 1) "," NODE(1, 1), ""),
        STATE("", 0, NODE(1, 1), "{\"from\":1,\"to\":2}"),
        STATE("", 0, NODE(1, 1), "{\"from\":1,\"to\":1}"),
        STATE("", 0, NODE(1, 1), "{\"from\":0,\"to\":1}"),
        STATE("", 0,
              "{\"id\":1,\"region\":\"\",\"zone\":\"z\",\"sql_port\":1,\"rpc_port\":1,"
              "\"http_port\":1}",
              ""),
        STATE("", 0,
              "{\"id\":1,\"region\":\"r\",\"zone\":\"z\",\"sql_port\":65536,\"rpc_port\":1,"
              "\"http_port\":1}",
              ""),
    };
    struct rig r;

    rig_init(&r);
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        const struct status st = demo_decode(bytes_str(wrong[i]), &r.arena, r.d);

        if (st.code != STATUS_CORRUPT) {
            test_fail(__FILE__, __LINE__, "state %zu was taken (%s)", i, status_text(st));
        }
    }
    EXPECT_CODE(STATUS_INVALID, demo_decode(BYTES_LIT("{"), &r.arena, r.d));
    EXPECT_CODE(STATUS_NOT_FOUND, demo_load(r.dir, &r.arena, r.d));
    rig_deinit(&r);
}

TEST(demo, reads_as_many_nodes_as_fit_and_no_more)
{
    struct demo *back = NULL;
    struct buf text = {0};
    struct rig r;

    rig_init(&r);
    back = ARENA_NEW(&r.arena, struct demo);
    EXPECT_OK(demo_layout("a", DEMO_NODES_MAX, &r.arena, r.d));
    fill_ports(r.d);
    EXPECT_OK(demo_encode(r.d, &text));
    EXPECT_OK(demo_decode(buf_bytes(&text), &r.arena, back));
    EXPECT_EQ(DEMO_NODES_MAX, back->count);
    buf_deinit(&text);
    rig_deinit(&r);
}

TEST(demo, lock_makes_directories_and_keeps_others_out)
{
    struct rig r;
    struct stat info = {0};
    int fd = -1;

    rig_init(&r);
    EXPECT_OK(demo_lock(arena_printf(&r.arena, "%s/a/b", r.dir), &r.arena, &fd));
    EXPECT_EQ(0, stat(arena_printf(&r.arena, "%s/a/b", r.dir), &info));
    EXPECT_EQ(0700, info.st_mode & 0777);
    demo_unlock(fd);
    EXPECT_OK(demo_lock(arena_printf(&r.arena, "%s/a/b", r.dir), &r.arena, &fd));
    demo_unlock(fd);
    demo_unlock(-1);
    rig_deinit(&r);
}
