/*
 * demo_act.c -- failures on purpose: `dsqlctl demo kill|restart|pause|resume|partition|heal|stop`.
 *
 * Every command takes the lock, changes processes or links, and writes demo.json before it gives the
 * lock back. What it did is told in one line.
 */
#include <signal.h>
#include <string.h>

#include "cli/client/interrupt.h"
#include "cli/cmd/demo.h"

#define RESTART_WAIT_MS 30000u

struct act_options {
    const char *dir;
    bool one_way;
};

static const struct flag dir_flags[] = {DEMO_DIR_FLAG(struct act_options)};

static const struct flag partition_flags[] = {
    {.name = "--one-way",
     .kind = FLAG_SWITCH,
     .offset = offsetof(struct act_options, one_way),
     .help = "only what the first sends to the second is lost"},
    DEMO_DIR_FLAG(struct act_options),
};

/* What a command is given: the cluster under its lock, and the nodes that were named. */
struct act {
    struct cli *c;
    struct demo *demo;
    demo_set a;
    demo_set b;
    bool one_way;
};

/* "node 3" or "nodes 4, 5 and 6". */
static const char *names_of(struct act *a, demo_set which)
{
    const char *text = "";
    int left = __builtin_popcount(which.bits);
    const char *noun = left == 1 ? "node" : "nodes";

    for (uint32_t i = 0; i < a->demo->count; i++) {
        if (demo_in(which, i)) {
            left--;
            text = arena_printf(&a->c->arena, "%s%u%s", text, a->demo->nodes[i].id,
                                left > 1 ? ", " : (left == 1 ? " and " : ""));
        }
    }
    return arena_printf(&a->c->arena, "%s %s", noun, text);
}

/* Those of a set whose process is in this state. */
static demo_set in_state(const struct demo *d, demo_set which, enum process_state s)
{
    demo_set out = {0};

    for (uint32_t i = 0; i < d->count; i++) {
        if (demo_in(which, i) && process_state(d->nodes[i].process) == s) {
            out.bits |= 1u << i;
        }
    }
    return out;
}

static demo_set all_of(const struct demo *d)
{
    return (demo_set){d->count >= 32 ? UINT32_MAX : (1u << d->count) - 1u};
}

/* ---- what the commands do ------------------------------------------------------------------------ */

static struct status do_stop(struct act *a)
{
    const demo_set was = {all_of(a->demo).bits &
                          ~in_state(a->demo, all_of(a->demo), PROCESS_GONE).bits};
    const uint32_t made = demo_stop_nodes(a->demo, was);

    if (was.bits == 0) {
        (void)fputs("Nothing was running.\n", a->c->out);
    } else if (made > 0) {
        (void)fprintf(a->c->out, "Stopped %s; %u did not end when asked and had to be killed.\n",
                      names_of(a, was), made);
    } else {
        (void)fprintf(a->c->out, "Stopped %s.\n", names_of(a, was));
    }
    return OK;
}

static struct status do_kill(struct act *a)
{
    demo_kill_nodes(a->demo, a->a);
    (void)fprintf(a->c->out, "Killed %s.\n", names_of(a, a->a));
    return OK;
}

static struct status do_restart(struct act *a)
{
    struct interrupt interrupt;
    uint32_t silent = 0;

    (void)demo_stop_nodes(a->demo, a->a); /* Ended is ended. */
    for (uint32_t i = 0; i < a->demo->count; i++) {
        if (demo_in(a->a, i)) {
            TRY(demo_start_node(a->demo, i, &a->c->arena));
            TRY(demo_save(a->demo, &a->c->arena));
        }
    }
    interrupt_init(&interrupt);
    TRY(demo_wait(a->demo, a->a, RESTART_WAIT_MS, interrupt_pending, &interrupt, &a->c->arena));
    TRY(demo_apply_cuts(a->demo, a->a, &a->c->arena, &silent)); /* Silent: ended again. */
    (void)fprintf(a->c->out, "Restarted %s.\n", names_of(a, a->a));
    return OK;
}

static struct status signal_set(struct act *a, demo_set which, int signum, const char *done,
                                const char *none)
{
    for (uint32_t i = 0; i < a->demo->count; i++) {
        if (demo_in(which, i)) {
            (void)process_signal(a->demo->nodes[i].process, signum); /* Gone by now: no matter. */
        }
    }
    if (which.bits == 0) {
        return FAIL(STATUS_NOT_FOUND, none);
    }
    (void)fprintf(a->c->out, "%s %s.\n", done, names_of(a, which));
    return OK;
}

static struct status do_pause(struct act *a)
{
    return signal_set(a, in_state(a->demo, a->a, PROCESS_RUNNING), SIGSTOP, "Paused",
                      "none of these nodes is running");
}

static struct status do_resume(struct act *a)
{
    return signal_set(a, in_state(a->demo, a->a, PROCESS_PAUSED), SIGCONT, "Resumed",
                      "none of these nodes is paused");
}

static struct status apply(struct act *a)
{
    uint32_t silent = 0;

    TRY(demo_apply_cuts(a->demo, all_of(a->demo), &a->c->arena, &silent));
    if (silent > 0) {
        (void)fprintf(a->c->err, "dsqlctl: %u node%s could not be told; the others keep to it\n",
                      silent, silent == 1 ? "" : "s");
    }
    return OK;
}

static struct status do_partition(struct act *a)
{
    if ((a->a.bits & a->b.bits) != 0) {
        return FAIL(STATUS_INVALID,
                    arena_printf(&a->c->arena, "%s would be on both sides of the partition",
                                 names_of(a, (demo_set){a->a.bits & a->b.bits})));
    }
    for (uint32_t i = 0; i < a->demo->count; i++) {
        for (uint32_t k = 0; k < a->demo->count; k++) {
            if (demo_in(a->a, i) && demo_in(a->b, k)) {
                a->demo->cut[i][k] = true;
                a->demo->cut[k][i] = a->demo->cut[k][i] || !a->one_way;
            }
        }
    }
    TRY(apply(a));
    (void)fprintf(a->c->out, "Cut %s %s %s.\n", names_of(a, a->a),
                  a->one_way ? "off on the way to" : "from", names_of(a, a->b));
    return OK;
}

static struct status do_heal(struct act *a)
{
    memset(a->demo->cut, 0, sizeof(a->demo->cut));
    TRY(apply(a));
    (void)fputs("All links are whole.\n", a->c->out);
    return OK;
}

/* ---- around them --------------------------------------------------------------------------------- */

static struct status act_on(struct act *a, char **args, uint32_t args_count,
                            struct status (*what)(struct act *a))
{
    struct status st = OK;
    struct status saved = OK;

    if (args_count > 0) {
        TRY(demo_find(a->demo, args[0], &a->c->arena, &a->a));
    }
    if (args_count > 1) {
        TRY(demo_find(a->demo, args[1], &a->c->arena, &a->b));
    }
    st = what(a);
    saved = demo_save(a->demo, &a->c->arena);
    return status_ok(st) ? saved : st;
}

static int act(struct cli *c, const struct act_options *o, char **args, uint32_t args_count,
               struct status (*what)(struct act *a))
{
    struct demo_session s;
    struct status st = demo_open(c, o->dir, true, &s);

    if (status_ok(st)) {
        struct act a = {.c = c, .demo = s.demo, .one_way = o->one_way};

        st = act_on(&a, args, args_count, what);
        demo_close(&s);
    }
    if (st.code == STATUS_CANCELLED) {
        return CLI_INTERRUPTED;
    }
    return status_ok(st) ? CLI_OK : cli_fail(c, st);
}

static int run_stop(struct cli *c, const void *options, char **args, uint32_t n)
{
    return act(c, options, args, n, do_stop);
}

static int run_kill(struct cli *c, const void *options, char **args, uint32_t n)
{
    return act(c, options, args, n, do_kill);
}

static int run_restart(struct cli *c, const void *options, char **args, uint32_t n)
{
    return act(c, options, args, n, do_restart);
}

static int run_pause(struct cli *c, const void *options, char **args, uint32_t n)
{
    return act(c, options, args, n, do_pause);
}

static int run_resume(struct cli *c, const void *options, char **args, uint32_t n)
{
    return act(c, options, args, n, do_resume);
}

static int run_partition(struct cli *c, const void *options, char **args, uint32_t n)
{
    return act(c, options, args, n, do_partition);
}

static int run_heal(struct cli *c, const void *options, char **args, uint32_t n)
{
    return act(c, options, args, n, do_heal);
}

/* ---- declarations -------------------------------------------------------------------------------- */

#define TARGET         "<node|zone|region>"
#define TARGET_DETAILS "A node is a number as in dsqlctl demo status; several are joined by commas."

#define ACT(word, args_, min_, max_, summary_, details_, flags_, run_)                       \
    {                                                                                        \
        .path = "demo " word, .args = (args_), .summary = (summary_), .details = (details_), \
        .flags = (flags_), .flags_count = (uint32_t)ARRAY_COUNT(flags_),                     \
        .options_size = sizeof(struct act_options), .args_min = (min_), .args_max = (max_),  \
        .run = (run_)                                                                        \
    }

const struct command cmd_demo_stop =
    ACT("stop", "", 0, 0, "End all nodes in order; their data stays.", NULL, dir_flags, run_stop);
const struct command cmd_demo_kill =
    ACT("kill", TARGET, 1, 1, "End nodes as a power failure would.", TARGET_DETAILS, dir_flags,
        run_kill);
const struct command cmd_demo_restart =
    ACT("restart", TARGET, 1, 1, "Start nodes again; those that run are stopped first.",
        TARGET_DETAILS, dir_flags, run_restart);
const struct command cmd_demo_pause =
    ACT("pause", TARGET, 1, 1, "Freeze nodes, as a machine that stalls.", TARGET_DETAILS, dir_flags,
        run_pause);
const struct command cmd_demo_resume =
    ACT("resume", TARGET, 1, 1, "Let paused nodes go on.", TARGET_DETAILS, dir_flags, run_resume);
const struct command cmd_demo_partition =
    ACT("partition", "<a> <b>", 2, 2, "Cut the network between two groups of nodes.",
        TARGET_DETAILS "\nCuts add up until dsqlctl demo heal.", partition_flags, run_partition);
const struct command cmd_demo_heal =
    ACT("heal", "", 0, 0, "Mend all cuts.", NULL, dir_flags, run_heal);
