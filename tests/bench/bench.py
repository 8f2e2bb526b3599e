#!/usr/bin/env python3
"""bench.py -- how much work a CPU second does here, next to PostgreSQL 15. Behind `./dev bench`.

Starts a PostgreSQL 15, a dsqld with one node and one with three, all on this machine and empty, and
runs the same statements against each in turn, several rounds, so that whatever else the machine does
hits all of them alike. The primary figure is work per CPU second of all server processes together: it
hardly moves with load. Transactions per second do; compare them only within one run.

Both sides sync every acknowledged write to disk; three nodes on a quorum.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import transactions
from servers import Dsqld, Postgres, cpu_seconds

ROWS = 10000
TABLE = "CREATE TABLE bench (id bigint PRIMARY KEY, v text)"
NEW_ID = "\\set id random({rows} + 1, 4611686018427387903)\n"
OLD_ID = "\\set id random(1, {rows})\n"
WORKLOADS = {
    "point select": OLD_ID + "SELECT v FROM bench WHERE id = :id;\n",
    "insert": NEW_ID + "INSERT INTO bench (id, v) VALUES (:id, 'a value of some length');\n",
    "upsert": OLD_ID + "INSERT INTO bench (id, v) VALUES (:id, 'another value') "
                       "ON CONFLICT (id) DO UPDATE SET v = excluded.v;\n",
}


class Failed(Exception):
    pass


def psql(server, text):
    """Runs statements; raises with psql's own message."""
    result = subprocess.run(
        ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *server.client_flags(), "-f", "-"],
        input=text, capture_output=True, text=True, env=server.client_env(), check=False)
    if result.returncode != 0:
        raise Failed(f"{server.name}: {result.stderr.strip()}")


def load(server, rows):
    psql(server, TABLE + ";")
    step = 500
    for first in range(1, rows + 1, step):
        ids = range(first, min(first + step, rows + 1))
        values = ",".join(f"({i}, 'value of row {i}')" for i in ids)
        psql(server, f"INSERT INTO bench (id, v) VALUES {values};")


def run_pgbench(server, script, clients, seconds):
    """One measurement: transactions per second, per CPU second, mean latency in ms."""
    before = cpu_seconds(server.pids)
    result = subprocess.run(
        ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)),
         "-T", str(seconds), "-f", script, *server.client_flags()],
        capture_output=True, text=True, env=server.client_env(), check=False)
    cpu = cpu_seconds(server.pids) - before
    done = re.search(r"number of transactions actually processed: (\d+)", result.stdout)
    tps = re.search(r"^tps = ([\d.]+)", result.stdout, re.MULTILINE)
    latency = re.search(r"latency average = ([\d.]+) ms", result.stdout)
    failed = re.search(r"number of failed transactions: ([1-9]\d*)", result.stdout)
    if result.returncode != 0 or not done or not tps or failed:
        reason = (result.stderr.strip().split("\n") or ["?"])[-1]
        raise Failed(f"{server.name}: pgbench: {reason}" + (f" {failed.group(0)}" if failed else ""))
    return {"tps": float(tps.group(1)), "per_cpu_s": int(done.group(1)) / max(cpu, 0.001),
            "latency_ms": float(latency.group(1)) if latency else 0.0}


def measure(servers, args, folder):
    """(workload, clients, server name) -> list of measurements, interleaved over the rounds."""
    found = {}
    scripts = {}
    for name, text in WORKLOADS.items():
        scripts[name] = os.path.join(folder, name.replace(" ", "_") + ".sql")
        with open(scripts[name], "w", encoding="ascii") as f:
            f.write(text.format(rows=args.rows))
    for turn in range(args.rounds):
        for clients in args.clients:
            for workload, script in scripts.items():
                for server in servers:
                    print(f"round {turn + 1}/{args.rounds}  {clients:3} clients  {workload:13}"
                          f"{server.name}", file=sys.stderr)
                    key = (workload, clients, server.name)
                    found.setdefault(key, []).append(
                        run_pgbench(server, script, clients, args.seconds))
    return found


def summarise(found, names):
    """Rows for the table and for --json: medians, and ratios to the first server."""
    rows = []
    for workload, clients, name in found:
        runs = found[workload, clients, name]
        row = {"workload": workload, "clients": clients, "server": name, "rounds": len(runs)}
        for figure in ("per_cpu_s", "tps", "latency_ms"):
            values = [r[figure] for r in runs]
            row[figure] = statistics.median(values)
            row[figure + "_range"] = [min(values), max(values)]
        rows.append(row)
    base = {(r["workload"], r["clients"]): r for r in rows if r["server"] == names[0]}
    for row in rows:
        peer = base[row["workload"], row["clients"]]
        row["ratio_cpu"] = row["per_cpu_s"] / peer["per_cpu_s"]
        row["ratio_tps"] = row["tps"] / peer["tps"]
    return rows


def show(rows):
    print(f"{'workload':13} {'clients':>7} {'server':10} {'per CPU s':>10} {'ratio':>6}   "
          f"{'tps':>9} {'ratio':>6}   {'mean ms':>8}")
    for r in rows:
        print(f"{r['workload']:13} {r['clients']:7} {r['server']:10} {r['per_cpu_s']:10.0f} "
              f"{r['ratio_cpu']:6.2f}   {r['tps']:9.0f} {r['ratio_tps']:6.2f}   "
              f"{r['latency_ms']:8.3f}")
    print(f"\nmedians of {rows[0]['rounds']} interleaved rounds; ratios to {rows[0]['server']}; "
          f"{os.cpu_count()} CPUs shared by servers and clients")


def bench_transactions(args, folder):
    """Rows for the table of transactions, on the largest of the clusters asked for."""
    server = Dsqld(folder, max(args.nodes), args.bin)
    rows = []
    try:
        server.start()
        transactions.prepare(psql, server)
        time.sleep(args.seconds)  # New ranges settle.
        idle = transactions.idle_rates(server, args.seconds, time.sleep)
        for clients in args.clients:
            for hot in (False, True):
                for ranges in (1, 2, 10):
                    print(f"{clients:3} clients  {ranges} ranges  {'hot' if hot else 'spread'}",
                          file=sys.stderr)
                    rows.append(transactions.measure(server, folder, ranges, hot, clients,
                                                     args.seconds, idle))
    finally:
        server.stop()
    return rows


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bin", default="build/release/bin", help="where dsqld is")
    parser.add_argument("--clients", default="1,8,64",
                        type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--nodes", default="1,3", help="sizes of the dsql clusters",
                        type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--json", metavar="FILE", help="write all figures there as well")
    parser.add_argument("--transactions", action="store_true",
                        help="over one, two and ten ranges, instead; without PostgreSQL")
    parser.add_argument("--keep", action="store_true", help="keep the servers' files and logs")
    return parser.parse_args()


def main():
    args = arguments()
    folder = tempfile.mkdtemp(prefix="dsql-bench-")
    os.chmod(folder, 0o755)  # PostgreSQL runs as another user when we are root.
    servers = [] if args.transactions else (
        [Postgres(folder)] + [Dsqld(folder, n, args.bin) for n in args.nodes])
    try:
        for server in servers:
            server.start()
            load(server, args.rows)
        if args.transactions:
            rows = bench_transactions(args, folder)
            transactions.show(rows)
        else:
            rows = summarise(measure(servers, args, folder), [s.name for s in servers])
            show(rows)
        if args.json:
            with open(args.json, "w", encoding="utf-8") as f:
                json.dump({"cpus": os.cpu_count(), "results": rows}, f, indent=1)
        return 0
    except (Failed, OSError, subprocess.SubprocessError, RuntimeError) as e:
        args.keep = True
        print(f"bench: {e}\nbench: logs are in {folder}", file=sys.stderr)
        return 1
    finally:
        for server in servers:
            server.stop()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
