"""test_failover_trials.py -- how long a range is gone when its leaseholder is, many times.

Two clients each write through every other node than the leaseholder. Then that one is killed, stopped
(SIGSTOP), or cut off in one direction; the time until the next row is promised counts from the moment
before. Every trial must end within a limit, and no promised row may be lost; p50, p99 and max are printed.

--rounds says how many kills; pauses are a third of that, and cuts in either direction as well.
"""

import math
import os
import signal
import time

from rig import Demo, Load, expect, http, main, read_ids, table_sql, wait_for

LIMIT_S = 12.0
WITHIN_S = 30.0
CLIENTS = 4


def leader_of(d):
    """The node that leads the range of the table, by its own word; all nodes run."""
    return wait_for("a leaseholder", 20, lambda: d.leaseholder(), 0.1)


def wait_alive(d, node):
    wait_for(f"node {node} serves again", WITHIN_S,
             lambda: http(d.http_address(node), "/health")[0] == 200, 0.1)


class Kill:
    def strike(self, d, node):
        os.kill(d.nodes[node - 1]["pid"], signal.SIGKILL)

    def undo(self, d, node):
        d.ctl("demo", "restart", str(node))
        d.status()


class Pause:
    def strike(self, d, node):
        os.kill(d.nodes[node - 1]["pid"], signal.SIGSTOP)

    def undo(self, d, node):
        os.kill(d.nodes[node - 1]["pid"], signal.SIGCONT)


class Cut:
    """Messages of one direction are lost. The command takes a while: times include it."""

    def __init__(self, outward):
        self.outward = outward

    def strike(self, d, node):
        others = ",".join(str(n["id"]) for n in d.nodes if n["id"] != node)
        sides = (str(node), others) if self.outward else (others, str(node))
        d.ctl("demo", "partition", *sides, "--one-way")

    def undo(self, d, node):
        d.ctl("demo", "heal")


def trial(d, way, table):
    """Seconds without a promise."""
    leader = leader_of(d)
    with Load([d.sql_port(n["id"]) for n in d.nodes if n["id"] != leader], table, CLIENTS) as load:
        moment = time.monotonic()
        way.strike(d, leader)
        load.wait_progress(5 * CLIENTS, WITHIN_S)
        gap = load.longest_gap(moment, time.monotonic())
    way.undo(d, leader)
    wait_alive(d, leader)
    return gap, load


def percentile(sorted_values, p):
    return sorted_values[min(len(sorted_values) - 1, math.ceil(p * len(sorted_values)) - 1)]


def trials(options, way, count):
    gaps = []
    with Demo(options.bin, "--nodes", "3", "--regions", "a:3", "--rtt", "off") as d:
        d.wait_replicas(3, WITHIN_S)
        d.query(1, table_sql("t"))
        for done in range(count):
            gap, load = trial(d, way, "t")
            gaps.append(gap)
            load.check(read_ids(d.sql_port(1 + done % 3), "t"))
            d.query(1 + done % 3, "delete from t", 30)
            if (done + 1) % 10 == 0:
                print(f"  {done + 1}: {gap:.2f} s, worst so far {max(gaps):.2f} s", flush=True)
    gaps.sort()
    text = (f"{count} trials: p50 {percentile(gaps, 0.5):.2f} s, p99 {percentile(gaps, 0.99):.2f} s, "
            f"max {gaps[-1]:.2f} s")
    expect(gaps[-1] <= LIMIT_S * options.slowness, text)
    return text


def leaseholders_are_killed(options):
    return trials(options, Kill(), options.rounds)


def leaseholders_are_stopped(options):
    return trials(options, Pause(), max(2, options.rounds // 3))


def nobody_hears_the_leaseholder(options):
    return trials(options, Cut(True), max(2, options.rounds // 3))


def the_leaseholder_hears_nobody(options):
    return trials(options, Cut(False), max(2, options.rounds // 3))


main([leaseholders_are_killed, leaseholders_are_stopped, nobody_hears_the_leaseholder,
      the_leaseholder_hears_nobody])
