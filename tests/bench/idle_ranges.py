#!/usr/bin/env python3
"""idle_ranges.py -- what ranges cost that nobody uses. By hand; thousands of splits take their time.

    idle_ranges.py --bin build/release/bin --nodes 9 --ranges 100,10000

Splits a table of nodes' demo-sized cluster until there are that many ranges, waits until all is quiet, and
prints what all nodes together use meanwhile: CPU, bytes sent between them, memory.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.request

from bench import psql
from servers import Dsqld, cpu_seconds

PER_STATEMENT = 50


def metric(server, name):
    total = 0
    for port in server.http_ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            found = re.search(rf"^dsql_{name} (\d+)", answer.read().decode(), re.MULTILINE)
            total += int(found.group(1))
    return total


def memory_mib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            total += int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1))
    return total / 1024


def split_until(server, made, wanted):
    while made < wanted:
        upto = min(wanted, made + PER_STATEMENT)
        points = ", ".join(f"({i})" for i in range(made, upto))
        psql(server, f"ALTER TABLE idle SPLIT AT VALUES {points};")
        made = upto
        if made % 1000 == 0:
            print(f"{made} ranges", file=sys.stderr, flush=True)
    return made


def measure(server, quiet, seconds):
    time.sleep(quiet)
    before = cpu_seconds(server.pids), metric(server, "rpc_bytes_sent_total"), \
        metric(server, "store_syncs_total")
    time.sleep(seconds)
    after = cpu_seconds(server.pids), metric(server, "rpc_bytes_sent_total"), \
        metric(server, "store_syncs_total")
    cpu, sent, syncs = ((b - a) / seconds for a, b in zip(before, after))
    return {"cpu_percent": 100 * cpu, "bytes_per_s": sent, "syncs_per_s": syncs,
            "mib": memory_mib(server.pids), "replicas": metric(server, "replicas")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bin", default="build/release/bin", help="where dsqld is")
    parser.add_argument("--nodes", type=int, default=9)
    parser.add_argument("--ranges", default=[100, 10000],
                        type=lambda text: sorted(int(n) for n in text.split(",")))
    parser.add_argument("--quiet", type=int, default=30, help="seconds before each measurement")
    parser.add_argument("--seconds", type=int, default=20, help="of each measurement")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="dsql-idle-")
    server = Dsqld(folder, args.nodes, args.bin)
    made = 1
    try:
        server.start()
        psql(server, "CREATE TABLE idle (id bigint PRIMARY KEY);")
        print(f"{'ranges':>7} {'replicas':>9} {'split s':>8} {'CPU %':>7} {'bytes/s':>10} {'syncs/s':>8} "
              f"{'MiB':>7}")
        for wanted in args.ranges:
            began = time.monotonic()
            made = split_until(server, made, wanted)
            took = time.monotonic() - began
            row = measure(server, args.quiet, args.seconds)
            print(f"{made:7} {row['replicas']:9} {took:8.1f} {row['cpu_percent']:7.1f} "
                  f"{row['bytes_per_s']:10.0f} {row['syncs_per_s']:8.1f} {row['mib']:7.0f}", flush=True)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
