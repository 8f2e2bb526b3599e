"""test_input.py -- nonsense on every port, wrong flags, damaged files, full disks.

Always the same is asked of the server: it says in plain words what is wrong, it does not crash, it does
not hang, and others are served meanwhile.
"""

import glob
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time

from rig import Node, connect, expect, folder, free_port, http, main, wait_for

END_S = 20
EXIT_STORE, EXIT_DISK_FULL = 70, 74
# Events of level error that a damaged store or a full disk may cause.
STORE_FAILED = rb'"event":"(store\.fatal|engine\.\w+)"|"event":"session\.internal_error","why":"store is damaged'


def alone(options, path, **flags):
    return Node(options.bin, path, **flags)


def send(port, data, wait_s=2.0):
    """What the server answers to these bytes until it closes, or for a while."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as s:
        try:
            s.sendall(data)
            while len(answer) < 65536:
                piece = s.recv(4096)
                if not piece:
                    break
                answer += piece
        except OSError:
            pass  # Closed or silent: both are answers.
    return answer


def nonsense(rng):
    """Bytes that are almost, or not at all, what each port expects."""
    yield b""
    yield b"\0"
    yield b"\xff" * 4096
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n"
    yield b"POST /api/v1/drain HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"
    yield b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 20_000
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    yield struct.pack(">II", 8, 80877103) * 50
    yield struct.pack(">II", 0x7FFFFFFF, 196608)
    yield struct.pack(">II", 3, 196608)
    yield struct.pack(">II", 12, 196608) + b"user"
    yield struct.pack(">II", 20, 196608) + b"user\0root\0\0" + b"Q\xff\xff\xff\xff"
    yield struct.pack(">IIII", 16, 80877102, 1, 2)
    for _ in range(60):
        yield rng.randbytes(rng.choice((1, 7, 64, 700, 9000)))


def garbage_on_every_port(options):
    rng = random.Random(options.seed)
    count = 0
    with folder() as path, alone(options, path) as n:
        n.wait_live()
        with n.connect() as c:
            for data in nonsense(rng):
                if b"/api/v1/drain" in data:
                    ports = (n.rpc, n.sql)
                else:
                    ports = (n.rpc, n.sql, n.http)
                for port in ports:
                    send(port, data, 0.2)
                    count += 1
            expect(c.query("select 1") == [["1"]], "the client that was there is served")
        expect(n.process.poll() is None, f"the node ended: {n.said()[-500:]}")
        expect(n.health() == 200, "it is healthy")
        expect(n.stop() == 0, "it stops in order")
    return f"{count} connections"


def garbage_after_a_good_start(options):
    """A client that has logged in and then sends broken messages; an HTTP client that lies."""
    rng = random.Random(options.seed)
    with folder() as path, alone(options, path) as n:
        n.wait_live()
        login = struct.pack(">II", 33, 196608) + b"user\0root\0database\0x\0\0"
        login = struct.pack(">I", len(login)) + login[4:]
        for kind in b"QPBDECHSFfdcpX!\0\xff":
            for size in (0, 3, 4, 5, 70_000, 0x7FFFFFFF, 0xFFFFFFFF):
                body = rng.randbytes(min(size, 300))
                send(n.sql, login + bytes([kind]) + struct.pack(">I", size) + body, 0.05)
        for request in (b"GET /health HTTP/9.9\r\n\r\n", b"BREW /health HTTP/1.1\r\n\r\n",
                        b"GET /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                        b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
                        b"POST /api/v1/demo/cut?node=1&out=1&in=1 HTTP/1.1\r\n\r\n"):
            answer = send(n.http, request, 0.3)
            expect(b" 200 " not in answer[:16] or request.startswith(b"GET /health"), answer[:80])
            expect(b"root:" not in answer, "files are no business of this port")
        expect(http(f"127.0.0.1:{n.http}", "/nowhere")[0] == 404, "404")
        expect(http(f"127.0.0.1:{n.http}", "/api/v1/drain")[0] == 405, "GET does not drain")
        # What a web page could send from elsewhere changes nothing.
        answer = send(n.http, b"POST /api/v1/drain HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 0.3)
        expect(b" 403 " in answer[:16], answer[:80])
        with n.connect() as c:
            expect(c.query("select 1") == [["1"]], "others are served")
        expect(n.stop() == 0, "it stops in order")


def many_silent_connections(options):
    """Sockets that say nothing must not keep others out, nor keep the node from stopping."""
    with folder() as path, alone(options, path) as n:
        n.wait_live()
        held = []
        try:
            for port in (n.rpc, n.sql, n.http):
                for _ in range(100):
                    held.append(socket.create_connection(("127.0.0.1", port), timeout=2))
            with n.connect() as c:
                expect(c.query("select 1") == [["1"]], "a client is served beside them")
            expect(n.health() == 200, "health is answered beside them")
            began = time.monotonic()
            expect(n.stop() == 0, "it stops in order")
            expect(time.monotonic() - began < 12, "it stops soon")
        finally:
            for s in held:
                s.close()


# ---- Command line and environment -------------------------------------------------------------------


def refused(n, *words, code=None, seconds=END_S):
    """The node must end by itself and say all of these words."""
    n.start()
    try:
        got = n.wait_end(seconds)
        text = n.said()
        expect(got > 0 if code is None else got == code, f"exit {got}: {text[-400:]}")
        for word in words:
            expect(word in text, f'"{word}" is missing in: {text[-400:]}')
        return text
    finally:
        n.kill()


def wrong_flags_are_named(options):
    with folder() as path:
        for words in (["start", "--store", path, "--insecure", "--frobnicate"],
                      ["start", "--store", path, "--insecure", "--cache-mib", "lots"],
                      ["start", "--store", path, "--insecure", "--locality", "nonsense"],
                      ["start", "--store", path, "--insecure", "--log-level", "loud"],
                      ["start", "--store", path], ["start", "--insecure"], ["frobnicate"], []):
            done = subprocess.run([os.path.join(options.bin, "dsqld"), *words], timeout=END_S,
                                  capture_output=True, text=True, check=False)
            expect(done.returncode == 2, f"{words}: exit {done.returncode}")
            last = words[-1] if words else "usage"
            said = done.stderr
            named = [last, words[-2] if len(words) > 1 else last, "--store", "--certs-dir", "usage"]
            expect(any(w in said for w in named) and said.strip(), f"{words}: {said}")


def occupied_ports_are_named(options):
    with folder() as path, socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        for flag in ("listen_rpc", "listen_sql", "listen_http"):
            n = alone(options, path, name=flag, **{flag: f"127.0.0.1:{port}"})
            refused(n, "--" + flag.replace("_", "-"), str(port))


def insecure_listens_on_loopback_only(options):
    with folder() as path:
        for flag in ("listen_rpc", "listen_sql", "listen_http"):
            n = alone(options, path, name=flag, **{flag: f"0.0.0.0:{free_port()}"})
            refused(n, "loopback")


def a_store_has_one_owner(options):
    with folder() as path, alone(options, path) as n:
        n.wait_live()
        second = alone(options, path, name="second", store=n.store)
        refused(second, n.store)
        expect(n.health() == 200, "the first one does not mind")


def a_node_of_another_cluster_is_turned_away(options):
    """It knows an address of our cluster, but belongs to another one."""
    with folder() as path, alone(options, path, name="ours") as ours, \
            alone(options, path, name="theirs") as theirs:
        ours.wait_live()
        theirs.wait_live()
        theirs.stop()
        again = alone(options, path, name="theirs2", store=theirs.store,
                      join=f"127.0.0.1:{ours.rpc}")
        with again:
            again.wait_live()  # It has an identity, and goes on with its own cluster.
            nodes = http(f"127.0.0.1:{ours.http}", "/api/v1/nodes")[1]
            expect(nodes.count('"id":') == 1, f"our cluster has taken it in: {nodes}")
            with ours.connect() as a, again.connect() as b:
                a.query("create table only_ours (id int primary key)")
                result = b.simple("select * from only_ours")[0]
                expect(result.error is not None and result.error.sqlstate == "42P01",
                       "the clusters have melted together")


# ---- Damaged and missing files ------------------------------------------------------------------------


def filled_store(options, path, rows=3000):
    n = alone(options, path)
    with n:
        n.wait_live()
        with n.connect(timeout=60) as c:
            c.query("create table t (id int primary key, v text)")
            for at in range(0, rows, 500):
                values = ",".join(f"({i}, repeat('x', 100))" for i in range(at, at + 500))
                c.query(f"insert into t values {values}")
        expect(n.stop() == 0, "it stops in order")
    with n:
        n.wait_live()  # What was in the log is in tables now.
        expect(n.stop() == 0, "it stops in order")
    return n


def files(n, pattern):
    return sorted(glob.glob(os.path.join(n.store, "shard-0", pattern)))


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x55]))


def survives_or_says_so(n, seconds=END_S):
    """A damaged store either is refused with words, or serves exactly what it had."""
    with n:
        def decided():
            return n.process.poll() is not None or n.health() == 200
        wait_for("the node serves or ends", seconds, decided)
        if n.process.poll() is None:
            with n.connect(timeout=20) as c:
                result = c.simple("select count(*) from t")[0]
                if result.error is None:
                    expect(result.texts() == [["3000"]], f"wrong data: {result.texts()}")
                    return "served"
                expect(result.error.sqlstate[:2] in ("58", "XX"), f"the client is told {result.error}")
            return "error to the client"
        expect(n.process.returncode > 0, f"a signal ended it: {n.process.returncode}")
        expect("dsqld:" in n.said(), f"it ended without a word: {n.said()[-300:]}")
        return "refused"


def damaged_files_are_noticed(options):
    """A flipped byte or a cut file: never wrong rows, never a crash."""
    rng = random.Random(options.seed)
    verdicts = []
    with folder(STORE_FAILED) as path:
        n = filled_store(options, path)
        shutil.copytree(n.store, n.store + ".good")
        for pattern in ("MANIFEST-*", "CURRENT", "*.sst", "*.log", "OPTIONS-*"):
            found = [f for f in files(n, pattern) if os.path.getsize(f) > 0]
            if not found:
                continue
            for how in ("flip", "cut", "gone"):
                victim = rng.choice(found)
                size = os.path.getsize(victim)
                if how == "flip":
                    flip(victim, rng.randrange(size))
                elif how == "cut":
                    os.truncate(victim, size // 2)
                else:
                    os.remove(victim)
                verdict = survives_or_says_so(n)
                verdicts.append(f"{pattern} {how}: {verdict}")
                # A log that is cut at its end is what a crash leaves; all else must not be served
                # as if nothing had happened, unless what is damaged is not needed.
                shutil.rmtree(n.store)
                shutil.copytree(n.store + ".good", n.store)
        expect(survives_or_says_so(n) == "served", "the whole copy works")
    return "; ".join(verdicts)


def a_store_that_is_no_directory_is_named(options):
    with folder() as path:
        n = alone(options, path)
        with open(n.store, "w", encoding="utf-8") as f:
            f.write("x")
        refused(n, n.store)
        n = alone(options, path, name="other", store=os.path.join(path, "no", "such", "place"))
        refused(n, "no/such/place")


def a_missing_rtt_file_is_named(options):
    with folder() as path:
        refused(alone(options, path, demo=True, rtt=os.path.join(path, "none.rtt")), "none.rtt")


# ---- Full disks -----------------------------------------------------------------------------------------


def fill(n, seconds):
    """Inserts until the node refuses or ends. The ids that were promised."""
    promised = []
    row = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until and n.process.poll() is None:
        try:
            with n.connect(timeout=10) as c:
                while time.monotonic() < until:
                    row += 1
                    result = c.simple(f"insert into t values ({row}, repeat('x', 50000))")[0]
                    if result.error is not None:
                        break
                    promised.append(row)
        except Exception:  # It is going down.
            time.sleep(0.1)
    return promised


def full(options, n, code, give_room):
    """A node whose disk fills up: it ends with words, and serves all it promised once there is room."""
    with n:
        n.wait_live()
        with n.connect() as c:
            c.query("create table t (id int primary key, v text)")
        promised = fill(n, 60 * options.slowness)
        expect(n.process.poll() is not None, "the disk never became full")
        expect(n.process.returncode == code, f"exit {n.process.returncode}: {n.said()[-400:]}")
        expect("dsqld:" in n.said() and ("space" in n.said() or "store failed" in n.said()),
               n.said()[-400:])
    give_room(n)
    with n:
        n.wait_live(60)
        with n.connect(timeout=30) as c:
            rows = {int(r[0]) for r in c.query("select id from t")}
        lost = set(promised) - rows
        expect(not lost, f"{len(lost)} of {len(promised)} promised rows are lost")
    return f"{len(promised)} rows kept"


def a_full_disk_ends_the_node_and_loses_nothing(options):
    """On a small tmpfs; only root may mount one."""
    if os.geteuid() != 0:
        return "skipped: mounting needs root"
    with folder(STORE_FAILED) as path:
        mount = os.path.join(path, "small")
        os.mkdir(mount)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", mount],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"skipped: {done.stderr.strip()}"
        try:
            n = alone(options, path, store=os.path.join(mount, "data"))
            return full(options, n, EXIT_DISK_FULL, lambda _: subprocess.run(
                ["mount", "-o", "remount,size=600m", mount], check=True))
        finally:
            n.kill()
            subprocess.run(["umount", mount], check=False)


def a_file_that_may_not_grow_ends_the_node_and_loses_nothing(options):
    """RLIMIT_FSIZE, which needs no root. The signal that comes with it must not kill the process."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, resource.RLIM_INFINITY))

    def lift(n):
        n.preexec = None

    with folder(STORE_FAILED) as path:
        return full(options, alone(options, path, preexec=limit), EXIT_STORE, lift)


main([garbage_on_every_port, garbage_after_a_good_start, many_silent_connections,
      wrong_flags_are_named, occupied_ports_are_named, insecure_listens_on_loopback_only,
      a_store_has_one_owner, a_node_of_another_cluster_is_turned_away, damaged_files_are_noticed,
      a_store_that_is_no_directory_is_named, a_missing_rtt_file_is_named,
      a_full_disk_ends_the_node_and_loses_nothing,
      a_file_that_may_not_grow_ends_the_node_and_loses_nothing])
