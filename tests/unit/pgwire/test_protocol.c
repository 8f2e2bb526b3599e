/* The conversation after the login, byte by byte, over sockets in memory and a session made of words. */
#include "node/base/codec.h"
#include "node/base/hash.h"
#include "tests/lib/test.h"
#include "tests/unit/pgwire/wire_client.h"

static struct wire_client *logged_in(struct wire_test **t)
{
    struct wire_client *c = NULL;

    *t = wire_test_create(NULL);
    c = wire_client_connect(*t);
    wire_client_login(c);
    return c;
}

static void end(struct wire_test *t, struct wire_client *c)
{
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(protocol, query_answers_rows_tag_and_ready)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_query(c, "rows 3");
    EXPECT_STREQ("T(n:23,t:25) D(1,row 1) D(2,row 2) D(3,-) C(SELECT 3) Z(I)", wire_hear(c));
    wire_say_query(c, "");
    EXPECT_STREQ("I Z(I)", wire_hear(c));
    wire_say_query(c, "notice");
    EXPECT_STREQ("N(00000) S(TimeZone) C(SET) Z(I)", wire_hear(c));
    wire_say_query(c, "begin");
    EXPECT_STREQ("C(BEGIN) Z(T)", wire_hear(c));
    wire_say_query(c, "error");
    EXPECT_STREQ("E(42601@4) Z(E)", wire_hear(c));
    wire_say_query(c, "commit");
    EXPECT_STREQ("C(ROLLBACK) Z(I)", wire_hear(c));
    end(t, c);
}

/* Positions count characters, not bytes: three umlauts before the place. */
TEST(protocol, error_position_counts_characters)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_parse(c, "", "bad");
    wire_say_sync(c);
    EXPECT_STREQ("E(42601@2) Z(I)", wire_hear(c));
    wire_say_query(c, "\xc3\xa4\xc3\xa4");
    EXPECT_STREQ("E(42601@1) Z(I)", wire_hear(c));
    end(t, c);
}

TEST(protocol, extended_group_answers_once_at_sync)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_parse(c, "s", "rows 2");
    wire_say_describe(c, 'S', "s");
    wire_say_bind(c, "", "s", 1);
    wire_say_describe(c, 'P', "");
    wire_say_execute(c, "", 0);
    EXPECT_STREQ("", wire_hear(c)); /* Nothing before Sync or Flush. */
    wire_say_sync(c);
    EXPECT_STREQ("1 t(1) T(n:23,t:25) 2 T(n:23b,t:25b) D(\\00\\00\\00\\01,row 1) "
                 "D(\\00\\00\\00\\02,row 2) C(SELECT 2) Z(I)",
                 wire_hear(c));
    end(t, c);
}

TEST(protocol, flush_sends_without_ending)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_parse(c, "", "write");
    wire_say_bind(c, "", "", 0);
    wire_say_execute(c, "", 0);
    wire_say_message(c, 'H', "", 0);
    EXPECT_STREQ("1 2 C(INSERT 0 1)", wire_hear(c));
    wire_say_sync(c);
    EXPECT_STREQ("Z(I)", wire_hear(c));
    end(t, c);
}

TEST(protocol, portal_is_suspended_and_goes_on)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_parse(c, "", "rows 3");
    wire_say_bind(c, "p", "", 0);
    wire_say_execute(c, "p", 2);
    wire_say_execute(c, "p", 2);
    wire_say_message(c, 'C', "Pp", 3);
    wire_say_execute(c, "p", 2);
    wire_say_sync(c);
    EXPECT_STREQ("1 2 D(1,row 1) D(2,row 2) s D(3,-) C(SELECT 1) 3 E(34000) Z(I)", wire_hear(c));
    end(t, c);
}

TEST(protocol, pipelined_groups_answer_in_order)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    for (int i = 0; i < 3; i++) {
        wire_say_parse(c, "", i == 1 ? "bad" : "rows 1");
        wire_say_bind(c, "", "", 0);
        wire_say_execute(c, "", 0);
        wire_say_sync(c);
    }
    EXPECT_STREQ("1 2 D(1,row 1) C(SELECT 1) Z(I) E(42601@2) Z(I) 1 2 D(1,row 1) C(SELECT 1) Z(I)",
                 wire_hear(c));
    end(t, c);
}

/* After an error everything is skipped up to Sync, Query included. */
TEST(protocol, error_skips_to_sync)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_bind(c, "", "nobody", 0);
    wire_say_execute(c, "", 0);
    wire_say_query(c, "rows 1");
    wire_say_message(c, 'B', "garbage", 7);
    wire_say_sync(c);
    wire_say_query(c, "rows 1");
    EXPECT_STREQ("E(26000) Z(I) T(n:23,t:25) D(1,row 1) C(SELECT 1) Z(I)", wire_hear(c));
    end(t, c);
}

/* One byte at a time: framing does not depend on how bytes arrive. */
TEST(protocol, messages_arrive_in_single_bytes)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);
    const char *bytes = "Q\0\0\0\x0brows 1\0";

    for (size_t i = 0; i < 12; i++) {
        wire_say(c, bytes + i, 1);
        EXPECT_STREQ(i < 11 ? "" : "T(n:23,t:25) D(1,row 1) C(SELECT 1) Z(I)", wire_hear(c));
    }
    end(t, c);
}

TEST(protocol, wrong_lengths_and_types_end_the_connection)
{
    const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"Q\0\0\0\3", 5},         /* Shorter than its own length. */
        {"Q\xff\xff\xff\xff", 5}, /* Negative. */
        {"Q\4\0\0\1", 5},         /* One byte above the limit. */
        {"\0\0\0\0\4", 5},        /* No such type. */
        {"z\0\0\0\4", 5},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct wire_test *t = NULL;
        struct wire_client *c = logged_in(&t);

        wire_say(c, cases[i].bytes, cases[i].size);
        EXPECT_STREQ("E(FATAL 08P01) closed", wire_hear(c));
        end(t, c);
    }
}

TEST(protocol, bodies_that_make_no_sense_are_errors)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_message(c, 'Q', "no end", 6);
    EXPECT_STREQ("E(08P01) Z(I)", wire_hear(c));
    wire_say_message(c, 'P', "a\0b\0\0\1", 6); /* One type promised, none there. */
    wire_say_sync(c);
    EXPECT_STREQ("E(08P01) Z(I)", wire_hear(c));
    wire_say_message(c, 'B', "\0\0\0\0\xff\xff", 6);
    wire_say_sync(c);
    EXPECT_STREQ("E(08P01) Z(I)", wire_hear(c));
    wire_say_message(c, 'D', "X\0", 2);
    wire_say_sync(c);
    EXPECT_STREQ("E(08P01) Z(I)", wire_hear(c));
    wire_say_message(c, 'E', "\0\0", 2);
    wire_say_sync(c);
    EXPECT_STREQ("E(08P01) Z(I)", wire_hear(c));
    wire_say_message(c, 'S', "x", 1);
    EXPECT_STREQ("E(08P01) Z(I)", wire_hear(c));
    end(t, c);
}

TEST(protocol, copy_data_is_ignored_and_function_calls_are_refused)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_message(c, 'd', "xyz", 3);
    wire_say_message(c, 'c', "", 0);
    wire_say_message(c, 'f', "why\0", 4);
    wire_say_message(c, 'F', "\0\0\0\1", 4);
    EXPECT_STREQ("E(0A000) Z(I)", wire_hear(c));
    end(t, c);
}

TEST(protocol, terminate_closes)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_message(c, 'X', "", 0);
    EXPECT_STREQ("closed", wire_hear(c));
    EXPECT_EQ(0, pgwire_connections(t->server));
    EXPECT_EQ(0, t->sql.sessions);
    end(t, c);
}

TEST(protocol, fatal_error_of_the_session_closes)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_query(c, "fatal");
    EXPECT_STREQ("E(FATAL 57P01) closed", wire_hear(c));
    end(t, c);
}

/* The client vanishes while its statement runs: the statement is cancelled, all is freed. */
TEST(protocol, closed_socket_cancels_the_statement)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_query(c, "sleep");
    EXPECT_STREQ("", wire_hear(c));
    wire_client_close(c);
    EXPECT_EQ(1, t->sql.cancelled);
    EXPECT_EQ(0, pgwire_connections(t->server));
    EXPECT_EQ(0, t->sql.sessions);
    end(t, c);
}

TEST(protocol, cancel_request_needs_the_key)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);
    struct wire_client *other = NULL;
    uint8_t body[8];

    wire_say_query(c, "sleep");
    EXPECT_STREQ("", wire_hear(c));
    be32_put(body, c->pid);
    be32_put(body + 4, c->key + 1);
    other = wire_client_connect(t);
    wire_say_startup(other, 80877102, body, 8);
    EXPECT_STREQ("closed", wire_hear(other));
    EXPECT_STREQ("", wire_hear(c));
    wire_client_destroy(other);

    be32_put(body + 4, c->key);
    other = wire_client_connect(t);
    wire_say_startup(other, 80877102, body, 8);
    EXPECT_STREQ("closed", wire_hear(other));
    EXPECT_STREQ("E(57014) Z(I)", wire_hear(c));
    wire_client_destroy(other);

    wire_say_query(c, "rows 1"); /* The cancel is spent. */
    EXPECT_STREQ("T(n:23,t:25) D(1,row 1) C(SELECT 1) Z(I)", wire_hear(c));
    end(t, c);
}

/* A conflict at the commit: the rows of the first tries are never seen. */
TEST(protocol, rows_are_taken_back_when_a_transaction_runs_again)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_parse(c, "", "conflict 3");
    wire_say_bind(c, "", "", 0);
    wire_say_execute(c, "", 0);
    wire_say_sync(c);
    EXPECT_STREQ("1 2 D(1,row 1) C(SELECT 1) Z(I)", wire_hear(c));
    end(t, c);
}

/* Not when something else was said behind them, or they have left. */
TEST(protocol, rows_are_not_taken_back_from_behind_other_answers)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_parse(c, "", "conflict 1");
    wire_say_bind(c, "", "", 0);
    wire_say_execute(c, "", 0);
    wire_say_message(c, 'C', "P\0", 2);
    wire_say_sync(c);
    EXPECT_STREQ("1 2 D(1,row 1) C(SELECT 1) 3 E(40001) Z(I)", wire_hear(c));
    wire_say_bind(c, "", "", 0);
    wire_say_execute(c, "", 0);
    wire_say_message(c, 'H', "", 0);
    wire_say_sync(c);
    EXPECT_STREQ("2 D(1,row 1) C(SELECT 1) E(40001) Z(I)", wire_hear(c));
    end(t, c);
}

/* A result larger than every buffer of ours goes through. */
TEST(protocol, large_rows_and_many_rows_go_through)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_query(c, "wide 3000000");
    EXPECT_STREQ("T(n:23,t:25) D(1,3000000 bytes) C(SELECT 1) Z(I)", wire_hear(c));
    wire_say_query(c, "rows 200000");
    EXPECT_TRUE(strstr(wire_hear(c), "C(SELECT 200000) Z(I)") != NULL);
    end(t, c);
}

/* An answer above the limit of the buffer ends the connection with a reason. */
TEST(protocol, answer_above_the_limit_is_an_error)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);
    const char *heard = NULL;

    wire_say_query(c, "wide 70000000");
    heard = wire_hear(c);
    EXPECT_TRUE(strstr(heard, "E(FATAL 53200) closed") != NULL);
    end(t, c);
}

/* A client that pipelines without end is read at the pace at which it is answered. */
TEST(protocol, flood_of_messages_is_answered_completely)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);
    const char *heard = NULL;
    uint32_t ready = 0;

    for (int i = 0; i < 20000; i++) {
        wire_say_query(c, "write");
    }
    heard = wire_hear(c);
    for (const char *p = heard; (p = strstr(p, "Z(I)")) != NULL; p++) {
        ready++;
    }
    EXPECT_EQ(20000, ready);
    end(t, c);
}

/* A message of some megabytes is assembled; its statement sees all of it. */
TEST(protocol, large_message_is_assembled)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);
    struct buf text = {0};

    EXPECT_OK(buf_append_str(&text, "rows 1"));
    EXPECT_OK(buf_append_u8(&text, 0));
    while (text.len < 3000000) {
        EXPECT_OK(buf_append_str(&text, "tail tail tail tail tail tail "));
    }
    text.ptr[text.len - 1] = 0;
    wire_say_message(c, 'Q', text.ptr, text.len); /* An inner NUL: malformed, read to its end. */
    wire_say_query(c, "rows 1");
    EXPECT_STREQ("E(08P01) Z(I) T(n:23,t:25) D(1,row 1) C(SELECT 1) Z(I)", wire_hear(c));
    buf_deinit(&text);
    end(t, c);
}

TEST(protocol, stop_tells_idle_clients_and_waits_for_the_others)
{
    struct wire_test *t = NULL;
    struct wire_client *idle = logged_in(&t);
    struct wire_client *block = wire_client_connect(t);
    struct wire_client *late = NULL;

    wire_client_login(block);
    wire_say_query(block, "begin");
    EXPECT_STREQ("C(BEGIN) Z(T)", wire_hear(block));
    pgwire_stop(t->server, 1000000000);
    EXPECT_STREQ("E(FATAL 57P01) closed", wire_hear(idle));
    late = wire_client_connect(t);
    EXPECT_STREQ("closed", wire_hear(late));
    wire_say_query(block, "rows 1");
    EXPECT_STREQ("T(n:23,t:25) D(1,row 1) C(SELECT 1) Z(T)", wire_hear(block));
    EXPECT_FALSE(pgwire_stopped(t->server));
    wire_say_query(block, "commit");
    EXPECT_STREQ("C(COMMIT) Z(I) E(FATAL 57P01) closed", wire_hear(block));
    EXPECT_TRUE(pgwire_stopped(t->server));
    wire_client_destroy(late);
    wire_client_destroy(idle);
    end(t, block);
}

TEST(protocol, stop_cuts_what_does_not_end)
{
    struct wire_test *t = NULL;
    struct wire_client *c = logged_in(&t);

    wire_say_query(c, "sleep");
    (void)wire_hear(c);
    pgwire_stop(t->server, 1000000000);
    (void)wire_hear(c);
    EXPECT_FALSE(pgwire_stopped(t->server));
    fake_world_advance(t->world, 1000000000);
    EXPECT_TRUE(pgwire_stopped(t->server));
    end(t, c);
}

/* Random messages of random bytes: whatever comes back, the server stands and frees everything. */
TEST(protocol, random_bytes_never_harm)
{
    struct rng rng;

    rng_seed(&rng, 7);
    for (int round = 0; round < 60; round++) {
        struct wire_test *t = NULL;
        struct wire_client *c = logged_in(&t);

        for (int i = 0; i < 40; i++) {
            uint8_t body[64];
            const size_t size = (size_t)rng_below(&rng, sizeof(body));

            for (size_t k = 0; k < size; k++) {
                body[k] = rng_permille(&rng, 500) ? 0 : (uint8_t)rng_next(&rng);
            }
            wire_say_message(c, "QPBDECSHFdcf"[rng_below(&rng, 12)], body, size);
        }
        wire_say(c, "\xff\xff\xff", 3);
        (void)wire_hear(c);
        end(t, c);
    }
}
