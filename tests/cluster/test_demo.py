"""test_demo.py -- dsqlctl demo from start to end, and SQL in three regions."""

import json
import os
import signal
import subprocess
import tempfile
import time

from rig import Demo, Failed, expect, main, runs, wait_for

READY_S = 5.0


def three_regions_share_one_table(options):
    """Written in one region, changed in another, read in the third: at once, not some time later."""
    with Demo(options.bin) as d:
        expect(len(d.nodes) == 9 and all(n["live"] for n in d.nodes), "nine live nodes")
        regions = [n["region"] for n in d.nodes]
        expect(regions == ["us-east-1"] * 3 + ["eu-west-1"] * 3 + ["ap-southeast-1"] * 3, regions)
        d.query(1, "create table t (id int primary key, v text)")
        d.query(4, "insert into t values (1, 'one'), (2, 'two')")
        expect(d.query(7, "select v from t order by id") == [["one"], ["two"]], "rows in Asia")
        d.query(9, "update t set v = 'zwei' where id = 2")
        expect(d.query(2, "select v from t where id = 2") == [["zwei"]], "the update in the US")
        text = d.ctl("sql", "--node", "5", "--", "-Atc", "select count(*) from t")
        expect(text.strip() == "2", f"psql says {text}")


def nine_nodes_are_ready_within_five_seconds(options):
    d = Demo(options.bin)
    try:
        seconds = d.start()
        expect(seconds < READY_S * options.slowness, f"it took {seconds:.1f} s")
        return f"{seconds:.1f} s"
    finally:
        d.__exit__(None)


def data_and_ports_outlive_a_stop(options):
    with Demo(options.bin, "--nodes", "3", "--regions", "a:3", "--rtt", "off") as d:
        d.query(1, "create table t (id int primary key)")
        d.query(2, "insert into t values (7)")
        before = [n["sql_url"] for n in d.nodes]
        d.wait_replicas(3)
        d.ctl("demo", "stop")
        expect(all(n["state"] == "down" and n["pid"] == 0 for n in d.status()), "all are down")
        d.ctl("demo", "stop")  # Again: nothing to do is no error.
        text = d.ctl("demo", "--nodes", "4", "--regions", "a:3", "--background", fails=True)
        expect("holds a cluster of 3 nodes" in text, text)
        d.start()
        expect([n["sql_url"] for n in d.nodes] == before, "the same addresses")
        expect(d.query(3, "select id from t") == [["7"]], "the row is still there")


def a_second_start_is_refused(options):
    with Demo(options.bin, "--nodes", "1", "--regions", "a", "--rtt", "off") as d:
        text = d.ctl("demo", "--background", fails=True)
        expect("runs in" in text and "demo stop" in text, text)
        other = Demo(options.bin, "--nodes", "1", "--regions", "a", "--rtt", "off")
        with other:
            expect(other.sql_port(1) != d.sql_port(1), "another cluster takes other ports")


def ctrl_c_stops_all_nodes(options):
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [os.path.join(options.bin, "dsqlctl"), "demo", "--dir", folder, "--nodes", "2",
             "--regions", "a", "--rtt", "off"], stdout=subprocess.PIPE, text=True)
        try:
            lines = []
            while not lines or "Ctrl-C" not in lines[-1]:
                lines.append(process.stdout.readline())
                expect(lines[-1] != "", f"it ended: {lines}")
            with open(os.path.join(folder, "demo.json"), encoding="utf-8") as f:
                pids = [n["pid"] for n in json.load(f)["nodes"]]
            expect(all(runs(p) for p in pids), "the nodes run")
            process.send_signal(signal.SIGINT)
            expect(process.wait(20) == 0, f"exit {process.returncode}")
            expect(not any(runs(p) for p in pids), "the nodes are gone")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            subprocess.run([os.path.join(options.bin, "dsqlctl"), "demo", "stop", "--dir", folder],
                           capture_output=True, check=False)


def foreign_processes_are_left_alone(options):
    """demo.json names a pid that belongs to somebody else by now."""
    with Demo(options.bin, "--nodes", "1", "--regions", "a", "--rtt", "off") as d:
        with subprocess.Popen(["sleep", "60"]) as stranger:
            d.ctl("demo", "stop")
            path = os.path.join(d.dir, "demo.json")
            with open(path, encoding="utf-8") as f:
                state = json.load(f)
            state["nodes"][0].update(pid=stranger.pid, start_ticks=1)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(state, f)
            d.ctl("demo", "kill", "1")
            d.ctl("demo", "stop")
            expect(stranger.poll() is None, "the stranger lives")
            stranger.kill()


def kill_pause_and_restart_are_seen(options):
    with Demo(options.bin, "--nodes", "3", "--regions", "a:3", "--rtt", "off") as d:
        d.wait_replicas(3)
        d.ctl("demo", "kill", "ac")
        expect([n["state"] for n in d.status()] == ["live", "live", "down"], "zone c is down")
        d.ctl("demo", "pause", "2")
        expect([n["state"] for n in d.status()] == ["live", "paused", "down"], "node 2 is paused")
        d.ctl("demo", "resume", "2")
        d.ctl("demo", "restart", "3")
        wait_for("all are live", 10, lambda: all(n["live"] for n in d.status()))

        def seen():
            nodes = json.loads(d.ctl("node", "list", "--output", "json"))["nodes"]
            return len(nodes) == 3 and all(n["live"] and n["answered"] for n in nodes)
        wait_for("node list says so, too", 10, seen)


def a_broken_start_says_why_and_leaves_nothing(options):
    """The first node cannot open its store: the command fails with its words, and no process stays."""
    d = Demo(options.bin, "--nodes", "2", "--regions", "a", "--rtt", "off")
    try:
        os.makedirs(os.path.join(d.dir, "node1"))
        with open(os.path.join(d.dir, "node1", "data"), "w", encoding="utf-8") as f:
            f.write("no directory")
        began = time.monotonic()
        text = d.ctl("demo", "--background", *d.flags, fails=True)
        expect("node 1 ended" in text, text)
        expect(time.monotonic() - began < 10, "it took too long to say so")
        expect(all(n["state"] == "down" for n in d.status()), "no process stays")
        os.remove(os.path.join(d.dir, "node1", "data"))
        d.start()
    except Failed:
        d.__exit__(Failed)
        raise
    d.__exit__(None)


main([three_regions_share_one_table, nine_nodes_are_ready_within_five_seconds,
      data_and_ports_outlive_a_stop, a_second_start_is_refused, ctrl_c_stops_all_nodes,
      foreign_processes_are_left_alone, kill_pause_and_restart_are_seen,
      a_broken_start_says_why_and_leaves_nothing])
