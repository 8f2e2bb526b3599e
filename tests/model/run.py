#!/usr/bin/env python3
"""run.py -- explores lease.pml: the rules as they are, then each rule left out.

    run.py [--quick]        --quick leaves out the two largest searches

Fails when the good model violates a property or is not explored to the end, when a broken variant is
not caught, or when something that should be possible never happens. Needs spin and gcc; at most 2 GiB.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

MEMORY_MAX_MIB = 1900
HERE = os.path.dirname(os.path.abspath(__file__))

# name: (terms, clock readings, restarts, transfers). A promise is asked for two ticks.
SIZES = {
    "restarts": (2, 4, 1, 0),
    "transfers": (2, 4, 0, 1),
    "both": (2, 2, 1, 1),
    "chain": (3, 1, 0, 1),  # Hand-over, then failover: needs three terms.
    "small": (2, 3, 1, 0),
    "hand-over": (2, 3, 0, 1),
}
GOOD = ("small", "hand-over", "both", "chain", "restarts", "transfers")
LARGE = ("restarts", "transfers")
BROKEN = (
    ("FORGETS_MAX_REQUESTED", "small", "the requester does not persist what it asked for"),
    ("SUPPORTER_FORGETS_EPOCH", "small", "the supporter loses its epochs at a restart"),
    ("SUPPORTER_FORGETS_EXPIRATION", "small", "... or until when it has promised"),
    ("TIMEOUT_NOW_BEFORE_COMMIT", "hand-over", "voters are freed before REVOKE is committed"),
    ("FORGETS_FUTURE_PART", "chain", "START does not carry what REVOKE said of the future"),
    ("START_BELOW_FORWARDED_CLOCKS", "small", "start_ts is read before the votes arrive"),
    ("NO_CLOCK_IN_ENVELOPE", "small", "messages do not carry clocks"),
    ("CANDIDATE_IGNORES_SUPPORT", "small", "a supporter campaigns itself"),
    ("VOTER_IGNORES_SUPPORT", "small", "a supporter votes for others"),
)
POSSIBLE = (
    ("SECOND_LEASE", "small", "a second leader serves"),
    ("THIRD_LEASE", "chain", "a third leader serves, after hand-over and failover"),
    ("TRANSFER_AHEAD_OF_TIME", "hand-over", "a hand-over does not wait for the old lease"),
    ("RESTARTED_LEADER_LEADS_AGAIN", "restarts", "a restarted leader leads and serves again"),
)


def explore(folder, size, define=None):
    """(violated, complete, states, seconds) of one search."""
    terms, clocks, restarts, transfers = SIZES[size]
    defines = [f"-DTERM_MAX={terms}", f"-DCLOCK_MAX={clocks}", f"-DRESTARTS={restarts}",
               f"-DTRANSFERS={transfers}"] + ([f"-D{define}"] if define else [])
    start = time.monotonic()
    run = {"cwd": folder, "check": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
           "text": True}
    subprocess.run(["spin", "-a", *defines, os.path.join(HERE, "lease.pml")], **run)
    # HC4: a state is stored as a 96-bit digest; the chance that two of 1e8 share one is below 1e-12.
    subprocess.run(["gcc", "-w", "-O2", "-DSAFETY", "-DHC4", "-DNOFAIR",
                    f"-DMEMLIM={MEMORY_MAX_MIB}", "-o", "pan", "pan.c"], **run)
    out = subprocess.run(["./pan", "-m100000", "-w24"], **run).stdout
    states = re.search(r"([\d.e+]+) states, stored", out)
    complete = "Search not completed" not in out and "reached -DMEMLIM" not in out and \
        "max search depth too small" not in out
    return ("assertion violated" in out, complete, int(float(states.group(1))) if states else 0,
            time.monotonic() - start)


def searches(quick):
    """(kind, name, size, define, must be violated)"""
    for size in GOOD:
        if not (quick and size in LARGE):
            yield "holds", "the rules as they are", size, None, False
    for bug, size, about in BROKEN:
        yield "broken", about, size, "BUG_" + bug, True
    for what, size, about in POSSIBLE:
        yield "possible", about, size, "SEEK_" + what, True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    passed = failed = 0
    print(f"{'':8} {'size':10} {'states':>10} {'s':>6}  {'result':12} what")
    with tempfile.TemporaryDirectory() as folder:
        for kind, about, size, define, must in searches(args.quick):
            violated, complete, states, seconds = explore(folder, size, define)
            good = violated if must else complete and not violated
            passed, failed = passed + good, failed + (not good)
            word = {"holds": ("VIOLATED" if violated else "holds" if complete else "UNFINISHED"),
                    "broken": "caught" if violated else "NOT CAUGHT",
                    "possible": "reached" if violated else "NOT REACHED"}[kind]
            print(f"{kind:8} {size:10} {states:10} {seconds:6.1f}  {word:12} {about}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
