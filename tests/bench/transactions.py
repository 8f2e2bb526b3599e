"""transactions.py -- transactions over one, two and ten ranges. Behind `./dev bench --transactions`.

A table of ten ranges on three nodes. Each transaction is one UPDATE of as many rows as it touches ranges,
anywhere ("spread") or only ten rows of the whole table ("hot"). Messages and syncs are counted by the nodes
themselves; what they do when nobody asks for anything, heartbeats mostly, has been subtracted.
"""

import glob
import os
import re
import subprocess
import urllib.request

RANGES = 10
ROWS_PER_RANGE = 1000
TABLE = "CREATE TABLE many (id bigint PRIMARY KEY, v bigint)"
COUNTERS = {"messages": "dsql_rpc_frames_sent_total", "syncs": "dsql_store_syncs_total"}


def prepare(psql, server):
    psql(server, TABLE + ";")
    for r in range(RANGES):
        values = ",".join(f"({r * ROWS_PER_RANGE + i}, 0)" for i in range(ROWS_PER_RANGE))
        psql(server, f"INSERT INTO many (id, v) VALUES {values};")
    for r in range(1, RANGES):
        psql(server, f"ALTER TABLE many SPLIT AT VALUES ({r * ROWS_PER_RANGE});")


def script(ranges, hot):
    """Rows r, r + 1, ...: the first range is chosen, the others follow it."""
    lines = [f"\\set r random(0, {RANGES - 1})"]
    ids = []
    for i in range(ranges):
        row = "0" if hot else f"random(0, {ROWS_PER_RANGE - 1})"
        lines.append(f"\\set id{i} ((:r + {i}) % {RANGES}) * {ROWS_PER_RANGE} + {row}")
        ids.append(f":id{i}")
    return "\n".join([*lines, f"UPDATE many SET v = v + 1 WHERE id IN ({', '.join(ids)});"]) + "\n"


def counters(server):
    """Sums over the nodes."""
    sums = dict.fromkeys(COUNTERS, 0)
    for port in server.http_ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        for what, name in COUNTERS.items():
            sums[what] += int(re.search(rf"^{name} (\d+)", text, re.MULTILINE).group(1))
    return sums


def idle_rates(server, seconds, sleep):
    before = counters(server)
    sleep(seconds)
    after = counters(server)
    return {what: (after[what] - before[what]) / seconds for what in COUNTERS}


def latencies_ms(prefix):
    """Of every transaction, sorted, tries included; removes pgbench's logs."""
    found = []
    for path in glob.glob(prefix + ".*"):
        with open(path, encoding="ascii") as log:
            for line in log:
                took = line.split()[2]
                if took.isdigit():
                    found.append(int(took) / 1000)
        os.remove(path)
    return sorted(found)


def measure(server, folder, ranges, hot, clients, seconds, idle):
    path = os.path.join(folder, "transactions.sql")
    prefix = os.path.join(folder, "latency")
    with open(path, "w", encoding="ascii") as f:
        f.write(script(ranges, hot))
    before = counters(server)
    done = subprocess.run(
        ["pgbench", "-n", "-M", "simple", "-c", str(clients), "-j", "1", "-T", str(seconds), "-l",
         "--log-prefix", prefix, "--max-tries", "100", "-f", path, *server.client_flags()],
        capture_output=True, text=True, env=server.client_env(), check=False)
    after = counters(server)
    took = latencies_ms(prefix)
    if done.returncode != 0 or not took:
        raise RuntimeError(f"{server.name}: pgbench: {(done.stderr.strip() or '?')[-300:]}")
    retried = re.search(r"total number of retries: (\d+)", done.stdout)
    row = {"ranges": ranges, "hot": hot, "clients": clients, "tps": len(took) / seconds,
           "p50_ms": took[len(took) // 2], "p99_ms": took[len(took) * 99 // 100],
           "retries": int(retried.group(1)) if retried else 0}
    for what in COUNTERS:
        row[what] = max(0, after[what] - before[what] - idle[what] * seconds) / len(took)
    return row


def show(rows):
    print(f"{'rows':6} {'ranges':>6} {'clients':>7} {'tps':>8} {'p50 ms':>8} {'p99 ms':>8} "
          f"{'messages':>9} {'syncs':>6} {'retries':>8}")
    for r in rows:
        print(f"{'hot' if r['hot'] else 'spread':6} {r['ranges']:6} {r['clients']:7} {r['tps']:8.0f} "
              f"{r['p50_ms']:8.2f} {r['p99_ms']:8.2f} {r['messages']:9.1f} {r['syncs']:6.2f} "
              f"{r['retries']:8}")
    print(f"\nmessages and syncs per transaction, of all nodes, without what is idle; {os.cpu_count()} "
          f"CPUs shared by servers and clients")
