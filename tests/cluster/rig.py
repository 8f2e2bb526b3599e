"""rig.py -- clusters of real processes for tests, and load that keeps account of what it was promised.

Demo    a cluster made by `dsqlctl demo` in a temporary directory
Node    one dsqld of our own, for what a demo cluster does not do (TLS, damaged files, limits)
Load    clients that write as fast as they are answered and remember every answer

Whatever happens, every process that was started here is ended by its pid, and the logs are searched
for what must never be in them.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from pgclient import Connection, ConnectionLost, ProtocolError, ServerError  # noqa: E402

# A node must never say any of these, whatever is done to it.
NEVER = re.compile(rb"AddressSanitizer|runtime error:|LeakSanitizer|invariant|\"level\":\"error\"|"
                   rb"stack smashing|double free")
# What a client may see while nodes come and go. All other errors fail a test.
EXPECTED = {"40001", "40003", "57P01", "57P03", "53300", "08006", "57014", "XX000"}
AMBIGUOUS = {"40003"}


class Failed(Exception):
    """A test's expectation does not hold."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


def wait_for(what, seconds, ask, pause=0.05):
    """Asks until the answer is true, and returns it."""
    until = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        expect(time.monotonic() < until, f"not within {seconds} s: {what}")
        time.sleep(pause)


def http(address, path, post=False, timeout=3):
    """(status, text); status 0 when nobody answers."""
    url = f"http://{address}{path}"
    request = urllib.request.Request(url, data=b"" if post else None)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def runs(pid):
    """False when there is no such process, or only what is left for its parent to collect."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def search_logs(paths, allowed=None):
    """allowed: a regular expression of what these may say after all."""
    for path in paths:
        with open(path, "rb") as f:
            for line in f:
                expect(not NEVER.search(line) or (allowed and re.search(allowed, line)), f"{path} says: {line.decode(errors='replace')[:400]}")


_ports_given = set()


def free_port():
    """A port below the range of outgoing connections that nobody uses and we gave to nobody."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(12000, 26000)
        with socket.socket() as s:
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                if port not in _ports_given:
                    _ports_given.add(port)
                    return port
    raise Failed("no free port")


def connect(port, timeout=10, **options):
    return Connection("127.0.0.1", port, user="root", database="defaultdb", timeout=timeout, **options)


# ---- A demo cluster -------------------------------------------------------------------------------


class Demo:
    def __init__(self, bin_dir, *flags):
        self.bin = bin_dir
        self.flags = flags
        self.dir = tempfile.mkdtemp(prefix="dsql-cluster-")
        self.nodes = []

    def ctl(self, *words, fails=False, timeout=120):
        """Runs dsqlctl on this cluster; returns what it printed."""
        command = [os.path.join(self.bin, "dsqlctl"), *words]
        at = command.index("--") if "--" in command else len(command)
        command[at:at] = ["--dir", self.dir]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        expect((done.returncode != 0) == fails,
               f"{' '.join(words)}: exit {done.returncode}, {done.stderr or done.stdout}")
        return done.stderr if fails else done.stdout

    def start(self):
        began = time.monotonic()
        self.ctl("demo", "--background", *self.flags)
        self.status()
        return time.monotonic() - began

    def status(self):
        self.nodes = json.loads(self.ctl("demo", "status", "--output", "json"))["nodes"]
        return self.nodes

    def sql_port(self, node):
        return urllib.parse.urlsplit(self.nodes[node - 1]["sql_url"]).port

    def http_address(self, node):
        return self.nodes[node - 1]["http_url"].removeprefix("http://")

    def connect(self, node, **options):
        return connect(self.sql_port(node), **options)

    def query(self, node, sql, timeout=10):
        with self.connect(node, timeout=timeout) as c:
            return c.query(sql)

    def ranges(self):
        return json.loads(self.ctl("range", "list", "--output", "json"))["ranges"]

    def leaseholder(self, range_id=1):
        """The node that holds the lease of a range; 0 while nobody says so."""
        for r in self.ranges():
            if r["id"] == range_id:
                return r["leaseholder"]
        return 0

    def wait_replicas(self, voters, seconds=30):
        """Until every range has that many voters and a leaseholder."""
        def ready():
            ranges = self.ranges()
            return ranges and all(
                r["leaseholder"] and
                sum(p["type"] == "voter" for p in r["replicas"]) == voters and
                len(r["replicas"]) >= voters for r in ranges)
        wait_for(f"{voters} voters of every range", seconds, ready, 0.2)

    def logs(self):
        return [n["log"] for n in self.nodes if os.path.exists(n["log"])]

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            if os.path.exists(os.path.join(self.dir, "demo.json")):
                text = self.ctl("demo", "stop")
                expect(kind is not None or "had to be killed" not in text, text)
            if kind is None:
                search_logs(self.logs())
        except BaseException:
            kind = Failed
            raise
        finally:
            end_of_logs(self.logs() if kind is not None else [])
            if kind is None or "DSQL_KEEP" not in os.environ:
                shutil.rmtree(self.dir, ignore_errors=True)


def end_of_logs(paths, lines=8):
    """For who reads why a test failed."""
    for path in paths:
        with open(path, "rb") as f:
            tail = f.read()[-4000:].decode(errors="replace").splitlines()[-lines:]
        print(f"---- {path}", *(line[:300] for line in tail), sep="\n", file=sys.stderr)


# ---- One node of our own ----------------------------------------------------------------------------


class Node:
    """A dsqld process. Options are its flags without dashes; None leaves one out."""

    def __init__(self, bin_dir, folder, name="node", preexec=None, env=None, **options):
        self.bin, self.folder, self.name, self.preexec = bin_dir, folder, name, preexec
        self.env = {**os.environ, **(env or {})}
        self.rpc, self.sql, self.http = free_port(), free_port(), free_port()
        self.store = os.path.join(folder, name)
        self.log = os.path.join(folder, name + ".log")
        self.options = {"store": self.store, "listen_rpc": f"127.0.0.1:{self.rpc}",
                        "listen_sql": f"127.0.0.1:{self.sql}",
                        "listen_http": f"127.0.0.1:{self.http}", "insecure": True,
                        "cache_mib": "16", **options}
        self.process = None

    def command(self):
        words = [os.path.join(self.bin, "dsqld"), "start"]
        for name, value in self.options.items():
            if value is not None and value is not False:
                words.append("--" + name.replace("_", "-"))
                if value is not True:
                    words.append(str(value))
        return words

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=self.env,
                                            stdin=subprocess.DEVNULL, preexec_fn=self.preexec)
        return self

    def health(self):
        return http(f"127.0.0.1:{self.http}", "/health")[0]

    def wait_live(self, seconds=30):
        def live():
            expect(self.process.poll() is None, f"{self.name} ended: {self.said()[-600:]}")
            return self.health() == 200
        wait_for(f"{self.name} serves SQL", seconds, live)
        return self

    def wait_end(self, seconds=15):
        """Its exit code: below zero is a signal."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end: {self.said()[-600:]}") from None

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            return self.wait_end()
        return None

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def connect(self, **options):
        return connect(self.sql, **options)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


@contextlib.contextmanager
def folder(allowed=None):
    """A temporary directory; logs in it are searched when the test went well."""
    path = tempfile.mkdtemp(prefix="dsql-cluster-")
    try:
        yield path
        search_logs((os.path.join(path, f) for f in os.listdir(path) if f.endswith(".log")), allowed)
    except BaseException:
        end_of_logs(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".log"))
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---- Load -------------------------------------------------------------------------------------------


class Load:
    """Clients that insert rows, each connected to one of the given nodes, and note every answer.

    A row is promised when its INSERT was answered, refused when the answer was an error that says it
    did not happen, and open otherwise. check() holds that against the table.
    """

    def __init__(self, ports, table, clients=4, timeout=10):
        self.ports, self.table, self.timeout = ports, table, timeout
        self.promised, self.refused = {}, {}
        self.surprises = []
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._client, args=(i,), daemon=True)
                        for i in range(clients)]

    def _insert(self, connection, row, client):
        sql = f"insert into {self.table} (id, client) values ({row}, {client})"
        result = connection.simple(sql)[0]
        now = time.monotonic()
        with self.lock:
            if result.error is None:
                self.promised[row] = now
            elif result.error.sqlstate not in AMBIGUOUS:
                self.refused[row] = str(result.error)
            if result.error is not None and result.error.sqlstate not in EXPECTED:
                self.surprises.append(str(result.error))
        return result.error is None

    def _client(self, client):
        row = client * 10_000_000
        turn = client
        connection = None
        while not self.stopping.is_set():
            row += 1
            try:
                if connection is None:
                    connection = connect(self.ports[turn % len(self.ports)], timeout=self.timeout)
                if not self._insert(connection, row, client):
                    time.sleep(0.01)
            except (OSError, ConnectionLost):
                if connection is not None:
                    connection.close()
                connection = None
                turn += 1
                time.sleep(0.05)
            except ProtocolError as error:
                with self.lock:
                    self.surprises.append(f"protocol: {error}")
                return
        if connection is not None:
            connection.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        self.wait_progress(10, 30)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join(self.timeout + 20)

    def count(self):
        with self.lock:
            return len(self.promised)

    def wait_progress(self, rows=20, seconds=20):
        """Until that many more rows are promised. Returns how long it took."""
        began, before = time.monotonic(), self.count()
        wait_for(f"{rows} more rows written", seconds, lambda: self.count() >= before + rows, 0.01)
        return time.monotonic() - began

    def first_after(self, moment):
        """Seconds from a moment to the first promise after it, or None."""
        with self.lock:
            later = [t - moment for t in self.promised.values() if t > moment]
        return min(later) if later else None

    def longest_gap(self, begin, end):
        """The longest time without a promise between two moments."""
        with self.lock:
            times = sorted(t for t in self.promised.values() if begin <= t <= end)
        times = [begin, *times, end]
        return max(b - a for a, b in zip(times, times[1:]))

    def check(self, rows):
        """rows: the ids that the table holds."""
        rows = set(rows)
        expect(not self.surprises, f"unexpected: {self.surprises[:5]}")
        lost = sorted(set(self.promised) - rows)
        expect(not lost, f"{len(lost)} of {len(self.promised)} promised rows are lost: {lost[:20]}")
        undead = sorted(set(self.refused) & rows)
        expect(not undead, f"{len(undead)} refused rows are there: "
                           f"{[(r, self.refused[r]) for r in undead[:5]]}")


def read_ids(port, table, timeout=30):
    with connect(port, timeout=timeout) as c:
        return [int(r[0]) for r in c.query(f"select id from {table}")]


def table_sql(table):
    return f"create table {table} (id int8 primary key, client int8)"


# ---- Running ----------------------------------------------------------------------------------------


def slowness(bin_dir):
    """What limits on time are multiplied by: a build with AddressSanitizer is several times slower."""
    with open(os.path.join(bin_dir, "dsqld"), "rb") as f:
        return 4 if b"__asan_init" in f.read() else 1


def main(tests):
    """tests: functions of (options). Command line: --bin DIR [--rounds N] [--seconds N] [--seed N]
    [name...]"""
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, help="where dsqld and dsqlctl stand")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("names", nargs="*", help="parts of names of tests; none: all")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    options.slowness = slowness(options.bin)
    failed = 0
    chosen = [t for t in tests
              if not options.names or any(n in t.__name__ for n in options.names)]
    for test in chosen:
        began = time.monotonic()
        try:
            note = test(options)
            verdict = "ok" if not note else f"ok: {note}"
        except Exception as error:  # Whatever it is, the other tests run.
            failed += 1
            verdict = f"FAILED (--seed {options.seed}): {type(error).__name__}: {error}"
            if not isinstance(error, (Failed, ServerError, ConnectionLost)):
                traceback.print_exc()
        print(f"{test.__name__:40} {time.monotonic() - began:5.1f} s  {verdict}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
