#!/usr/bin/env python3
"""selftest.py -- the rules find what they should, and only that.

Every case is a little tree: `=== path` starts a file, a line that must be found ends in `@rule` (in a
comment, so that it stays C). Findings at line 1 of a file that cannot carry a mark are written in
`expect`. A rule that never finds anything is a defect: every rule has a case in which it does.
"""

import json
import os
import re
import sys
import tempfile

import lint
import tools
from source import Tree

CASES = []


def case(about, rule, text, expect=()):
    CASES.append((about, rule, text, set(expect)))


# ---------------------------------------------------------------- layers
case("a layer includes what stands below it", "layers", """
=== node/kv/a.c
/* x */
#include "node/kv/a.h"
#include "node/range/b.h"
#include "node/base/status.h"
#include "node/txn/c.h" // @layers
#include "node/server/c.h" // @layers
// #include "node/txn/c.h"
=== node/raft/a.c
/* x */
#include "node/base/status.h"
#include "node/storage/engine.h" // @layers
#include "node/runtime/env.h" // @layers
=== regions/a/a.c
/* x */
#include "regions/b/b.h"
#include "node/raft/raft.h" // @layers
=== tests/unit/kv/a.c
/* x */
#include "node/server/c.h"
#include "tests/lib/test.h"
""")
case("paths start at the root; nobody includes tests", "layers", """
=== node/base/a.c
/* x */
#include "status.h" // @layers
#include "tests/lib/test.h" // @layers
""")
case("the order inside sql", "layers", """
=== node/sql/plan/a.c
/* x */
#include "node/sql/exec/a.h"
#include "node/sql/types/a.h"
#include "node/sql/session/error.h"
#include "node/sql/session/session.h" // @layers
=== node/sql/exec/a.c
/* x */
#include "node/sql/plan/a.h" // @layers
#include "node/pgwire/a.h" // @layers
=== node/sql/misc/a.c
/* x */
#include "node/sql/exec/a.h" // @layers
""")
case("one door per library", "layers", """
=== node/runtime/a.c
/* x */
#include <uv.h>
#include <rocksdb/c.h> // @layers
#include <stdio.h>
=== node/storage/engine/a.c
/* x */
#include <rocksdb/c.h>
#include <uv.h> // @layers
#include "nodes/parsenodes.h" // @layers
=== node/sql/parse/a.c
/* x */
#include <pg_query.h>
#include "nodes/parsenodes.h"
#include <curl/curl.h> // @layers
=== tests/unit/storage/a.c
/* x */
#include <rocksdb/c.h>
""")

# ---------------------------------------------------------------- banned
case("calls by name, not fields, comments or literals", "banned", """
=== node/kv/a.c
/* strcpy(a, b) */
static void f(struct s *s)
{
    strcpy(a, b); // @banned
    s->open(1);
    s.read (2);
    const char *t = "sprintf(x)";
    my_strcpy(a);
    (void)time(NULL); // @banned
    fd = open("x", 0); // @banned
    if (x) abort(); // @banned
    /* lint-allow(banned): the loader wants it */
    printf("x");
    printf("y"); // @banned
}
=== node/runtime/env_uv.c
/* x */
static void f(void)
{
    (void)open("x", 0);
    clock_gettime(0, 0);
    pthread_create(0, 0, 0, 0);
    sprintf(a, b); // @banned
}
=== tests/unit/kv/a.c
/* x */
static void f(void)
{
    printf("x");
    strcat(a, b); // @banned
}
""")
case("words: threads, atomics, dates of builds", "banned", """
=== node/kv/a.c
/* pthread_mutex_t */
static pthread_mutex_t *lock; // @banned
static _Atomic int n; // @banned
static const char *when(void) { return __DATE__; } // @banned
=== node/runtime/a.c
/* x */
static pthread_mutex_t *lock;
""")

# ---------------------------------------------------------------- declarations
case("mutable globals", "globals", """
=== node/kv/a.c
/* x */
#define X int in_a_macro;
int public_one; // @globals
static int counter; // @globals
static int table[3] = {1, 2, 3}; // @globals
static const char *name = "x"; // @globals
static const char *const fixed = "x";
static const int numbers[] = {1, 2};
static const struct s items[] = {
    {.f = 1},
};
struct s {
    int field;
};
struct later;
enum e { A, B };
extern const int elsewhere;
_Static_assert(sizeof(int) == 4, "int");
typedef struct {
    int v;
} an_id;
static struct s last; // @globals
static int f(int a);
static int f(int a)
{
    static int calls; // @globals
    static const int limit = 3;
    int local = 0;
    return a;
}
/* lint-allow(globals): the C library has no other way */
static int let_off;
=== tests/unit/kv/a.c
/* x */
static int in_a_test;
""")
case("typedefs", "typedefs", """
=== node/kv/a.h
/* x */
typedef uint32_t oid;
typedef struct { uint64_t v; } an_id;
typedef void (*callback)(void *arg);
typedef struct foo foo; // @typedefs
typedef struct { int a; int b; } pair; // @typedefs
typedef enum { A, B } kind; // @typedefs
typedef char *string; // @typedefs
""")
case("every file opens with a narrative", "narrative", """
=== node/kv/a.c
/*
 * a.c -- what it is about.
 */
=== node/kv/b.c
#include <stdio.h> // @narrative
=== node/kv/c.h
/* A header that may be included twice. */
#pragma once
=== node/kv/d.h
/* A header that may not. @narrative */
""")
case("todos have owners", "todo", """
=== node/kv/a.c
/* TODO(range): ask the leader when leases move */
/* TODO: later @todo */
/* FIXME @todo */
/* a mastodon */
""")

# ---------------------------------------------------------------- functions


def _function_of(lines, name):
    body = "\n".join(f"    x{i}();" for i in range(lines - 3))
    return f"static void {name}(void)\n{{\n{body}\n}}\n"


case("length: 71 to 80 lines", "length",
     "=== node/kv/a.c\n/* x */\n" + _function_of(70, "a") +
     _function_of(71, "b").replace("(void)\n", "(void) // @length\n", 1) +
     _function_of(80, "c").replace("(void)\n", "(void) // @length\n", 1) + _function_of(81, "d"))
case("who may yield", "yields", """
=== node/kv/a.h
/* x */
#pragma once
NOYIELD int quick(int a);
MAYYIELD NODISCARD struct status slow(int a, void (*then)(void *arg));
int unmarked(void); // @yields
NOYIELD const char *text(const char *fmt, ...) PRINTF_LIKE(1, 2);
struct ops {
    MAYYIELD struct status (*fetch)(struct ops *o);
    NOYIELD void (*poke)(struct ops *o);
    MAYYIELD void (*both)(struct ops *o);
    MAYYIELD void (*some)(struct ops *o);
};
struct other {
    NOYIELD void (*both)(struct other *o);
    void (*some)(struct other *o);
};
static inline int twice(int a)
{
    return 2 * a;
}
=== node/kv/a.c
/* x */
#include "node/kv/a.h"
static void waits(void)
{
    slow(1, NULL); // @yields
}
MAYYIELD static void waits_and_says_so(void)
{
    TRY(slow(1, NULL));
}
NOYIELD static void never(struct ops *o)
{
    quick(2);
    o->poke(o);
    o->both(o);
    o->some(o);
    o->elsewhere(o);
    o->fetch(o); // @yields
    if (x) {
        waits_and_says_so(); // @yields
    }
    /* lint-allow(yields): runs on the plain stack, where yielding does nothing */
    waits_and_says_so();
}
int quick(int a)
{
    return slow(a, NULL).code; // @yields
}
struct status slow(int a, void (*then)(void *arg))
{
    waits_and_says_so();
    return OK;
}
=== node/kv/not_included.h
/* x */
#pragma once
struct not_seen {
    MAYYIELD void (*elsewhere)(struct not_seen *n);
};
=== tests/unit/kv/a.c
/* x */
static void in_a_test(void)
{
    slow(1, NULL);
}
""")

# ---------------------------------------------------------------- readme
_GOOD_README = "\n".join(f"## {h}\nText.\n" for h in lint.readme.HEADINGS)
case("each folder has a README with its headings", "readme", f"""
=== node/kv/a.c
/* x */
=== node/kv/README.md
{_GOOD_README}
=== node/txn/a.c
/* x */
=== node/docs/0001.md
x
=== regions/README.md
{_GOOD_README.replace("## Invariants", "## Rules")}
""", ["node/txn/README.md:1", "regions/README.md:1"])

# ---------------------------------------------------------------- other programs
case("format", "format", """
=== node/kv/a.c
/* x */
int a(void);
=== node/kv/b.c
/* x */
int   a( void ) ; // @format
""")
case("headers compile alone", "headers", """
=== node/kv/a.h
/* x */
#pragma once
#include <stdint.h>
uint64_t a(void);
=== node/kv/b.h
/* x */
#pragma once
uint64_t b(void); // @headers
""")
case("cppcheck", "cppcheck", """
=== node/kv/a.c
/* x */
int a(void);
int a(void)
{
    int v[2] = {0};
    return v[2]; // @cppcheck
}
""")
case("clang-tidy", "tidy", """
=== node/kv/a.c
/* x */
int a(int x);
int a(int x)
{
    if (x > 0)  // @tidy
        return 1;
    return 0;
}
=== node/kv/b.c
/* x */
int b(int divisor);
int b(int divisor)
{
    if (divisor == 0) {
        return 1 / divisor; // @tidy
    }
    return 0;
}
""")
PROGRAM_OF = {"format": "clang-format", "headers": "gcc", "cppcheck": "cppcheck",
              "tidy": "clang-tidy"}


def write_tree(root, text):
    """Writes the files of a case; returns the marks as {"path:line"}."""
    marks, path, lines = set(), None, {}
    for line in text.strip("\n").split("\n"):
        if line.startswith("=== "):
            path = line[4:]
            lines[path] = []
            continue
        lines[path].append(line)
        if re.search(r"@[a-z]+\b(?= ?\*?/?$)", line):
            marks.add(f"{path}:{len(lines[path])}")
    for p, content in lines.items():
        os.makedirs(os.path.join(root, os.path.dirname(p)), exist_ok=True)
        with open(os.path.join(root, p), "w", encoding="utf-8") as f:
            f.write("\n".join(content) + "\n")
    return marks


def write_config(root, paths):
    """What the other programs read: our own configuration and a compilation database."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for name in (".clang-format", ".clang-tidy"):
        with open(os.path.join(ours, name), encoding="utf-8") as f:
            text = f.read()
        with open(os.path.join(root, name), "w", encoding="utf-8") as f:
            f.write(text)
    os.makedirs(os.path.join(root, "build/debug"))
    commands = [{"directory": root, "file": p, "command": f"cc -c {p}"} for p in paths]
    with open(os.path.join(root, "build/debug/compile_commands.json"), "w", encoding="utf-8") as f:
        json.dump(commands, f)


def run_case(about, rule, text, expect):
    """Problems with one case, as lines of text."""
    with tempfile.TemporaryDirectory() as root:
        want = write_tree(root, text) | expect
        tree = Tree(root, jobs=1)
        write_config(root, [p for p in tree.paths if p.endswith(".c")])
        got = {f"{f.path}:{f.line}" for f in lint.run_rule(tree, rule)}
        problems = [f"{about}: not found: {w}" for w in sorted(want - got)]
        problems += [f"{about}: found for nothing: {g}" for g in sorted(got - want)]
        # What passed is remembered; what did not must be found again.
        again = {f"{f.path}:{f.line}" for f in lint.run_rule(Tree(root, jobs=1), rule)}
        if again != got:
            problems.append(f"{about}: another answer the second time")
        if not want:
            problems.append(f"{about}: a case in which the rule finds nothing proves nothing")
        return problems


def run_fix():
    """--fix marks static functions that yield, their callers too, and leaves what says NOYIELD."""
    text = """
=== node/kv/a.h
/* x */
#pragma once
MAYYIELD void slow(void);
=== node/kv/a.c
/* x */
static void outer(void);
static void inner(void)
{
    slow();
}
static void outer(void)
{
    inner();
}
NOYIELD static void sworn(void)
{
    slow(); // @yields
}
"""
    with tempfile.TemporaryDirectory() as root:
        want = write_tree(root, text)
        lint.functions.fix_yields(Tree(root))
        got = {f"{f.path}:{f.line}" for f in lint.run_rule(Tree(root), "yields")}
        with open(os.path.join(root, "node/kv/a.c"), encoding="utf-8") as f:
            marks = f.read().count("MAYYIELD static")
    return [] if got == want and marks == 3 else [f"--fix: {marks} marks, left {sorted(got)}"]


def main():
    failed = skipped = 0
    for problem in run_fix():
        failed += 1
        print(f"FAILED: {problem}")
    for about, rule, text, expect in CASES:
        program = PROGRAM_OF.get(rule)
        if program and not tools.have(program):
            print(f"skipped: {about}: {program} is not installed (./dev lint installs it)")
            skipped += 1
            continue
        problems = run_case(about, rule, text, expect)
        failed += bool(problems)
        for problem in problems:
            print(f"FAILED: {rule}: {problem}")
    without = set(lint.RULES) - {rule for _, rule, _, _ in CASES}
    for rule in sorted(without):
        print(f"FAILED: {rule}: has no case")
    failed += len(without)
    print(f"{len(CASES) + 1 - failed - skipped} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
