/*
 * main.c -- dsqld, the node.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/server/process.h"

#define VERSION "0.1.0"

static int usage(FILE *out, int code)
{
    (void)fputs("usage: dsqld start --store DIR [flags]   run a node; flags: dsqld start --help\n"
                "       dsqld version\n",
                out);
    return code;
}

static int start(int argc, char **argv)
{
    struct arena arena;
    struct config c;
    struct status st = OK;

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(config_help(), stdout);
            return EXIT_SUCCESS;
        }
    }
    arena_init(&arena, 0);
    st = config_parse(argc, argv, &arena, &c);
    if (!status_ok(st)) {
        (void)fprintf(stderr, "dsqld: %s\n", status_text(st));
        arena_deinit(&arena);
        return 2;
    }
    return process_run(&c);
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "start") == 0) {
        return start(argc - 2, argv + 2);
    }
    if (argc == 2 && (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0)) {
        (void)puts("dsqld " VERSION);
        return EXIT_SUCCESS;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage(stdout, EXIT_SUCCESS);
    }
    return usage(stderr, 2);
}
