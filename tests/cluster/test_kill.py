"""test_kill.py -- nodes die at random moments, again and again, under load.

After every round the load must go on; at the end every promised row is there on every node, and no
refused one. --rounds says how often; the seed repeats the order of victims, not the moments of the
machine.
"""

import random
import time

from rig import Demo, Load, expect, main, read_ids, table_sql

RESUME_S = 15.0
NODES = 5


def kill_and_restart(d, rng, load, worst):
    """One round: up to two of five die together, or one dies again while it starts."""
    victims = rng.sample(range(1, NODES + 1), rng.choice((1, 1, 2)))
    words = ",".join(map(str, victims))
    time.sleep(rng.random() * 0.5)
    moment = time.monotonic()
    d.ctl("demo", "kill", words)
    if rng.random() < 0.7:
        load.wait_progress(5, RESUME_S)
        worst[0] = max(worst[0], load.longest_gap(moment, time.monotonic()))
    d.ctl("demo", "restart", words)
    if rng.random() < 0.3:
        d.ctl("demo", "kill", str(victims[0]))
        d.ctl("demo", "restart", str(victims[0]))
    load.wait_progress(5, RESUME_S)


def random_nodes_are_killed_under_load(options):
    rng = random.Random(options.seed)
    worst = [0.0]
    with Demo(options.bin, "--nodes", str(NODES), "--regions", "a:5", "--rtt", "off") as d:
        d.wait_replicas(5, 40)
        d.query(1, table_sql("t"))
        ports = [d.sql_port(n["id"]) for n in d.nodes]
        with Load(ports, "t") as load:
            for done in range(options.rounds):
                kill_and_restart(d, rng, load, worst)
                if (done + 1) % 10 == 0:
                    print(f"  round {done + 1}: {load.count()} rows", flush=True)
        for port in ports:
            load.check(read_ids(port, "t"))
        expect(load.count() > 10 * options.rounds, "hardly anything was written")
    return f"{options.rounds} rounds, {load.count()} rows, longest gap {worst[0]:.1f} s"


def all_nodes_are_killed_at_once(options):
    """A power failure of everything: what was promised is on disk."""
    rounds = max(2, options.rounds // 10)
    with Demo(options.bin, "--nodes", "3", "--regions", "a:3", "--rtt", "off") as d:
        d.wait_replicas(3)
        d.query(1, table_sql("t"))
        loads = []
        for i in range(rounds):
            with Load([d.sql_port(n["id"]) for n in d.nodes], "t") as load:
                load.wait_progress(50)
                d.ctl("demo", "kill", "a")
            loads.append(load)
            d.start()
            rows = set(read_ids(d.sql_port(1), "t"))
            load.check(rows)
            d.query(2, "delete from t")
    return f"{rounds} times, {sum(x.count() for x in loads)} rows"


main([random_nodes_are_killed_under_load, all_nodes_are_killed_at_once])
