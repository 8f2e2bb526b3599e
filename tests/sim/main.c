/*
 * main.c -- dsqlsim: seeds in, verdicts out.
 *
 * Every seed runs in a process of its own, so that one that crashes, hangs or leaks says so and does
 * not end the others; results come back through a pipe. A failing seed prints what broke and the
 * command that repeats it. Over a batch of seeds the counts of all faults and rare states are added
 * up: one that never happened makes the batch fail, because it has proven less than it claims.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/base/attributes.h"
#include "tests/sim/plant.h"
#include "tests/sim/sim.h"

#define JOBS_MAX     64
#define BATCH_MIN    20 /* Seeds from which on counts of zero are failures. */
#define HANG_SECONDS 600
#define PLANT_SEEDS  200

struct flags {
    struct sim_options sim;
    uint64_t first;
    uint64_t last;
    uint32_t jobs;
    bool check_determinism;
    bool plants_report;
    bool expect_failure;
    bool verbose;
    const char *plant;
};

struct totals {
    uint64_t passed;
    uint64_t failed;
    uint64_t first_failed; /* Seed; 0: none. */
    char first_failure[SIM_FAILURE_MAX];
    uint64_t simulated_ns;
    uint64_t wall_ns;
    uint64_t recovery_max_ns;
    uint64_t faults[SIM_FAULT_COUNT];
    uint64_t states[SIM_STATE_COUNT];
};

/* A seed under way. */
struct job {
    pid_t pid; /* 0: free. */
    int fd;
    uint64_t seed;
};

static uint64_t real_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- one seed ------------------------------------------------------------------------------------ */

static void run_seed(const struct flags *f, uint64_t seed, struct sim_result *out)
{
    struct sim_options o = f->sim;
    const uint64_t start = real_ns();

    o.seed = seed;
    sim_run(&o, out);
    if (f->check_determinism && !out->failed) {
        const uint64_t hash = out->hash;

        sim_run(&o, out);
        if (!out->failed && out->hash != hash) {
            out->failed = true;
            (void)snprintf(out->failure, sizeof(out->failure),
                           "not deterministic: trace hash %016" PRIx64 ", then %016" PRIx64, hash,
                           out->hash);
        }
    }
    out->wall_ns = real_ns() - start;
}

static void start_job(const struct flags *f, struct job *j, uint64_t seed)
{
    int fds[2];

    fflush(stdout);
    if (pipe(fds) != 0) {
        perror("dsqlsim: pipe");
        exit(2);
    }
    j->pid = fork();
    if (j->pid < 0) {
        perror("dsqlsim: fork");
        exit(2);
    }
    if (j->pid == 0) {
        struct sim_result r;

        (void)close(fds[0]);
        (void)alarm(HANG_SECONDS); /* A loop without end is a finding, too. */
        run_seed(f, seed, &r);
        if (write(fds[1], &r, sizeof(r)) != (ssize_t)sizeof(r)) {
            _exit(3);
        }
        exit(0); /* Not _exit(): the leak check runs now. */
    }
    (void)close(fds[1]);
    j->fd = fds[0];
    j->seed = seed;
}

static bool read_result(int fd, struct sim_result *r)
{
    size_t have = 0;

    while (have < sizeof(*r)) {
        const ssize_t n = read(fd, (char *)r + have, sizeof(*r) - have);

        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        have += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* What a process that told nothing died of. */
static void describe_death(int status, struct sim_result *r)
{
    r->failed = true;
    if (WIFSIGNALED(status)) {
        (void)snprintf(r->failure, sizeof(r->failure), "%s (signal %d), see above",
                       WTERMSIG(status) == SIGALRM ? "hung" : "crashed", WTERMSIG(status));
    } else {
        (void)snprintf(r->failure, sizeof(r->failure), "exit status %d, see above",
                       WEXITSTATUS(status));
    }
}

/* ---- what to print ------------------------------------------------------------------------------- */

static void print_faults(const struct sim_result *r)
{
    const char *separator = "";

    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        if (r->faults[i] > 0) {
            printf("%s%s %" PRIu64, separator, sim_fault_text((enum sim_fault)i), r->faults[i]);
            separator = ", ";
        }
    }
}

static void print_command(const struct flags *f, uint64_t seed)
{
    printf("    repeat: dsqlsim --seed %" PRIu64 " --seconds %u", seed, f->sim.seconds);
    if (f->sim.nodes != 0) {
        printf(" --nodes %u", f->sim.nodes);
    }
    if (f->plant != NULL) {
        printf(" --plant %s", f->plant);
    }
    printf(" --logs\n");
}

static void print_result(const struct flags *f, const struct sim_result *r)
{
    if (r->failed) {
        printf("seed %" PRIu64 ": FAILED: %s\n", r->seed, r->failure);
        print_command(f, r->seed);
    } else {
        printf("seed %" PRIu64 ": ok %016" PRIx64 ", %u nodes, %s, %" PRIu64 " events, ops %" PRIu64
               " ok %" PRIu64 " failed %" PRIu64
               " unknown, recovered in %.2f s, %.0f s in %.2f s; ",
               r->seed, r->hash, r->nodes, r->sql ? "sql" : "kv", r->events, r->ops_ok,
               r->ops_failed, r->ops_unknown, (double)r->recovery_ns / 1e9,
               (double)r->simulated_ns / 1e9, (double)r->wall_ns / 1e9);
        print_faults(r);
        printf("\n");
    }
    fflush(stdout);
}

static void add_up(struct totals *t, const struct sim_result *r)
{
    t->passed += r->failed ? 0 : 1;
    t->failed += r->failed ? 1 : 0;
    if (r->failed && (t->first_failed == 0 || r->seed < t->first_failed)) {
        t->first_failed = r->seed;
        memcpy(t->first_failure, r->failure, sizeof(t->first_failure));
    }
    t->simulated_ns += r->simulated_ns;
    t->wall_ns += r->wall_ns;
    t->recovery_max_ns = r->recovery_ns > t->recovery_max_ns ? r->recovery_ns : t->recovery_max_ns;
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        t->faults[i] += r->faults[i];
    }
    for (int i = 0; i < SIM_STATE_COUNT; i++) {
        t->states[i] += r->states[i];
    }
}

/* Everything that a batch should have met; returns what is missing. */
static unsigned print_coverage(const struct totals *t)
{
    unsigned missing = 0;

    printf("faults:");
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        const bool bad = t->faults[i] == 0 && sim_fault_required((enum sim_fault)i);

        printf(" %s%s %" PRIu64 "%s", bad ? "MISSING " : "", sim_fault_text((enum sim_fault)i),
               t->faults[i], i + 1 < SIM_FAULT_COUNT ? "," : "\n");
        missing += bad ? 1 : 0;
    }
    printf("states:");
    for (int i = 0; i < SIM_STATE_COUNT; i++) {
        const bool bad = t->states[i] == 0 && sim_state_required((enum sim_state)i);

        printf(" %s%s %" PRIu64 "%s", bad ? "MISSING " : "", sim_state_text((enum sim_state)i),
               t->states[i], i + 1 < SIM_STATE_COUNT ? "," : "\n");
        missing += bad ? 1 : 0;
    }
    return missing;
}

/* ---- batches ------------------------------------------------------------------------------------- */

static void finish_job(const struct flags *f, struct job *j, struct totals *t)
{
    struct sim_result r = {.seed = j->seed};
    int status = 0;
    const bool told = read_result(j->fd, &r);

    (void)close(j->fd);
    while (waitpid(j->pid, &status, 0) < 0 && errno == EINTR) {
    }
    r.seed = j->seed;
    if (!told || (status != 0 && !r.failed)) {
        describe_death(status, &r);
    }
    j->pid = 0;
    if (f->verbose) {
        print_result(f, &r);
    }
    add_up(t, &r);
}

/* Seeds in their order, `jobs` at a time; stops at the first failure when that is what is wanted. */
static void run_batch(const struct flags *f, struct totals *t)
{
    struct job jobs[JOBS_MAX] = {{0}};
    uint64_t next = f->first;
    uint32_t running = 0;
    uint32_t oldest = 0;

    while (next <= f->last || running > 0) {
        if (next <= f->last && running < f->jobs && !(f->expect_failure && t->failed > 0)) {
            start_job(f, &jobs[(oldest + running) % f->jobs], next++);
            running++;
            continue;
        }
        if (running == 0) {
            break;
        }
        finish_job(f, &jobs[oldest], t);
        oldest = (oldest + 1) % f->jobs;
        running--;
    }
}

static int report_plants(const struct flags *f)
{
    unsigned missed = 0;

    printf("| plant | what it is | found by seed | how |\n|---|---|---|---|\n");
    for (size_t i = 0; plant_at(i) != NULL; i++) {
        const struct plant *p = plant_at(i);
        struct flags one = *f;
        struct totals t = {0};

        if (f->plant != NULL && strcmp(f->plant, p->name) != 0) {
            continue;
        }
        one.sim.plants = p->bits;
        one.plant = p->name;
        one.expect_failure = true;
        one.verbose = false;
        run_batch(&one, &t);
        if (t.failed > 0) {
            printf("| %s | %s | %" PRIu64 " | %.160s |\n", p->name, p->what, t.first_failed,
                   t.first_failure);
        } else {
            printf("| %s | %s | not within %" PRIu64 " seeds | |\n", p->name, p->what, t.passed);
            missed++;
        }
        fflush(stdout);
    }
    return missed > 0 ? 1 : 0;
}

static int run_all(const struct flags *f)
{
    struct totals t = {0};
    unsigned missing = 0;

    run_batch(f, &t);
    if (f->first == f->last && t.failed == 0) {
        return 0;
    }
    missing = print_coverage(&t);
    printf("simulated %.0f s in %.1f s of processor time (%.0f x), slowest recovery %.2f s\n",
           (double)t.simulated_ns / 1e9, (double)t.wall_ns / 1e9,
           t.wall_ns == 0 ? 0.0 : (double)t.simulated_ns / (double)t.wall_ns,
           (double)t.recovery_max_ns / 1e9);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", t.passed, t.failed);
    if (f->expect_failure) {
        return t.failed > 0 ? 0 : 1;
    }
    if (t.passed >= BATCH_MIN && missing > 0) {
        printf("%u kinds of faults or states never happened: this batch proves too little\n",
               missing);
        return 1;
    }
    return t.failed > 0 ? 1 : 0;
}

/* ---- command line -------------------------------------------------------------------------------- */

static void usage(FILE *to)
{
    fprintf(to,
            "dsqlsim: whole clusters on simulated time\n"
            "  --seed N | --seeds A..B   which lives (default 1..20)\n"
            "  --seconds S               of faults, simulated (default %u)\n"
            "  --nodes N                 3..%u; default: drawn from the seed\n"
            "  --jobs N                  seeds at a time (default: processors)\n"
            "  --check-determinism       each seed twice, compare the trace hashes\n"
            "  --plant NAME              with this deliberate bug; --list-plants\n"
            "  --expect-failure          succeed if a seed fails (with --plant)\n"
            "  --plants-report           which seed finds which plant, as a table\n"
            "  --trace, --logs           every event; log events and faults\n",
            SIM_SECONDS_DEFAULT, SIM_NODES_MAX);
}

static bool parse_number(const char *text, uint64_t *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

static bool parse_seeds(const char *text, struct flags *f)
{
    const char *dots = strstr(text, "..");
    char first[32];

    if (dots == NULL) {
        return parse_number(text, &f->first) && parse_number(text, &f->last);
    }
    (void)snprintf(first, sizeof(first), "%.*s", (int)(dots - text), text);
    return parse_number(first, &f->first) && parse_number(dots + 2, &f->last) &&
           f->first <= f->last;
}

static bool parse_u32(const char *text, uint32_t least, uint32_t most, uint32_t *out)
{
    uint64_t v = 0;

    if (!parse_number(text, &v) || v < least || v > most) {
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

static bool parse_plant(const char *name, struct flags *f)
{
    const struct plant *p = plant_find(name);

    if (p == NULL) {
        return false;
    }
    f->plant = p->name;
    f->sim.plants = p->bits;
    return true;
}

static int list_plants(void)
{
    for (size_t i = 0; plant_at(i) != NULL; i++) {
        printf("%-22s %s\n", plant_at(i)->name, plant_at(i)->what);
    }
    return 0;
}

/* An option with a value; false: there is no such option, or the value is wrong. */
static bool take_value(const char *option, const char *value, struct flags *f, bool *seeds_given)
{
    if (strcmp(option, "--seed") == 0 || strcmp(option, "--seeds") == 0) {
        *seeds_given = true;
        return parse_seeds(value, f);
    }
    if (strcmp(option, "--seconds") == 0) {
        return parse_u32(value, 1, 100000, &f->sim.seconds);
    }
    if (strcmp(option, "--nodes") == 0) {
        return parse_u32(value, 3, SIM_NODES_MAX, &f->sim.nodes);
    }
    if (strcmp(option, "--jobs") == 0) {
        return parse_u32(value, 1, JOBS_MAX, &f->jobs);
    }
    return strcmp(option, "--plant") == 0 && parse_plant(value, f);
}

static bool take_switch(const char *option, struct flags *f)
{
    const struct {
        const char *name;
        bool *flag;
    } switches[] = {
        {"--check-determinism", &f->check_determinism},
        {"--plants-report", &f->plants_report},
        {"--expect-failure", &f->expect_failure},
        {"--trace", &f->sim.trace},
        {"--logs", &f->sim.logs},
    };

    for (size_t i = 0; i < ARRAY_COUNT(switches); i++) {
        if (strcmp(option, switches[i].name) == 0) {
            *switches[i].flag = true;
            return true;
        }
    }
    return false;
}

static bool parse(int argc, char **argv, struct flags *f)
{
    bool seeds_given = false;

    for (int i = 1; i < argc; i++) {
        if (take_switch(argv[i], f)) {
            continue;
        }
        if (i + 1 >= argc || !take_value(argv[i], argv[i + 1], f, &seeds_given)) {
            fprintf(stderr, "dsqlsim: bad option or value: %s %s\n", argv[i],
                    i + 1 < argc ? argv[i + 1] : "");
            return false;
        }
        i++;
    }
    if (f->plants_report && !seeds_given) {
        f->last = f->first + PLANT_SEEDS - 1;
    }
    return true;
}

int main(int argc, char **argv)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct flags f = {
        .sim = {.seconds = SIM_SECONDS_DEFAULT},
        .first = 1,
        .last = 20,
        .jobs = processors < 1 ? 1 : (processors > JOBS_MAX ? JOBS_MAX : (uint32_t)processors),
        .verbose = true,
    };

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--list-plants") == 0) {
        return list_plants();
    }
    if (!parse(argc, argv, &f)) {
        usage(stderr);
        return 2;
    }
    if ((f.plant != NULL || f.plants_report) && !plants_are_built()) {
        fprintf(stderr, "dsqlsim: plants are not compiled into this build\n");
        return 2;
    }
    return f.plants_report ? report_plants(&f) : run_all(&f);
}
