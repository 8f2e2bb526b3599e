#!/usr/bin/env python3
"""run.py -- SQL files with recorded answers against a server; see README.md.

    run.py [FILE...]                    starts dsqld (--dsqld PATH) and runs all files, or these
    run.py --connect HOST:PORT FILE...  against a server that runs already
    run.py --record [FILE...]           writes the answers of a PostgreSQL 15 that it starts itself
    run.py --record-own FILE...         writes dsqld's answers to statements marked @own
    run.py --check-record [FILE...]     runs against such a PostgreSQL: are the records true?
    run.py --update-known               writes the differences found into KNOWN.md, reasons to be filled in

Prints a line per difference and `N passed, N failed`.
"""

import argparse
import contextlib
import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)

import pgclient  # noqa: E402
import pgserver  # noqa: E402
import slt  # noqa: E402

START_SECONDS = 60


class Sessions:
    """The connections of one file, by name; a lost one is opened anew."""

    def __init__(self, connect):
        self._connect = connect
        self._open = {}

    def get(self, name):
        if name not in self._open:
            self._open[name] = self._connect()
        return self._open[name]

    def drop(self, name):
        with contextlib.suppress(OSError):
            self._open.pop(name).close()

    def close(self):
        for name in list(self._open):
            self.drop(name)


def is_ordered(block):
    """Does the order of the rows count? Without ORDER BY it is anyone's."""
    return "unordered" not in block.directives and \
        re.search(r"\border\s+by\b", block.sql, re.I) is not None


def describe(block, results):
    """The results of one block as an answer."""
    message = "nomessage" not in block.directives
    lines = []
    for i, result in enumerate(results):
        if i > 0:
            lines.append("--")
        lines += slt.answer_lines(result, message, is_ordered(block))
    return lines


def run_params(connection, block, result_format):
    params = slt.parse_params(block.directives["params"])
    types = [pgclient.TYPE_OIDS[t] if t else 0 for t, _ in params]
    return [connection.extended(block.sql, [v for _, v in params], types,
                                result_format=result_format)]


def run_binary_params(connection, block):
    """Values in binary form too, where we know how."""
    params = slt.parse_params(block.directives["params"])
    types = [pgclient.TYPE_OIDS[t] if t else 0 for t, _ in params]
    known = (pgclient.BOOL, pgclient.INT2, pgclient.INT4, pgclient.INT8, pgclient.FLOAT8,
             pgclient.TEXT_OID)
    formats = [pgclient.BINARY if t in known else pgclient.TEXT for t in types]
    values = [v if v is None or f == pgclient.TEXT else pgclient.encode_binary(t, v)
              for (_, v), t, f in zip(params, types, formats)]
    return [connection.extended(block.sql, values, types, formats, pgclient.BINARY)]


def repeatable(block, results):
    """May the statement run again without changing anything?"""
    return len(results) == 1 and "simple-only" not in block.directives and \
        re.match(r"\s*(select|values|show)\b", block.sql, re.I) is not None and \
        not re.search(r"\$\d|\b(random|clock_timestamp)\b", block.sql, re.I)


def variants(connection, block):
    """Runs a block in all its ways: [(name of the way, answer)], the first being the record's."""
    if "params" in block.directives:
        answers = [("extended, text", describe(block, run_params(connection, block, pgclient.TEXT)))]
        if connection.txn == "I" and re.match(r"\s*(select|values)\b", block.sql, re.I):
            answers.append(("extended, binary",
                            describe(block, run_params(connection, block, pgclient.BINARY))))
            answers.append(("extended, binary both ways",
                            describe(block, run_binary_params(connection, block))))
        return answers
    results = connection.simple(block.sql)
    answers = [("simple", describe(block, results))]
    if connection.txn == "I" and repeatable(block, results):
        for name, fmt in (("extended, text", pgclient.TEXT), ("extended, binary", pgclient.BINARY)):
            again = connection.extended(block.sql, result_format=fmt)
            answers.append((name, describe(block, [again])))
    return answers


def run_block(sessions, block):
    name = block.directives.get("conn", "main")
    try:
        return variants(sessions.get(name), block)
    except pgclient.ConnectionLost as e:
        sessions.drop(name)
        return [("connection", [f"LOST {e}"])]
    except (OSError, pgclient.ProtocolError, UnicodeDecodeError, KeyError, IndexError) as e:
        sessions.drop(name)
        return [("connection", [f"BROKEN {type(e).__name__} {e}"])]


def expected(block):
    """The recorded answer, sorted as describe() sorts."""
    if is_ordered(block):
        return block.answer
    lines, rows, header = [], [], False
    for line in [*block.answer, None]:
        if line is not None and line.startswith("|") and header:
            rows.append(line)
            continue
        lines += sorted(rows)
        rows = []
        header = line is not None and line.startswith("|")
        if line is not None:
            lines.append(line)
    return lines


class Known:
    """KNOWN.md: the statements that may differ, each with its reason."""

    ROW = re.compile(r"^\| ([^|]+\.slt) \| `(.+)` \| (.+) \|$")

    def __init__(self, path):
        self._path = path
        self._reasons = {}
        self._seen = set()
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                for line in f:
                    match = self.ROW.match(line.rstrip("\n"))
                    if match:
                        self._reasons[(match[1], self._unescape(match[2]))] = match[3]

    @staticmethod
    def _escape(text):
        return text.replace("\\", "\\\\").replace("|", "\\p").replace("`", "\\q")

    @staticmethod
    def _unescape(text):
        return re.sub(r"\\(.)", lambda m: {"p": "|", "q": "`"}.get(m[1], m[1]), text)

    def reason(self, block):
        return self._reasons.get((block.path, block.key))

    def met(self, block):
        self._seen.add((block.path, block.key))

    def stale(self, paths):
        """Entries whose statement did not differ, of the files that ran."""
        return sorted(k for k in self._reasons if k not in self._seen and k[0] in paths)

    def rewrite(self, differing, paths):
        """Keeps reasons, adds what is new, drops what no longer differs."""
        kept = {k: v for k, v in self._reasons.items() if k[0] not in paths}
        for block in differing:
            k = (block.path, block.key)
            kept[k] = self._reasons.get(k, "?")
        with open(self._path, encoding="utf-8") as f:
            head = [line for line in f if not self.ROW.match(line.rstrip("\n"))]
        with open(self._path, "w", encoding="utf-8") as f:
            f.write("".join(head).rstrip("\n") + "\n")
            for (path, key), reason in sorted(kept.items()):
                f.write(f"| {path} | `{self._escape(key)}` | {reason} |\n")


class Report:
    def __init__(self, known):
        self.known = known
        self.passed = self.failed = self.allowed = 0
        self.differing = []

    def block(self, block, answers):
        want = expected(block)
        wrong = [(name, got) for name, got in answers if got != want]
        if not wrong:
            self.passed += 1
            return
        self.differing.append(block)
        self.known.met(block)
        reason = self.known.reason(block)
        if reason is not None and reason != "?":
            self.allowed += 1
            return
        self.failed += 1
        name, got = wrong[0]
        print(f"{block.place}: differs ({name}): {block.key}")
        for line in difflib.unified_diff(want, got, "recorded", "server", lineterm="", n=1):
            if not line.startswith(("---", "+++", "@@")):
                print("    " + line)

    def fail(self, text):
        self.failed += 1
        print(text)

    def finish(self, paths):
        for path, key in self.known.stale(paths):
            print(f"KNOWN.md: remove, no longer differs: {path}: {key}")
        if self.allowed:
            print(f"{self.allowed} known differences, see KNOWN.md")
        print(f"{self.passed} passed, {self.failed} failed")
        return 0 if self.failed == 0 else 1


def read_blocks(path):
    with open(os.path.join(HERE, path), encoding="utf-8") as f:
        return slt.parse(path, f.read())


def run_file(path, connect, report, own=True):
    sessions = Sessions(connect)
    try:
        for block in read_blocks(path)[0]:
            if "own" in block.directives and not own:
                continue
            if not block.answer:
                report.fail(f"{block.place}: no answer is recorded")
            else:
                report.block(block, run_block(sessions, block))
    finally:
        sessions.close()


def record_file(path, connect, own):
    """own: only the blocks marked @own, the others run without being written; else without those."""
    sessions = Sessions(connect)
    blocks, tail = read_blocks(path)
    try:
        for block in blocks:
            if "own" in block.directives and not own:
                continue
            answers = run_block(sessions, block)
            if own and "own" not in block.directives:
                continue
            block.answer = answers[0][1]
            for name, got in answers[1:]:
                if got != block.answer:
                    print(f"{block.place}: the server itself differs ({name}): {block.key}: {got}")
    finally:
        sessions.close()
    with open(os.path.join(HERE, path), "w", encoding="utf-8") as f:
        f.write("\n".join(b.format() for b in blocks))
        if tail:
            f.write("\n" + "\n".join(tail) + "\n")


# ---- Servers -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres():
    """A connect function per file: each gets a database of its own."""
    with pgserver.PostgresServer() as server:
        def for_file(number):
            name = f"file{number}"
            with pgclient.Connection("127.0.0.1", server.port) as c:
                c.query(f"create database {name}")
            return lambda: pgclient.Connection("127.0.0.1", server.port, database=name)
        yield for_file


def wait_until_up(process, port, log_path):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, pgclient.ConnectionLost):
            pgclient.Connection("127.0.0.1", port, timeout=5).close()
            return
        time.sleep(0.05)
    with open(log_path, encoding="utf-8", errors="replace") as f:
        sys.stderr.write(f.read()[-4000:])
    raise SystemExit("dsqld did not come up")


def stop(process):
    """Ends it; anything but a clean end is a failure of the run."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return -1


@contextlib.contextmanager
def dsqld(binary, report):
    folder = tempfile.mkdtemp(prefix="dsql-sql-")
    log_path = os.path.join(folder, "log")
    port = pgserver.free_port()
    command = [binary, "start", "--insecure", "--store", os.path.join(folder, "store"),
               "--listen-sql", f"127.0.0.1:{port}",
               "--listen-rpc", f"127.0.0.1:{pgserver.free_port()}",
               "--listen-http", f"127.0.0.1:{pgserver.free_port()}"]
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_until_up(process, port, log_path)
        yield lambda number: lambda: pgclient.Connection("127.0.0.1", port)
    finally:
        code = stop(process)
        if code != 0:
            report.fail(f"dsqld ended with {code}")
            with open(log_path, encoding="utf-8", errors="replace") as f:
                sys.stderr.write(f.read()[-4000:])
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(address):
    host, _, port = address.rpartition(":")
    yield lambda number: lambda: pgclient.Connection(host, int(port))


def all_files():
    found = []
    for folder, _, names in os.walk(HERE):
        found += [os.path.relpath(os.path.join(folder, n), HERE) for n in names if n.endswith(".slt")]
    return sorted(found)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="*", help="relative to tests/sql; default: all")
    p.add_argument("--dsqld", default="build/debug/bin/dsqld")
    p.add_argument("--connect", metavar="HOST:PORT")
    p.add_argument("--record", action="store_true")
    p.add_argument("--record-own", action="store_true")
    p.add_argument("--check-record", action="store_true")
    p.add_argument("--update-known", action="store_true")
    return p.parse_args()


def main():
    args = arguments()
    files = [os.path.relpath(f, HERE) if os.path.exists(f) else f for f in args.files] or all_files()
    known_path = os.path.join(HERE, "KNOWN.md")
    report = Report(Known("" if args.check_record else known_path))
    if args.record or args.record_own:
        with dsqld(args.dsqld, report) if args.record_own else postgres() as for_file:
            for number, path in enumerate(files):
                record_file(path, for_file(number), args.record_own)
        return 0
    if args.check_record:
        server = postgres()
    elif args.connect:
        server = running(args.connect)
    else:
        server = dsqld(args.dsqld, report)
    with server as for_file:
        for number, path in enumerate(files):
            run_file(path, for_file(number), report, own=not args.check_record)
    if args.update_known:
        report.known.rewrite(report.differing, files)
    return report.finish(files)


if __name__ == "__main__":
    sys.exit(main())
