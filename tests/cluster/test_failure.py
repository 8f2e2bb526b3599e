"""test_failure.py -- one node dies, freezes, is cut off or leaves in order, under load."""

import json
import time

from rig import Demo, Failed, Load, expect, http, main, read_ids, table_sql, wait_for

RESUME_S = 5.0
DRAIN_GAP_S = 2.0
THREE = ("--nodes", "3", "--regions", "a:3", "--rtt", "off")


def ports(d, *but):
    return [d.sql_port(n["id"]) for n in d.nodes if n["id"] not in but]


def prepared(d, table="t"):
    d.wait_replicas(3)
    d.query(1, table_sql(table))
    return table


def applied(d, node, range_id=1):
    text = http(d.http_address(node), "/api/v1/ranges")[1]
    found = [r for r in json.loads(text or '{"ranges":[]}')["ranges"] if r["id"] == range_id]
    return found[0]["applied"] if found else 0


def wait_caught_up(d, node):
    """The node has what the leaseholder had when we began to ask."""
    leader = wait_for("a leaseholder", 10, lambda: d.leaseholder())
    target = applied(d, leader)
    wait_for(f"node {node} has applied {target}", 20, lambda: applied(d, node) >= target)


def any_node_may_die(options):
    """No promised row is lost, writes go on within five seconds, and the node catches up."""
    worst = 0.0
    with Demo(options.bin, *THREE) as d:
        table = prepared(d)
        with Load(ports(d), table) as load:
            for victim in (1, 2, 3):
                moment = time.monotonic()
                d.ctl("demo", "kill", str(victim))
                load.wait_progress(40, 15)
                gap = load.longest_gap(moment, time.monotonic())
                expect(gap <= RESUME_S * options.slowness, f"after node {victim} died nothing was written for {gap:.1f} s")
                worst = max(worst, gap)
                d.ctl("demo", "restart", str(victim))
                wait_caught_up(d, victim)
                load.wait_progress()
        for n in (1, 2, 3):
            load.check(read_ids(d.sql_port(n), table))
    return f"{load.count()} rows, longest gap {worst:.1f} s"


def a_frozen_leaseholder_is_replaced_and_learns_of_it(options):
    """When it thaws it must not answer from the past."""
    with Demo(options.bin, *THREE) as d:
        table = prepared(d)
        leader = wait_for("a leaseholder", 10, lambda: d.leaseholder())
        with Load(ports(d, leader), table) as load:
            moment = time.monotonic()
            d.ctl("demo", "pause", str(leader))
            load.wait_progress(40, 20)
            gap = load.longest_gap(moment, time.monotonic())
            before = set(load.promised)
            d.ctl("demo", "resume", str(leader))
            seen = set(read_ids(d.sql_port(leader), table))
            expect(before <= seen, f"the thawed node misses {len(before - seen)} rows")
        load.check(read_ids(d.sql_port(leader), table))
        expect(gap <= 2 * RESUME_S * options.slowness, f"nothing was written for {gap:.1f} s")
    return f"longest gap {gap:.1f} s"


def the_majority_goes_on_without_a_node_that_is_cut_off(options):
    """Both ways, then one way each: the other side promises nothing, and all is well afterwards."""
    with Demo(options.bin, *THREE) as d:
        table = prepared(d)
        for flags in ((), ("--one-way",)):
            leader = wait_for("a leaseholder", 10, lambda: d.leaseholder())
            others = [n["id"] for n in d.nodes if n["id"] != leader]
            with Load(ports(d, leader), table) as load:
                d.ctl("demo", "partition", str(leader), ",".join(map(str, others)), *flags)
                load.wait_progress(40, 20)
                row = 900_000_000 + len(flags)
                refused = False
                try:
                    d.query(leader, f"insert into {table} (id, client) values ({row}, 0)", 3)
                except Exception:  # Any refusal or silence will do; a promise must be kept.
                    refused = True
                d.ctl("demo", "heal")
                load.wait_progress(20, 20)
            rows = read_ids(d.sql_port(leader), table)
            expect(refused or row in rows, "the cut-off node promised a row that is lost")
            table_rows = [r for r in rows if r < 900_000_000]
            load.check(table_rows)
            d.query(leader, f"delete from {table}")


def a_region_may_be_lost_and_come_back(options):
    """Nine nodes, one region of three dies as a whole."""
    with Demo(options.bin) as d:
        d.wait_replicas(5, 60)
        d.query(1, table_sql("t"))
        with Load([d.sql_port(4), d.sql_port(7)], "t", timeout=15) as load:
            moment = time.monotonic()
            d.ctl("demo", "kill", "us-east-1")
            load.wait_progress(10, 30)
            gap = load.longest_gap(moment, time.monotonic())
            d.ctl("demo", "restart", "us-east-1")
            load.wait_progress(10, 30)
        load.check(read_ids(d.sql_port(1), "t"))
    return f"longest gap {gap:.1f} s"


def a_node_that_leaves_in_order_is_hardly_noticed(options):
    """Drain hands the lease over before it ends: the gap is far below the time that a death costs."""
    with Demo(options.bin, *THREE) as d:
        table = prepared(d)
        leader = wait_for("a leaseholder", 10, lambda: d.leaseholder())
        with Load(ports(d, leader), table) as load:
            moment = time.monotonic()
            d.ctl("node", "drain", str(leader))
            load.wait_progress(20)
            gap = load.longest_gap(moment, time.monotonic())
            expect(d.status()[leader - 1]["state"] == "down", "its process has ended")
            expect(d.leaseholder() not in (0, leader), "another node leads")
        with open(d.nodes[leader - 1]["log"], encoding="utf-8") as f:
            expect('"process.stopped"' in f.read(), "it ended in order")
        expect(gap <= DRAIN_GAP_S * options.slowness, f"nothing was written for {gap:.1f} s")
        load.check(read_ids(d.sql_port(leader % 3 + 1), table))
    return f"longest gap {gap:.2f} s"


def without_a_majority_nothing_is_promised(options):
    """One of three is left: writes fail or wait, and work again once a second one is back."""
    with Demo(options.bin, *THREE) as d:
        table = prepared(d)
        d.query(1, f"insert into {table} (id, client) values (1, 1)")
        d.ctl("demo", "kill", "2,3")
        try:
            d.query(1, f"insert into {table} (id, client) values (2, 1)", 8)
            raise Failed("one node of three promised a row")
        except Failed:
            raise
        except Exception:  # An error or silence: both are right.
            pass
        d.ctl("demo", "restart", "2")
        d.query(1, f"insert into {table} (id, client) values (3, 1)", 20)
        rows = read_ids(d.sql_port(2), table)
        expect({1, 3} <= set(rows), f"rows {rows}")


main([any_node_may_die, a_frozen_leaseholder_is_replaced_and_learns_of_it,
      the_majority_goes_on_without_a_node_that_is_cut_off, a_region_may_be_lost_and_come_back,
      a_node_that_leaves_in_order_is_hardly_noticed, without_a_majority_nothing_is_promised])
