/*
 * test.c -- runs registered tests in the order of their names' registration.
 */
#include "tests/lib/test.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

static struct test_case *first_case;
static struct test_case **last_link = &first_case;
static struct test_case *running;
static bool running_failed;

void test_register(struct test_case *t)
{
    *last_link = t;
    last_link = &t->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;

    running_failed = true;
    printf("%s:%d: %s.%s: ", file, line, running->module, running->name);
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    printf("\n");
}

const char *test_hex(struct bytes b, int slot)
{
    static char out[2][520];
    size_t at = 0;

    for (size_t i = 0; i < b.len && at + 3 < sizeof(out[0]); i++) {
        at += (size_t)snprintf(out[slot] + at, sizeof(out[0]) - at, "%02x", b.ptr[i]);
    }
    out[slot][at] = '\0';
    return out[slot];
}

int main(int argc, char **argv)
{
    unsigned passed = 0;
    unsigned failed = 0;

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test_case *t = first_case; t != NULL; t = t->next) {
        char full[256];

        (void)snprintf(full, sizeof(full), "%s.%s", t->module, t->name);
        if (argc > 1 && strstr(full, argv[1]) == NULL) {
            continue;
        }
        running = t;
        running_failed = false;
        t->fn();
        if (running_failed) {
            failed++;
        } else {
            passed++;
        }
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 && passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
