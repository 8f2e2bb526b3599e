#!/usr/bin/env python3
"""lint.py -- everything about the code that a program can check. Behind `./dev lint`.

    lint.py [--fix] [--build DIR] [--jobs N] [RULE...]

Prints `path:line: rule: message` per finding and ends with status 1 when there is any. A line that
carries, or follows, `lint-allow(rule): reason` is let off that rule.
"""

import argparse
import os
import sys
import time

import banned
import declarations
import functions
import layers
import readme
import tools
from source import Tree

# Cheap ones first: they are what one breaks most.
RULES = {
    "layers": layers.check,
    "banned": banned.check,
    "globals": declarations.check_globals,
    "typedefs": declarations.check_typedefs,
    "narrative": declarations.check_narrative,
    "todo": declarations.check_todo,
    "length": functions.check_length,
    "yields": functions.check_yields,
    "readme": readme.check,
    "format": tools.check_format,
    "headers": tools.check_headers,
    "cppcheck": tools.check_cppcheck,
    "tidy": tools.check_tidy,
}


def run_rule(tree, name):
    """The findings of one rule, without those that the code has been let off."""
    found = []
    for finding in sorted(set(RULES[name](tree))):
        if finding.path in tree.c_paths and tree.source(finding.path).allows(name, finding.line):
            continue
        found.append(finding)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fix", action="store_true", help="mark what yields, reformat")
    parser.add_argument("--build", default="build/debug", help="holds compile_commands.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("rules", nargs="*", metavar="RULE", help=", ".join(RULES))
    args = parser.parse_args()
    unknown = [r for r in args.rules if r not in RULES]
    if unknown:
        parser.error(f"no such rule: {unknown[0]}")

    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    tree = Tree(root, args.build, args.jobs)
    if args.fix:
        functions.fix_yields(tree)
        tools.fix_format(tree)
    count = 0
    for name in args.rules or RULES:
        start = time.monotonic()
        found = run_rule(tree, name)
        count += len(found)
        for finding in found:
            print(finding)
        print(f"lint: {name:10} {len(found):4} findings  {time.monotonic() - start:6.1f} s",
              flush=True)
    print(f"lint: {len(tree.c_paths)} files, {count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
