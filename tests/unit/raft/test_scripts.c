/*
 * test_scripts.c -- runs tests/unit/raft/scripts/NAME.txt: commands and the trace they must produce.
 *
 * A block is one command line, a line `----`, and the expected output up to an empty line. Lines that
 * start with # are for the reader. RAFT_REWRITE=1 in the environment records the output anew; the
 * difference is then reviewed like code.
 *
 *   nodes V [L]            V voters, L learners, all at index 10 of term 5; everybody supports everybody
 *                          for 3000 ms from then on. First command.
 *   campaign N | tick N [TIMES] | advance MS
 *   ready N                one Ready: sends, starts the write
 *   write-done N           the oldest write becomes durable
 *   hold N | release N     settle leaves the writes of N alone (until released)
 *   deliver A B [TYPE]     all packets from A to B (of that type)
 *   drop A B [TYPE]
 *   settle [except N]      Readys, writes and deliveries until nothing moves (N is not touched)
 *   propose N TEXT | conf N 1V 2L 3I 4D
 *   transfer N TARGET      begin and revoke; finish N; abort N
 *   crash N | restart N | truncate N INDEX | unreachable N PEER
 *   support S R MS         the store of S supports that of R for so long from now
 *   withdraw S R           it does no longer (only once the promise has passed!)
 *   expire                 withdraws all support that has passed
 *   lsu N | status | progress N | log N
 */
#include <dirent.h>
#include <stdlib.h>

#include "node/base/blob.h"
#include "node/base/invariant.h"
#include "tests/unit/raft/sim.h"

#define SCRIPTS   "tests/unit/raft/scripts"
#define WORDS_MAX 16
#define TEXT_MAX  ((size_t)1 << 20)

struct script {
    struct sim sim;
    bool started;
    struct buf out;
    char *words[WORDS_MAX];
    uint32_t words_count;
};

static uint64_t number(const struct script *c, uint32_t at, uint64_t otherwise)
{
    return at < c->words_count ? strtoull(c->words[at], NULL, 10) : otherwise;
}

static struct sim_node *node(struct script *c, uint32_t at)
{
    return sim_find(&c->sim, (replica_id){(uint32_t)number(c, at, 0)});
}

static void say_status(struct script *c, struct status st)
{
    if (!status_ok(st)) {
        sim_trace(&c->sim, "%s: %s\n", status_code_text(st.code), status_text(st));
    }
}

static bool wanted(const struct script *c, const struct raft_msg *m)
{
    return m->from.v == number(c, 1, 0) && m->to.v == number(c, 2, 0) &&
           (c->words_count < 4 || strcmp(c->words[3], raft_msg_type_text(m->type)) == 0);
}

/* Only what is there now: what the receiver answers stays in the network. */
static void cmd_packets(struct script *c, bool deliver)
{
    struct sim *s = &c->sim;
    uint32_t left = s->packets_count;
    uint32_t done = 0;

    for (uint32_t i = 0; left > 0; left--) {
        if (!wanted(c, &s->packets[i].m)) {
            i++;
            continue;
        }
        if (deliver) {
            sim_deliver(s, i, false);
        } else {
            sim_drop(s, i);
        }
        done++;
    }
    sim_trace(s, "%u %s\n", done, deliver ? "delivered" : "dropped");
}

static bool deliver_first(struct sim *s, uint32_t except)
{
    for (uint32_t i = 0; i < s->packets_count; i++) {
        if (s->packets[i].m.to.v != except && s->packets[i].m.from.v != except) {
            sim_deliver(s, i, false);
            return true;
        }
    }
    return false;
}

static void cmd_settle(struct script *c)
{
    struct sim *s = &c->sim;
    const uint32_t except = (uint32_t)number(c, 2, 0);
    bool busy = true;

    for (uint32_t round = 0; busy && round < 100; round++) {
        busy = false;
        for (uint32_t i = 0; i < s->count; i++) {
            struct sim_node *n = &s->nodes[i];

            if (n->id.v == 0 || n->id.v == except) {
                continue;
            }
            busy = sim_ready(n) || busy;
            while (!n->hold_writes && sim_write_done(n)) {
                busy = true;
            }
        }
        while (deliver_first(s, except)) {
            busy = true;
        }
    }
    if (busy) {
        sim_violate(s, "does not settle");
    }
}

static void cmd_nodes(struct script *c)
{
    sim_init(&c->sim, (uint32_t)number(c, 1, 3), (uint32_t)number(c, 2, 0), 1, 0);
    c->started = true;
    c->sim.trace = &c->out;
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        const struct hts until = {c->sim.now_ns + SIM_SUPPORT_NS, 0};

        c->sim.nodes[i].max_requested = until;
        for (uint32_t k = 0; i < c->sim.count && k < c->sim.count; k++) {
            if (i != k) {
                sim_support(&c->sim, i, k, until);
            }
        }
    }
}

static void cmd_support(struct script *c)
{
    struct sim *s = &c->sim;
    const struct hts until = {s->now_ns + number(c, 3, 3000) * 1000000, 0};
    const uint32_t supporter = (uint32_t)(number(c, 1, 0) - 1);
    const uint32_t requester = (uint32_t)(number(c, 2, 0) - 1);

    s->nodes[requester].max_requested = hts_max(s->nodes[requester].max_requested, until);
    sim_support(s, requester, supporter, until);
}

static void cmd_expire(struct script *c)
{
    struct sim *s = &c->sim;

    for (uint32_t i = 0; i < s->count; i++) {
        for (uint32_t k = 0; k < s->count; k++) {
            struct sim_support *p = &s->support[i][k];

            if (!hts_is_zero(p->expiration) && p->expiration.wall <= s->now_ns) {
                sim_withdraw(s, i, k);
                p->from_expiration = HTS_ZERO;
                sim_support_changed(&s->nodes[i], k);
            }
        }
    }
}

static void cmd_conf(struct script *c)
{
    struct raft_conf conf;

    memset(&conf, 0, sizeof(conf));
    for (uint32_t i = 2; i < c->words_count; i++) {
        char *end = NULL;
        const uint32_t id = (uint32_t)strtoul(c->words[i], &end, 10);

        conf.peers[conf.count++] = (struct raft_peer){{id},
                                                      {(id - 1) % 16 + 1},
                                                      *end == 'L'   ? RAFT_LEARNER
                                                      : *end == 'I' ? RAFT_VOTER_INCOMING
                                                      : *end == 'D' ? RAFT_VOTER_DEMOTING
                                                                    : RAFT_VOTER};
    }
    say_status(c, sim_propose(node(c, 1), NULL, &conf));
}

static void cmd_status(struct script *c)
{
    for (uint32_t i = 0; i < c->sim.count; i++) {
        const struct sim_node *n = &c->sim.nodes[i];
        struct raft_state st;

        if (n->r == NULL) {
            if (n->id.v != 0) {
                sim_trace(&c->sim, "%u: down\n", n->id.v);
            }
            continue;
        }
        st = raft_get_state(n->r);
        sim_trace(&c->sim,
                  "%u: %s term=%" PRIu64 " leader=%u commit=%" PRIu64 " applied=%" PRIu64
                  " stable=%" PRIu64 " last=%" PRIu64 "%s%s%s\n",
                  n->id.v, raft_role_text(st.role), st.term, st.leader.v, st.commit, st.applied,
                  st.stable, st.last, raft_quiet(n->r) ? " quiet" : "",
                  st.transferring ? " transferring" : "", st.stepping_down ? " stepping down" : "");
    }
}

static void cmd_progress(struct script *c)
{
    static const char *const states[] = {"probe", "replicate", "snapshot"};
    const struct sim_node *n = node(c, 1);
    const struct raft_conf *conf = raft_get_conf(n->r);

    for (uint32_t i = 0; i < conf->count; i++) {
        struct raft_progress p;

        if (conf->peers[i].id.v != n->id.v && raft_get_progress(n->r, conf->peers[i].id, &p)) {
            sim_trace(&c->sim, "%u%c: %s match=%" PRIu64 " next=%" PRIu64 "%s\n",
                      conf->peers[i].id.v, "VLID"[conf->peers[i].type], states[p.state], p.match,
                      p.next, p.fortified ? " fortified" : "");
        }
    }
}

static void cmd_log(struct script *c)
{
    const struct sim_node *n = node(c, 1);
    const uint64_t last = raft_get_state(n->r).last;

    for (uint64_t i = n->disk.truncated_index + 1; i <= last; i++) {
        struct raft_entry e;
        uint32_t count = 0;

        if (status_ok(raft_read_entries(n->r, i, i, 1, &e, &count)) && count == 1) {
            const struct bytes b = blob_bytes(e.payload);

            sim_trace(&c->sim, "%" PRIu64 "/%" PRIu64 " %.*s\n", e.term, e.index,
                      e.kind == RAFT_ENTRY_CONF ? 4 : (int)b.len,
                      e.kind == RAFT_ENTRY_CONF ? "conf" : (const char *)b.ptr);
            blob_release(e.payload);
        }
    }
}

/* Commands on the core of one node. False when it is none of these. */
static bool run_core_command(struct script *c, const char *cmd, struct sim_node *n)
{
    if (strcmp(cmd, "campaign") == 0) {
        raft_campaign(n->r);
    } else if (strcmp(cmd, "tick") == 0) {
        for (uint64_t i = number(c, 2, 1); i > 0; i--) {
            raft_tick(n->r);
        }
    } else if (strcmp(cmd, "propose") == 0) {
        say_status(c, sim_propose(n, c->words[2], NULL));
    } else if (strcmp(cmd, "conf") == 0) {
        cmd_conf(c);
    } else if (strcmp(cmd, "transfer") == 0) {
        say_status(c, sim_transfer(n, (replica_id){(uint32_t)number(c, 2, 0)}));
    } else if (strcmp(cmd, "finish") == 0) {
        const uint64_t term = raft_get_state(n->r).term;
        const struct status st = raft_transfer_finish(n->r);

        if (status_ok(st)) {
            c->sim.terms[term].released = true;
        }
        say_status(c, st);
    } else if (strcmp(cmd, "abort") == 0) {
        raft_transfer_abort(n->r);
    } else if (strcmp(cmd, "unreachable") == 0) {
        raft_report_unreachable(n->r, (replica_id){(uint32_t)number(c, 2, 0)});
    } else if (strcmp(cmd, "lsu") == 0) {
        const struct hts t = raft_lead_support_until(n->r);

        sim_trace(&c->sim, "%" PRIu64 " ms (now %" PRIu64 " ms)\n", t.wall / 1000000,
                  c->sim.now_ns / 1000000);
    } else {
        return false;
    }
    sim_observe(n);
    return true;
}

static bool run_node_command(struct script *c, const char *cmd, struct sim_node *n)
{
    if (strcmp(cmd, "ready") == 0) {
        (void)sim_ready(n);
    } else if (strcmp(cmd, "write-done") == 0) {
        (void)sim_write_done(n);
    } else if (strcmp(cmd, "hold") == 0) {
        n->hold_writes = true;
    } else if (strcmp(cmd, "release") == 0) {
        n->hold_writes = false;
    } else if (strcmp(cmd, "crash") == 0) {
        sim_crash(n);
    } else if (strcmp(cmd, "restart") == 0) {
        sim_restart(n);
    } else if (strcmp(cmd, "truncate") == 0) {
        sim_truncate(n, number(c, 2, 0));
    } else if (strcmp(cmd, "progress") == 0) {
        cmd_progress(c);
    } else if (strcmp(cmd, "log") == 0) {
        cmd_log(c);
    } else if (n->r == NULL) {
        sim_trace(&c->sim, "replica is down\n");
    } else {
        return run_core_command(c, cmd, n);
    }
    return true;
}

static void advance(struct script *c)
{
    sim_set_time(&c->sim, c->sim.now_ns + number(c, 1, 100) * 1000000);
    for (uint32_t i = 0; i < c->sim.count; i++) {
        sim_boot_if_due(&c->sim.nodes[i]);
    }
}

static void run_command(struct script *c, char *line)
{
    const char *cmd = NULL;
    char *rest = NULL;

    c->words_count = 0;
    for (char *w = strtok_r(line, " ", &rest); w != NULL && c->words_count < WORDS_MAX;
         w = strtok_r(NULL, " ", &rest)) {
        c->words[c->words_count++] = w;
    }
    cmd = c->words[0];
    if (strcmp(cmd, "nodes") == 0) {
        cmd_nodes(c);
    } else if (strcmp(cmd, "settle") == 0) {
        cmd_settle(c);
    } else if (strcmp(cmd, "deliver") == 0) {
        cmd_packets(c, true);
    } else if (strcmp(cmd, "drop") == 0) {
        cmd_packets(c, false);
    } else if (strcmp(cmd, "status") == 0) {
        cmd_status(c);
    } else if (strcmp(cmd, "advance") == 0) {
        advance(c);
    } else if (strcmp(cmd, "support") == 0) {
        cmd_support(c);
    } else if (strcmp(cmd, "withdraw") == 0) {
        sim_withdraw(&c->sim, (uint32_t)number(c, 2, 0) - 1, (uint32_t)number(c, 1, 0) - 1);
    } else if (strcmp(cmd, "expire") == 0) {
        cmd_expire(c);
    } else if (node(c, 1) == NULL || !run_node_command(c, cmd, node(c, 1))) {
        sim_trace(&c->sim, "unknown command or replica\n");
    }
    if (sim_broken(&c->sim)) {
        sim_trace(&c->sim, "BROKEN: %s\n", c->sim.violation);
    }
    if (c->out.len == 0) {
        sim_trace(&c->sim, "ok\n");
    }
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, TEXT_MAX);

    INVARIANT(text != NULL);
    if (f == NULL || fread(text, 1, TEXT_MAX - 1, f) == 0) {
        text[0] = '\0';
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return text;
}

/* Takes one line off the text; NULL at the end. */
static char *next_line(char **at)
{
    char *line = *at;
    char *end = strchr(line, '\n');

    if (*line == '\0') {
        return NULL;
    }
    if (end != NULL) {
        *end = '\0';
        *at = end + 1;
    } else {
        *at = line + strlen(line);
    }
    return line;
}

static void append(struct buf *b, const char *text)
{
    INVARIANT(status_ok(buf_append_str(b, text)));
}

/* Runs a whole script into `made`: what the file would be if it were recorded now. */
static bool play(char *text, struct buf *made)
{
    struct script *c = calloc(1, sizeof(*c));
    char *at = text;
    bool ok = true;

    INVARIANT(c != NULL);
    for (char *line = next_line(&at); line != NULL; line = next_line(&at)) {
        append(made, line);
        append(made, "\n");
        if (line[0] == '#' || line[0] == '\0') {
            continue;
        }
        buf_clear(&c->out);
        run_command(c, line);
        append(made, "----\n");
        INVARIANT(status_ok(buf_append_bytes(made, buf_bytes(&c->out))));
        append(made, "\n");
        do { /* What was recorded. */
            line = next_line(&at);
        } while (line != NULL && line[0] != '\0');
        ok = ok && !sim_broken(&c->sim);
    }
    while (made->len > 1 && made->ptr[made->len - 2] == '\n') {
        made->len--; /* No empty lines at the end. */
    }
    INVARIANT(status_ok(buf_append_u8(made, 0)));
    if (c->started) {
        sim_deinit(&c->sim);
    }
    buf_deinit(&c->out);
    free(c);
    return ok;
}

static int first_difference(const char *a, const char *b)
{
    int line = 1;

    for (; *a != '\0' && *a == *b; a++, b++) {
        line += *a == '\n' ? 1 : 0;
    }
    return *a == *b ? 0 : line;
}

static void run_script(const char *name)
{
    char path[256];
    char *text = NULL;
    char *copy = NULL;
    struct buf made;
    bool ok = false;
    int line = 0;

    (void)snprintf(path, sizeof(path), SCRIPTS "/%s.txt", name);
    text = read_file(path);
    copy = strdup(text);
    INVARIANT(copy != NULL);
    buf_init(&made, 0);
    ok = play(copy, &made);
    line = first_difference(text, (const char *)made.ptr);
    if (line != 0 && getenv("RAFT_REWRITE") != NULL) {
        FILE *f = fopen(path, "w");

        INVARIANT(f != NULL);
        INVARIANT(fwrite(made.ptr, 1, made.len - 1, f) == made.len - 1);
        INVARIANT(fclose(f) == 0);
        line = 0;
    }
    if (text[0] == '\0' || line != 0) {
        test_fail(path, line, "differs from here on; RAFT_REWRITE=1 records it, git diff shows it");
    }
    if (!ok) {
        test_fail(path, 0, "an invariant is broken");
    }
    buf_deinit(&made);
    free(text);
    free(copy);
}

#define SCRIPT_LIST(X) \
    X(election)        \
    X(pre_vote)        \
    X(log_repair)      \
    X(joint)           \
    X(learner)         \
    X(transfer)        \
    X(snapshot)        \
    X(fortify)         \
    X(stranded)        \
    X(async_aba)       \
    X(async_ack)       \
    X(check_quorum)    \
    X(quiet)

#define X(name)            \
    TEST(script, name)     \
    {                      \
        run_script(#name); \
    }
SCRIPT_LIST(X)
#undef X

TEST(script, no_file_is_forgotten)
{
#define X(name) +1
    const int listed = SCRIPT_LIST(X);
#undef X
    int files = 0;
    DIR *d = opendir(SCRIPTS);

    EXPECT_TRUE(d != NULL);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        files += strstr(e->d_name, ".txt") != NULL ? 1 : 0;
    }
    EXPECT_EQ(0, closedir(d));
    EXPECT_EQ(listed, files);
}
