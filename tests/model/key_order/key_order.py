#!/usr/bin/env python3
"""Compares the order of keys with the ORDER BY of a real PostgreSQL.

    key_order.py GENERATOR [--pg /usr/lib/postgresql/15/bin] [--seeds 5]

Starts a private server (a new data directory, a Unix socket only), lets it rank the values that
GENERATOR prints, in four orders, and compares with the ranks of their keys. Ranks, not positions:
equal values must have equal keys, and different ones different keys.
"""
import argparse
import os
import pwd
import shutil
import subprocess
import sys
import tempfile

ORDERS = ["ASC", "DESC", "ASC NULLS FIRST", "DESC NULLS LAST"]


def unprivileged():
    """PostgreSQL refuses to run as root: the account that its package made, if we are root."""
    if os.getuid() != 0:
        return None
    return pwd.getpwnam("postgres")


class Server:
    def __init__(self, bindir):
        self.bindir = bindir
        self.account = unprivileged()
        self.dir = tempfile.mkdtemp(prefix="dsql-key-order-")
        if self.account:
            os.chown(self.dir, self.account.pw_uid, self.account.pw_gid)

    def demote(self):
        if self.account:
            os.setgid(self.account.pw_gid)
            os.setuid(self.account.pw_uid)

    def run(self, *args, **kwargs):
        return subprocess.run(args, preexec_fn=self.demote, check=True, cwd=self.dir,
                              text=True, capture_output=True, **kwargs).stdout

    def start(self):
        data = os.path.join(self.dir, "data")
        self.run(f"{self.bindir}/initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C")
        self.run(f"{self.bindir}/pg_ctl", "-D", data, "-w", "-l", os.path.join(self.dir, "log"),
                 "-o", f"-c listen_addresses='' -c unix_socket_directories='{self.dir}'"
                       " -c fsync=off", "start")

    def query(self, sql):
        return self.run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.dir,
                        "-d", "postgres", input=sql)

    def stop(self):
        data = os.path.join(self.dir, "data")
        if os.path.exists(os.path.join(data, "postmaster.pid")):
            self.run(f"{self.bindir}/pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)


def values_of(generator, seed):
    """type -> [(literal or None, [four keys])]"""
    out = subprocess.run([generator, str(seed)], check=True, capture_output=True, text=True).stdout
    values = {}
    for line in out.splitlines():
        kind, literal, *keys = line.split("\t")
        values.setdefault(kind, []).append(
            (None if literal == "\\N" else literal, [bytes.fromhex(k) for k in keys]))
    return values


def cast(kind, literal):
    if literal is None:
        return f"NULL::{kind}"
    if kind == "text":
        return f"convert_from('{literal}'::bytea, 'UTF8')"
    return f"'{literal}'::{kind}"


def server_ranks(server, kind, literals, order):
    rows = ",".join(f"({i}, {cast(kind, v)})" for i, v in enumerate(literals))
    out = server.query(f"SELECT rank() OVER (ORDER BY v {order}) FROM (VALUES {rows}) t(id, v) "
                       "ORDER BY id;\n")
    return [int(x) for x in out.split()]


def key_ranks(keys):
    ordered = sorted(keys)
    first = {}
    for place, key in enumerate(ordered, 1):
        first.setdefault(key, place)
    return [first[k] for k in keys]


def compare(server, generator, seed):
    bad = 0
    for kind, values in values_of(generator, seed).items():
        literals = [v for v, _ in values]
        for n, order in enumerate(ORDERS):
            want = server_ranks(server, kind, literals, order)
            got = key_ranks([keys[n] for _, keys in values])
            for i, literal in enumerate(literals):
                if want[i] != got[i]:
                    print(f"seed {seed}: {kind} {order}: {literal} has rank {want[i]}, "
                          f"its key {values[i][1][n].hex()} rank {got[i]}")
                    bad += 1
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generator")
    parser.add_argument("--pg", default="/usr/lib/postgresql/15/bin")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    generator = os.path.abspath(args.generator)
    server = Server(args.pg)
    try:
        server.start()
        bad = sum(compare(server, generator, seed) for seed in range(1, args.seeds + 1))
    finally:
        server.stop()
    print(f"{args.seeds} seeds, {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
