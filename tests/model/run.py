#!/usr/bin/env python3
"""run.py -- explores the models: the rules as they are, then each rule left out.

    run.py [--quick] [MODEL]...        --quick leaves out the largest searches

Fails when a good model violates a property or is not explored to the end, when a broken variant is
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

class Model:
    """Sizes by name, as values of `bounds`; which ones hold, and what must be caught and reached where."""

    def __init__(self, bounds, sizes, good, large, broken, possible):
        self.bounds, self.sizes, self.good, self.large = bounds, sizes, good, large
        self.broken, self.possible = broken, possible

    def defines(self, size):
        return [f"-D{name}={value}" for name, value in zip(self.bounds, self.sizes[size])]


LEASE = Model(
    # A promise is asked for two ticks.
    bounds=("TERM_MAX", "CLOCK_MAX", "RESTARTS", "TRANSFERS"),
    sizes={
        "restarts": (2, 4, 1, 0),
        "transfers": (2, 4, 0, 1),
        "both": (2, 2, 1, 1),
        "chain": (3, 1, 0, 1),  # Hand-over, then failover: needs three terms.
        "small": (2, 3, 1, 0),
        "hand-over": (2, 3, 0, 1),
    },
    good=("small", "hand-over", "both", "chain", "restarts", "transfers"),
    large=("restarts", "transfers"),
    broken=(
        ("FORGETS_MAX_REQUESTED", "small", "the requester does not persist what it asked for"),
        ("SUPPORTER_FORGETS_EPOCH", "small", "the supporter loses its epochs at a restart"),
        ("SUPPORTER_FORGETS_EXPIRATION", "small", "... or until when it has promised"),
        ("TIMEOUT_NOW_BEFORE_COMMIT", "hand-over", "voters are freed before REVOKE is committed"),
        ("FORGETS_FUTURE_PART", "chain", "START does not carry what REVOKE said of the future"),
        ("START_BELOW_FORWARDED_CLOCKS", "small", "start_ts is read before the votes arrive"),
        ("NO_CLOCK_IN_ENVELOPE", "small", "messages do not carry clocks"),
        ("CANDIDATE_IGNORES_SUPPORT", "small", "a supporter campaigns itself"),
        ("VOTER_IGNORES_SUPPORT", "small", "a supporter votes for others"),
    ),
    possible=(
        ("SECOND_LEASE", "small", "a second leader serves"),
        ("THIRD_LEASE", "chain", "a third leader serves, after hand-over and failover"),
        ("TRANSFER_AHEAD_OF_TIME", "hand-over", "a hand-over does not wait for the old lease"),
        ("RESTARTED_LEADER_LEADS_AGAIN", "restarts", "a restarted leader leads and serves again"),
    ))

PARALLEL = Model(
    bounds=("KEYS", "TS_MAX", "READS", "LEASES", "RECOVERERS", "HEARTBEAT", "LARGE", "INSERT",
            "ANCHOR_WRITTEN"),
    sizes={
        "two": (2, 3, 1, 1, 1, 1, 0, 0, 1),
        "locked": (2, 3, 1, 1, 1, 1, 0, 0, 0),
        "blind": (2, 3, 0, 1, 1, 1, 0, 0, 1),  # Nothing was read.
        "large": (2, 3, 1, 1, 1, 1, 1, 0, 1),
        "large-lock": (2, 3, 1, 1, 1, 1, 1, 0, 0),
        "insert": (2, 3, 1, 0, 1, 0, 0, 1, 1),
        "rivals": (2, 3, 1, 1, 2, 0, 0, 0, 1),
        "three": (3, 2, 1, 0, 1, 0, 0, 0, 1),
        "three-keys": (3, 3, 1, 0, 1, 0, 0, 0, 1),
        "three-lock": (3, 2, 1, 1, 2, 1, 0, 0, 0),
    },
    good=("two", "locked", "blind", "large", "large-lock", "insert", "rivals", "three", "three-keys",
          "three-lock"),
    large=("three-keys", "three-lock"),
    broken=(
        ("COMMITS_WITHOUT_ALL_INTENTS", "two", "told committed before every intent is laid"),
        ("IGNORES_WHERE_INTENTS_LANDED", "two", "... although one landed above the record"),
        ("NO_PREVENTION", "two", "recovery does not prevent what it did not find"),
        ("RECOVERS_ANY_TIMESTAMP", "two", "... decides another attempt than it asked about"),
        ("ABORTS_WITHOUT_RECOVERY", "two", "a STAGING record is aborted by who pushes"),
        ("ABORTS_WITHOUT_MARKER", "two", "an abort without a record leaves no marker"),
        ("IGNORES_FINISHED", "two", "a record is created in spite of the marker"),
        ("IGNORES_MARKER_FLOOR", "two", "... for a transaction older than the lease"),
        ("LEASE_START_COVERS_READS_ONLY", "two", "a lease starts below what markers were about"),
        ("IGNORES_PUSH_MARKER", "locked", "staged below where it was pushed to"),
        ("FORGOTTEN_PUSH", "locked", "... by a lease whose markers are gone"),
        ("FORGOTTEN_PUSH", "large-lock", "... the record of a large transaction"),
        ("MOVES_HIGHER_THAN_PUSHED", "two", "an intent is moved higher than the push"),
        ("STAGES_ABOVE_READS", "two", "staged above what was read, without a refresh"),
        ("NO_REFRESH", "two", "staged again without a refresh"),
        ("REFRESHES_MEANWHILE", "two", "staged again while the refresh is under way"),
        ("ANCHOR_ABOVE_RECORD", "two", "the anchor's own intent stands above the record"),
        ("STAGES_DOWN", "two", "a late first attempt overwrites the second"),
        ("STAGES_OVER_ABORTED", "two", "a staged record overwrites an aborted one"),
        ("REPLAY_GOES_HIGHER", "two", "a replay lays an intent above what was asked for"),
        ("REPLAY_TRUSTS_A_HIGHER_INTENT", "two", "... or believes one that it finds there"),
        ("SETTLES_BEFORE_RECORD", "two", "intents are settled while the record is STAGING"),
        ("DELETES_BEFORE_SETTLED", "two", "the record goes before the intents are settled"),
        ("DELETES_BEHIND_THE_COORDINATOR", "two", "... or before the coordinator knows"),
        ("FAILED_INSERT_IS_NO_READ", "insert", "an insert that failed has read nothing"),
    ),
    possible=(
        ("COMMIT_IN_ONE_ROUND", "two", "committed in one round"),
        ("COMMIT_AFTER_A_PUSH", "two", "... in two, after a push"),
        ("STAGED_HIGHER_AT_ONCE", "blind", "... in one, at a higher timestamp"),
        ("DEAD_BUT_COMMITTED", "two", "others commit what a dead coordinator has staged"),
        ("DEAD_AND_ABORTED", "two", "... or abort it"),
        ("RECOVERS_ITSELF_AS_COMMITTED", "two", "the coordinator finds out that it has committed"),
        ("RECOVERY_OVERTAKEN", "two", "the next attempt overtakes a recovery"),
        ("COMMIT_AFTER_LEASE_MOVED", "locked", "a pending record survives a change of lease"),
        ("ORPHAN", "two", "a late write leaves an intent, which is found to be over"),
        ("LARGE_COMMIT", "large", "committed in three rounds, and settled"),
        ("INSERT_AFTER_DELETE", "insert", "an insert succeeds once the row is gone"),
    ))

MERGE = Model(
    bounds=("ATTEMPTS", "LOSSES", "SPLITS", "READS", "RIGHT_GENERATION", "WRITERS"),
    sizes={
        "once": (1, 2, 1, 2, 1, 1),
        "twice": (2, 1, 1, 1, 3, 1),
        "writers": (1, 1, 1, 1, 1, 2),
        "all": (2, 1, 1, 1, 3, 2),
        "losses": (2, 2, 1, 2, 1, 1),
    },
    good=("once", "twice", "writers", "all", "losses"),
    large=("all", "losses"),
    broken=(
        ("NO_FREEZE", "once", "the right range is not frozen"),
        ("SERVES_UNTIL_FROZEN", "once", "... and serves until FREEZE has applied"),
        ("FREEZE_IS_NOT_INHERITED", "once", "... and its next leader does not know"),
        ("MERGES_BEFORE_ALL_HAVE_FROZEN", "once", "MERGE before every store has applied FREEZE"),
        ("MERGES_WITHOUT_GENERATION", "once", "MERGE of an older generation is evaluated"),
        ("SUPPORT_ENDS_BEFORE_FREEZE", "once", "MERGE while the next lease may start below FREEZE"),
        ("UNFREEZES_ON_SILENCE", "once", "UNFREEZE because nobody answers"),
        ("UNFREEZES_WITHOUT_CANCEL", "once", "... because it has not been merged so far"),
        ("ANSWERS_WHILE_UNDECIDED", "once", "... answered while MERGE is in the log"),
        ("UNFREEZES_FOR_AN_OLD_ANSWER", "twice", "... for what was said of an earlier freeze"),
        ("ADDRESSED_BEFORE_REMOVED", "once", "changed again while frozen replicas are a quorum"),
        ("CHANGES_UNADDRESSED", "once", "changed again before the index knows"),
        ("SPLIT_FORGETS_READS", "once", "the right half starts below what was read"),
        ("INDEX_WITHOUT_STEP_1", "once", "the index: without waiting for the left neighbour"),
        ("INDEX_DELETES_FIRST", "once", "... old entries go before the new one is there"),
        ("MERGE_RAISES_ONLY_LEFT", "twice", "... a merged range is not above both"),
        ("INDEX_IS_WRITTEN_LATE", "all", "... a leader of the past writes what has been deleted"),
    ),
    possible=(
        ("MERGED", "once", "merged, removed everywhere and addressed, after a loss"),
        ("UNFROZEN", "once", "a merge that stopped half way is undone"),
        ("MERGED_AT_THE_SECOND_ATTEMPT", "twice", "... and succeeds later"),
        ("SPLIT_AGAIN", "once", "split again at the same key"),
        ("FROZEN_MINORITY", "once", "... while one store still has a frozen replica"),
        ("SPLIT_WHILE_FROZEN", "once", "split elsewhere, which calls the merge off"),
        ("LATE_WRITER", "all", "a replaced leader is about to write to the index"),
    ))

MODELS = {"lease": LEASE, "parallel": PARALLEL, "merge": MERGE}


def explore(folder, name, size, define=None):
    """(violated, complete, states, seconds) of one search."""
    defines = MODELS[name].defines(size) + ([f"-D{define}"] if define else [])
    start = time.monotonic()
    run = {"cwd": folder, "check": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
           "text": True}
    subprocess.run(["spin", "-a", *defines, os.path.join(HERE, name + ".pml")], **run)
    # HC4 stores digests instead of states: a third of the memory, and a state in a hundred is missed.
    store = ["-DHC4"] if size in MODELS[name].large else []
    subprocess.run(["gcc", "-w", "-O2", "-DSAFETY", *store, "-DNOFAIR", f"-DMEMLIM={MEMORY_MAX_MIB}",
                    "-o", "pan", "pan.c"], **run)
    out = subprocess.run(["./pan", "-m100000", "-w24"], **run).stdout
    states = re.search(r"([\d.e+]+) states, stored", out)
    complete = "Search not completed" not in out and "reached -DMEMLIM" not in out and \
        "max search depth too small" not in out
    return ("assertion violated" in out, complete, int(float(states.group(1))) if states else 0,
            time.monotonic() - start)


def searches(model, quick):
    """(kind, what, size, define, must be violated)"""
    for size in model.good:
        if not (quick and size in model.large):
            yield "holds", "the rules as they are", size, None, False
    for bug, size, about in model.broken:
        yield "broken", about, size, "BUG_" + bug, True
    for what, size, about in model.possible:
        yield "possible", about, size, "SEEK_" + what, True


def run_model(folder, name, quick):
    """(passed, failed) of all searches of one model."""
    passed = failed = 0
    print(f"{name:8} {'size':10} {'states':>10} {'s':>6}  {'result':12} what")
    for kind, about, size, define, must in searches(MODELS[name], quick):
        violated, complete, states, seconds = explore(folder, name, size, define)
        good = violated if must else complete and not violated
        passed, failed = passed + good, failed + (not good)
        word = {"holds": ("VIOLATED" if violated else "holds" if complete else "UNFINISHED"),
                "broken": "caught" if violated else "NOT CAUGHT",
                "possible": "reached" if violated else "NOT REACHED"}[kind]
        print(f"{kind:8} {size:10} {states:10} {seconds:6.1f}  {word:12} {about}", flush=True)
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    args = parser.parse_args()
    for name in args.models:
        if name not in MODELS:
            parser.error(f"no such model: {name}")
    with tempfile.TemporaryDirectory() as folder:
        results = [run_model(folder, name, args.quick) for name in args.models or MODELS]
    passed, failed = (sum(column) for column in zip(*results))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
