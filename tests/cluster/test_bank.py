"""test_bank.py -- money is moved while nodes die, ranges split and leases move; none is made or lost.

Nine nodes in three regions, 32 clients, 1,000 accounts over 50 ranges. Every transfer also writes a row that
names it, in the same transaction, so that at the end every client can be held to what it was told: a
transfer that was promised has its row, one that was refused has none, and the balances are exactly what the
rows add up to. Whoever reads all accounts, at present or in the past, must see the same total.

    kill       kill -9 of a random node every 20 s, restarted 8 s later
    moves      a split somewhere, or the lease of some range elsewhere, every second
    deadlocks  pairs of transactions that lock two rows in opposite order, on purpose, all the time

--seconds N says for how long (default 40; a full run is 600).
"""

import random
import threading
import time

import rig
from rig import Demo, expect, main, wait_for

ACCOUNTS = 1000
RANGES = 50
CLIENTS = 32
START = 100                 # Balance of each.
STUCK_S = 10.0              # No client waits longer, whatever happens.
DEADLOCK_S = 1.0
KILL_EVERY_S, DEAD_FOR_S = 20.0, 8.0
CALM_S = 12.0               # This long after a kill waits may have other reasons than what is measured.
RETRY = {"40001", "40P01"}
# Leaseholders that are being replaced, nodes that stop; never wrong data.
DISTURBED = rig.EXPECTED | {"53400", "55000", "55P03"}


class Abandoned(Exception):
    """The transaction is certainly not committed."""


class Open(Exception):
    """Committed or not: nobody here knows."""


class Books:
    """What all clients were told."""

    def __init__(self):
        self.lock = threading.Lock()
        self.promised, self.refused, self.open = set(), set(), set()
        self.reads = self.past_reads = self.retries = 0
        self.wrong, self.surprises = [], []
        self.waits = []             # Seconds of every answer above one second.
        self.deadlocks = []         # (when, seconds)
        self.kills = []             # When.

    def note(self, kind, transfer):
        with self.lock:
            getattr(self, kind).add(transfer)

    def surprise(self, text):
        with self.lock:
            self.surprises.append(text)


class Client:
    """One connection at a time, to any node; tells how long answers take."""

    def __init__(self, ports, books, rng, timeout):
        self.ports, self.books, self.rng, self.timeout = ports, books, rng, timeout
        self.connection = None

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def ask(self, sql):
        """The last Result of a message; raises Abandoned when there is none, as Open does in commit()."""
        began = time.monotonic()
        try:
            if self.connection is None:
                self.connection = rig.connect(self.rng.choice(self.ports), timeout=self.timeout)
            return self.connection.simple(sql)[-1]
        except TimeoutError as error:
            self.books.surprise(f"no answer for {self.timeout} s: {sql}")
            self.close()
            raise Abandoned(str(error)) from None
        except (OSError, rig.ConnectionLost) as error:
            self.close()
            time.sleep(0.05)
            raise Abandoned(str(error)) from None
        finally:
            took = time.monotonic() - began
            if took > 1:
                with self.books.lock:
                    self.books.waits.append(took)

    def must(self, sql):
        """The Result; an error ends the transaction."""
        result = self.ask(sql)
        if result.error is None:
            return result
        if result.error.sqlstate not in DISTURBED | RETRY:
            self.books.surprise(f"{sql}: {result.error}")
        if result.error.sqlstate in RETRY:
            with self.books.lock:
                self.books.retries += 1
        if self.connection is not None and self.connection.txn != "I":
            self.ask("rollback")
        raise Abandoned(result.error.sqlstate)

    def commit(self):
        """Returns when it is committed."""
        try:
            result = self.ask("commit")
        except Abandoned as lost:
            raise Open(str(lost)) from None
        if result.error is not None and result.error.sqlstate in rig.AMBIGUOUS:
            raise Open(str(result.error))
        if result.error is not None and result.error.sqlstate not in DISTURBED | RETRY:
            self.books.surprise(f"commit: {result.error}")
        if result.error is not None or result.tag != "COMMIT":
            raise Abandoned(str(result.error or result.tag))


class Teller(threading.Thread):
    """Transfers in all the ways that applications have, and audits."""

    def __init__(self, number, client, books, stop):
        super().__init__(daemon=True)
        self.number, self.client, self.books, self.stop = number, client, books, stop
        self.rng = client.rng
        self.done = 0
        self.last = time.monotonic()
        self.longest = 0.0

    def balances(self, rows):
        return {int(i): int(b) for i, b in rows}

    def lock_in_order(self, a, b):
        rows = self.client.must(f"select id, balance from accounts where id in ({a}, {b}) "
                                "order by id for update")
        return self.balances(rows.texts())

    def lock_one_by_one(self, a, b):
        found = {}
        for account in (a, b):
            rows = self.client.must(f"select id, balance from accounts where id = {account} for update")
            found.update(self.balances(rows.texts()))
        return found

    def read_only(self, a, b):
        rows = self.client.must(f"select id, balance from accounts where id in ({a}, {b})")
        return self.balances(rows.texts())

    def transfer(self, name):
        a, b = self.rng.sample(range(ACCOUNTS), 2)
        amount = self.rng.randrange(1, 6)
        level, read = self.rng.choice((("serializable", self.lock_in_order),
                                       ("serializable", self.lock_one_by_one),
                                       ("serializable", self.read_only),
                                       ("read committed", self.lock_in_order),
                                       ("read committed", self.lock_one_by_one),
                                       ("read committed", None)))
        ask = self.client.must
        ask(f"begin isolation level {level}")
        if read is None:
            ask(f"update accounts set balance = balance - {amount} where id = {a}")
            ask(f"update accounts set balance = balance + {amount} where id = {b}")
        else:
            found = read(a, b)
            expect(len(found) == 2, f"accounts {a} and {b}: {found}")
            ask(f"update accounts set balance = {found[a] - amount} where id = {a}")
            ask(f"update accounts set balance = {found[b] + amount} where id = {b}")
        ask(f"insert into transfers values ({name}, {a}, {b}, {amount})")
        self.client.commit()

    def audit(self):
        past = self.rng.random() < 0.3
        when = " as of system time follower_read_timestamp()" if past else ""
        rows = self.client.must(f"select count(*), sum(balance) from accounts{when}").texts()
        count, total = int(rows[0][0]), int(rows[0][1] or 0)
        with self.books.lock:
            self.books.reads += not past
            self.books.past_reads += past
            if (count, total) != (ACCOUNTS, ACCOUNTS * START):
                self.books.wrong.append(f"{count} accounts with {total}{when}")

    def step(self):
        if self.rng.random() < 0.1:
            try:
                self.audit()
            except Abandoned:
                return False
            return True
        name = self.number * 10_000_000 + self.done
        self.done += 1
        try:
            self.transfer(name)
        except Abandoned:
            self.books.note("refused", name)
            return False
        except Open:
            self.books.note("open", name)
            return False
        self.books.note("promised", name)
        return True

    def run(self):
        try:
            while not self.stop.is_set():
                if self.step():
                    now = time.monotonic()
                    self.longest = max(self.longest, now - self.last)
                    self.last = now
        except Exception as error:  # A thread's end must be seen.
            self.books.surprise(f"client {self.number}: {type(error).__name__}: {error}")
        finally:
            self.client.close()


class Deadlocks(threading.Thread):
    """Two transactions, two rows, opposite order: how long until one of them is told 40P01."""

    def __init__(self, number, make_client, books, stop):
        super().__init__(daemon=True)
        self.rows = (ACCOUNTS + 2 * number, ACCOUNTS + 2 * number + 1)
        self.clients = [make_client() for _ in range(2)]
        self.books, self.stop = books, stop

    def side(self, i, barrier, told):
        """One of the two: locks its own row, then the other's."""
        mine, other = self.rows[i], self.rows[1 - i]
        client = self.clients[i]
        try:
            for sql in ("begin", f"select 1 from pairs where id = {mine} for update"):
                result = client.ask(sql)
                if result.error is not None:
                    raise Abandoned(result.error.sqlstate)
            barrier.wait(5)
            began = time.monotonic()
            result = client.ask(f"select 1 from pairs where id = {other} for update")
            told[i] = (time.monotonic() - began, None if result.error is None else result.error.sqlstate)
            client.ask("rollback")
        except Abandoned:
            barrier.abort()
            client.close()
        except threading.BrokenBarrierError:
            client.close()      # Which also frees what it has locked.

    def run(self):
        while not self.stop.is_set():
            barrier, told = threading.Barrier(2), [None, None]
            sides = [threading.Thread(target=self.side, args=(i, barrier, told)) for i in range(2)]
            for t in sides:
                t.start()
            for t in sides:
                t.join()
            victims = [t for t, code in (x for x in told if x) if code == "40P01"]
            if victims:
                with self.books.lock:
                    self.books.deadlocks.append((time.monotonic(), min(victims)))
            self.stop.wait(0.2)
        for client in self.clients:
            client.close()


class Killer(threading.Thread):
    def __init__(self, demo, rng, books, stop):
        super().__init__(daemon=True)
        self.demo, self.rng, self.books, self.stop = demo, rng, books, stop

    def run(self):
        try:
            while not self.stop.wait(KILL_EVERY_S - DEAD_FOR_S):
                victim = str(self.rng.randrange(1, len(self.demo.nodes) + 1))
                with self.books.lock:
                    self.books.kills.append(time.monotonic())
                self.demo.ctl("demo", "kill", victim)
                self.stop.wait(DEAD_FOR_S)
                self.demo.ctl("demo", "restart", victim)
        except Exception as error:
            self.books.surprise(f"killer: {error}")


class Mover(threading.Thread):
    """Splits and moves; what cannot be done just now is left."""

    def __init__(self, client, books, stop):
        super().__init__(daemon=True)
        self.client, self.rng, self.books, self.stop = client, client.rng, books, stop
        self.splits = self.moves = self.failed = 0

    def split(self):
        self.client.must(f"alter table accounts split at values ({self.rng.randrange(ACCOUNTS)})")
        self.splits += 1

    def move(self):
        ranges = self.client.must("show ranges from table accounts").texts()
        chosen = self.rng.choice(ranges)
        stores = chosen[3].strip("{}").split(",")
        self.client.must(f"alter range {chosen[2]} relocate lease to {self.rng.choice(stores)}")
        self.moves += 1

    def run(self):
        while not self.stop.wait(1):
            try:
                if self.rng.random() < 0.3:
                    self.split()
                else:
                    self.move()
            except Abandoned:
                self.failed += 1
        self.client.close()


def prepare(d, pairs):
    d.query(1, "create table accounts (id int8 primary key, balance int not null)", 60)
    d.query(1, "create table transfers (id int8 primary key, a int8, b int8, amount int8)", 60)
    d.query(1, "create table pairs (id int8 primary key)", 60)
    d.query(1, f"insert into accounts select g, {START} from generate_series(0, {ACCOUNTS - 1}) as g", 60)
    d.query(1, f"insert into pairs select g from generate_series({ACCOUNTS}, {ACCOUNTS + 2 * pairs}) as g",
            60)
    step = ACCOUNTS // RANGES
    borders = ", ".join(f"({i})" for i in range(step, ACCOUNTS, step))
    d.query(2, f"alter table accounts split at values {borders}", 120)
    d.query(2, f"alter table pairs split at values ({ACCOUNTS + 1})", 60)
    d.query(2, "alter table transfers split at values (0), (100000000), (200000000)", 60)
    wait_for(f"{RANGES} ranges", 60,
             lambda: len(d.query(3, "show ranges from table accounts", 60)) >= RANGES, 0.5)


def check(d, books):
    """The rows against what was said, and the balances against the rows."""
    expect(not books.surprises, f"{len(books.surprises)} surprises: {books.surprises[:5]}")
    expect(not books.wrong, f"{len(books.wrong)} wrong totals: {books.wrong[:5]}")
    want = {i: START for i in range(ACCOUNTS)}
    rows = set()
    for name, a, b, amount in d.query(1, "select id, a, b, amount from transfers", 120):
        rows.add(int(name))
        want[int(a)] -= int(amount)
        want[int(b)] += int(amount)
    lost, undead = books.promised - rows, books.refused & rows
    expect(not lost, f"{len(lost)} of {len(books.promised)} promised transfers are lost: "
                     f"{sorted(lost)[:10]}")
    expect(not undead, f"{len(undead)} refused transfers happened: {sorted(undead)[:10]}")
    for node in (1, 5, 9):
        have = {int(i): int(b) for i, b in d.query(node, "select id, balance from accounts", 120)}
        wrong = {i: (have.get(i), want[i]) for i in want if have.get(i) != want[i]}
        expect(not wrong, f"node {node}: {len(wrong)} balances are wrong (is, should be): "
                          f"{dict(list(wrong.items())[:10])}")
    return len(books.open & rows)


def undisturbed(books, when, took):
    return not any(when - took - CALM_S < kill < when for kill in books.kills)


def money_is_conserved(options):
    books, stop = Books(), threading.Event()
    rng = random.Random(options.seed)
    pairs = 2

    with Demo(options.bin, "--nodes", "9", "--regions", "a:3,b:3,c:3", "--rtt", "off") as d:
        d.wait_replicas(3, 60 * options.slowness)
        prepare(d, pairs)
        ports = [d.sql_port(n["id"]) for n in d.nodes]

        def client():
            return Client(ports, books, random.Random(rng.random()), 2 * STUCK_S * options.slowness)

        tellers = [Teller(i, client(), books, stop) for i in range(CLIENTS)]
        mover = Mover(client(), books, stop)
        others = [Killer(d, rng, books, stop), mover]
        others += [Deadlocks(i, client, books, stop) for i in range(pairs)]
        began = time.monotonic()
        for t in tellers + others:
            t.start()
        while time.monotonic() - began < options.seconds and not books.surprises and not books.wrong:
            time.sleep(1)
        stop.set()
        for t in tellers + others:
            t.join(60 * options.slowness)
        stuck = [t.number for t in tellers if t.is_alive()]
        seconds = time.monotonic() - began
        expect(not stuck, f"clients {stuck} do not end")
        late = check(d, books)
        ranges = len(d.query(1, "show ranges from table accounts", 60))
        calm = sorted(t for when, t in books.deadlocks if undisturbed(books, when, t))
        longest = max(t.longest for t in tellers)
        print(f"  {len(books.promised)} transfers ({len(books.promised) / seconds:.0f}/s), "
              f"{len(books.refused)} refused, {len(books.open)} open of which {late} happened, "
              f"{books.retries} conflicts; {books.reads} totals at present, {books.past_reads} in the past; "
              f"{len(books.kills)} kills, {mover.splits} splits, {mover.moves} moves "
              f"({mover.failed} could not be), {ranges} ranges; longest without success {longest:.1f} s, "
              f"longest answer {max(books.waits, default=0):.1f} s", flush=True)
    expect(len(books.promised) > 10 * options.seconds / options.slowness, "hardly anything was moved")
    expect(longest < STUCK_S * options.slowness, f"a client was stuck for {longest:.1f} s")
    expect(calm, "no deadlock was measured")
    expect(calm[-1] < DEADLOCK_S * options.slowness,
           f"a deadlock took {calm[-1]:.2f} s; {len(calm)} were measured")
    return (f"{len(books.promised)} transfers, {len(calm)} deadlocks, the median {calm[len(calm) // 2]:.3f} s, "
            f"the longest {calm[-1]:.3f} s")


main([money_is_conserved])
