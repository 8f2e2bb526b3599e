"""Locks and isolation between sessions: every case runs against PostgreSQL 15 and against dsqld.

The anomalies are those of Martin Kleppmann's Hermitage. A case is a fixed order of steps; a step that has
to wait is left waiting while the others go on. What is checked is what the level promises, not who loses:
the two servers choose their victims differently.
"""

import threading
import time
import unittest

import node
import pgclient
import pgserver
import sessions

# A transaction that could not be: conflict, deadlock, or its block had failed before.
LOST = ("40001", "40P01", "25P02")


class Cases:
    """Mixed into a class that says how to connect."""

    deadlock_seconds = 1.0

    def connect(self):
        raise NotImplementedError

    def setUp(self):
        self.s = sessions.Sessions(self.connect)
        self.addCleanup(self.s.close)
        with self.connect() as c:
            c.simple("drop table if exists h")
            c.query("create table h (id int primary key, value int)")
            c.query("insert into h values (1, 10), (2, 20)")

    def step(self, name, sql):
        return self.s.step(name, sql)

    def begin(self, level, *names):
        for name in names:
            self.assertIsNone(self.step(name, f"begin isolation level {level}").sqlstate)

    def final(self):
        self.s.settle()
        with self.connect() as c:
            return {int(i): int(v) for i, v in c.query("select id, value from h")}

    def committed(self, name):
        """Did its COMMIT commit? Every step before it must have ended well or in a lost conflict."""
        steps = self.s.settle()[name]
        for step in steps:
            self.assertIn(step.sqlstate, (None, *LOST), step.sql)
        return steps[-1].wait().tag == "COMMIT"

    # ---- Locks ---------------------------------------------------------------------------------

    def test_update_waits_for_the_lock_and_sees_the_change(self):
        self.begin("read committed", "a")
        self.step("a", "select value from h where id = 1 for update")
        waiting = self.step("b", "update h set value = value + 1 where id = 1")
        self.assertTrue(waiting.blocked)
        self.step("a", "update h set value = 100 where id = 1")
        self.step("a", "commit")
        self.assertIsNone(waiting.sqlstate)
        self.assertEqual(self.final()[1], 101)

    def test_rollback_frees_the_lock(self):
        self.begin("read committed", "a")
        self.step("a", "delete from h where id = 1")
        waiting = self.step("b", "select value from h where id = 1 for update")
        self.assertTrue(waiting.blocked)
        self.step("a", "rollback")
        self.assertEqual(waiting.rows, [("10",)])

    def test_a_lost_client_frees_its_locks(self):
        self.begin("read committed", "a")
        self.step("a", "select 1 from h where id = 1 for update")
        waiting = self.step("b", "update h set value = 11 where id = 1")
        self.assertTrue(waiting.blocked)
        self.s.connection("a").close()
        self.assertIsNone(waiting.sqlstate)

    def test_shared_locks_are_shared(self):
        self.begin("read committed", "a", "b", "c")
        self.assertEqual(self.step("a", "select value from h where id = 1 for share").rows, [("10",)])
        self.assertEqual(self.step("b", "select value from h where id = 1 for key share").rows,
                         [("10",)])
        waiting = self.step("c", "select value from h where id = 1 for update")
        self.assertTrue(waiting.blocked)
        self.step("a", "commit")
        time.sleep(sessions.PATIENCE)
        self.assertFalse(waiting.future.done())
        self.step("b", "commit")
        self.assertEqual(waiting.rows, [("10",)])

    def test_plain_reads_wait_for_nobody(self):
        self.begin("read committed", "a")
        self.step("a", "update h set value = 11")
        for level in ("read committed", "serializable"):
            reading = self.step("b", f"begin isolation level {level}; select value from h "
                                     "where id = 1")
            self.assertFalse(reading.blocked)
            self.assertEqual(reading.rows, [("10",)])
            self.step("b", "commit")

    def test_nowait_fails_at_once(self):
        self.begin("read committed", "a")
        self.step("a", "select 1 from h where id = 1 for update")
        for sql in ("select id from h where id = 1 for update nowait",
                    "select id from h order by id for share nowait",
                    "select id from h where value < 15 for no key update nowait"):
            step = self.step("b", sql)
            self.assertFalse(step.blocked)
            self.assertEqual(step.sqlstate, "55P03")
            self.assertEqual(step.wait().error.message,
                             "could not obtain lock on row in relation \"h\"")
        self.assertEqual(self.step("b", "select id from h where id = 2 for update nowait").rows,
                         [("2",)])

    def test_skip_locked_goes_round(self):
        self.begin("read committed", "a")
        self.step("a", "select 1 from h where id = 1 for update")
        self.assertEqual(self.step("b", "select id from h order by id limit 1 "
                                        "for update skip locked").rows, [("2",)])
        self.assertEqual(self.step("b", "select id from h where id = 1 for update skip locked").rows,
                         [])
        self.assertEqual(self.step("b", "select id from h where value > 0 order by value "
                                        "for share skip locked").rows, [("2",)])

    def test_lock_timeout(self):
        self.begin("read committed", "a", "b")
        self.step("a", "update h set value = 11 where id = 1")
        self.step("b", "set local lock_timeout = '300ms'")
        waiting = self.step("b", "update h set value = 12 where id = 1")
        self.assertLess(sessions.timed(waiting), 3)
        self.assertEqual(waiting.sqlstate, "55P03")
        self.assertEqual(waiting.wait().error.message, "canceling statement due to lock timeout")

    def test_statement_timeout_and_cancel_end_a_wait(self):
        self.begin("read committed", "a")
        self.step("a", "update h set value = 11 where id = 1")
        self.step("b", "set statement_timeout = '300ms'")
        waiting = self.step("b", "update h set value = 12 where id = 1")
        self.assertEqual(waiting.sqlstate, "57014")
        self.step("b", "reset statement_timeout")
        waiting = self.step("b", "select 1 from h where id = 1 for update")
        self.assertTrue(waiting.blocked)
        self.s.connection("b").cancel()
        self.assertEqual(waiting.sqlstate, "57014")
        self.assertEqual(waiting.wait().error.message, "canceling statement due to user request")

    def test_who_is_silent_in_a_transaction_loses_its_locks(self):
        self.step("a", "set idle_in_transaction_session_timeout = '300ms'")
        self.begin("read committed", "a")
        self.step("a", "update h set value = 11 where id = 1")
        waiting = self.step("b", "update h set value = value + 1 where id = 1")
        self.assertIsNone(waiting.sqlstate)
        with self.assertRaises(pgclient.ConnectionLost) as lost:
            self.s.connection("a").simple("commit")
        self.assertEqual(lost.exception.error.sqlstate, "25P03")
        self.assertEqual(lost.exception.error.message,
                         "terminating connection due to idle-in-transaction timeout")
        self.assertEqual(self.final()[1], 11)

    def test_who_is_silent_outside_of_transactions(self):
        self.step("a", "set idle_session_timeout = '300ms'")
        time.sleep(0.6)
        with self.assertRaises(pgclient.ConnectionLost) as lost:
            self.s.connection("a").simple("select 1")
        self.assertEqual(lost.exception.error.sqlstate, "57P05")

    def deadlock(self, level):
        self.begin(level, "a", "b")
        self.step("a", "select 1 from h where id = 1 for update")
        self.step("b", "select 1 from h where id = 2 for update")
        began = time.monotonic()
        first = self.step("a", "update h set value = 11 where id = 2")
        second = self.step("b", "update h set value = 12 where id = 1")
        states = None
        while not (first.future.done() or second.future.done()):
            self.assertLess(time.monotonic() - began, sessions.STUCK)
            time.sleep(0.01)
        took = time.monotonic() - began
        for name, step in (("a", first), ("b", second)):
            if step.future.done() and step.sqlstate is not None:
                self.step(name, "rollback")
        states = sorted(str(x) for x in (first.sqlstate, second.sqlstate))
        self.assertEqual(states, ["40P01", "None"])
        self.assertLess(took, self.deadlock_seconds + 2 * sessions.PATIENCE + 0.5)
        for step in (first, second):
            if step.sqlstate is not None:
                self.assertEqual(step.wait().error.message, "deadlock detected")
                self.assertIsNotNone(step.wait().error.detail)

    def test_deadlock_read_committed(self):
        self.deadlock("read committed")

    def test_deadlock_serializable(self):
        self.deadlock("serializable")

    def test_deadlock_of_three(self):
        with self.connect() as c:
            c.query("insert into h values (3, 30)")
        self.begin("read committed", "a", "b", "c")
        for name, row in (("a", 1), ("b", 2), ("c", 3)):
            self.step(name, f"update h set value = 0 where id = {row}")
        waits = {name: self.step(name, f"update h set value = 1 where id = {row}")
                 for name, row in (("a", 2), ("b", 3), ("c", 1))}
        until = time.monotonic() + sessions.STUCK
        left = dict(waits)
        while left:     # Whoever is done ends, so that the next one can go on.
            self.assertLess(time.monotonic(), until)
            for name in [n for n, w in left.items() if w.future.done()]:
                self.step(name, "commit" if left.pop(name).sqlstate is None else "rollback")
            time.sleep(0.01)
        self.assertEqual(sum(w.sqlstate == "40P01" for w in waits.values()), 1)

    def test_a_queue_gives_every_job_to_one_worker(self):
        jobs, workers = 60, 6
        with self.connect() as c:
            c.query(f"insert into h select g, 0 from generate_series(100, {99 + jobs}) as g")
        done, lock = [], threading.Lock()

        def work():
            with self.connect() as c:
                idle = 0
                while idle < 50:
                    c.simple("begin")
                    taken = c.simple("select id from h where id >= 100 and value = 0 order by id "
                                     "limit 1 for update skip locked")[-1]
                    job = taken.texts()[0][0] if taken.error is None and taken.rows else None
                    if job is not None:
                        c.simple(f"update h set value = 1 where id = {job}")
                    end = c.simple("commit")[-1]
                    if job is not None and end.error is None and end.tag == "COMMIT":
                        with lock:
                            done.append(int(job))
                        idle = 0
                    elif taken.error is None and job is None:
                        with lock:
                            idle = 50 if len(done) >= jobs else idle + 1
        threads = [threading.Thread(target=work) for _ in range(workers)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
        self.assertEqual(sorted(done), list(range(100, 100 + jobs)))

    def test_counters_lose_nothing(self):
        """UPDATE x = x + 1 by itself, and SELECT FOR UPDATE with an UPDATE, at both levels."""
        clients, rounds = 6, 10
        failures = []

        def count(level, in_block):
            with self.connect() as c:
                c.simple(f"set default_transaction_isolation = '{level}'")
                for _ in range(rounds):
                    while True:
                        if in_block:
                            c.simple("begin")
                            result = c.simple("select value from h where id = 1 for update")[-1]
                            if result.error is None:
                                value = int(result.texts()[0][0])
                                c.simple(f"update h set value = {value + 1} where id = 1")
                            result = c.simple("commit")[-1]
                        else:
                            result = c.simple("update h set value = value + 1 where id = 1")[-1]
                        if result.error is None and result.tag in ("COMMIT", "UPDATE 1"):
                            break
                        if level == "read committed":
                            failures.append(str(result.error))
                            return

        for level in ("read committed", "serializable"):
            for in_block in (False, True):
                before = self.final()[1]
                threads = [threading.Thread(target=count, args=(level, in_block))
                           for _ in range(clients)]
                for t in threads:
                    t.start()
                for t in threads:
                    t.join(120)
                self.assertEqual(failures, [], (level, in_block))
                self.assertEqual(self.final()[1], before + clients * rounds, (level, in_block))

    # ---- Anomalies -----------------------------------------------------------------------------

    def test_g0_dirty_write(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.step("a", "update h set value = 11 where id = 1")
                self.assertTrue(self.step("b", "update h set value = 12 where id = 1").blocked)
                self.step("a", "update h set value = 21 where id = 2")
                self.step("a", "commit")
                self.step("b", "update h set value = 22 where id = 2")
                self.step("b", "commit")
                self.assertTrue(self.committed("a"))
                want = {1: 12, 2: 22} if self.committed("b") else {1: 11, 2: 21}
                self.assertEqual(self.final(), want)

    def test_g1a_aborted_read(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.step("a", "update h set value = 101 where id = 1")
                self.assertEqual(self.step("b", "select value from h where id = 1").rows, [("10",)])
                self.step("a", "rollback")
                self.assertEqual(self.step("b", "select value from h where id = 1").rows, [("10",)])
                self.step("b", "commit")
                self.assertTrue(self.committed("b"))

    def test_g1b_intermediate_read(self):
        for level, last in (("read committed", "11"), ("serializable", "10")):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.step("a", "update h set value = 101 where id = 1")
                self.assertEqual(self.step("b", "select value from h where id = 1").rows, [("10",)])
                self.step("a", "update h set value = 11 where id = 1")
                self.step("a", "commit")
                self.assertEqual(self.step("b", "select value from h where id = 1").rows, [(last,)])
                self.step("b", "commit")
                self.assertTrue(self.committed("b"))

    def test_g1c_circular_flow(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.step("a", "update h set value = 11 where id = 1")
                self.step("b", "update h set value = 22 where id = 2")
                a = self.step("a", "select value from h where id = 2")
                b = self.step("b", "select value from h where id = 1")
                self.step("a", "commit")
                self.step("b", "commit")
                self.assertIn(a.rows, ([("20",)], None))
                self.assertIn(b.rows, ([("10",)], None))
                both = self.committed("a") and self.committed("b")
                self.assertFalse(both and level == "serializable")

    def test_otv_observed_transaction_vanishes(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b", "c")
                self.step("a", "update h set value = 11 where id = 1")
                self.step("a", "update h set value = 19 where id = 2")
                self.assertTrue(self.step("b", "update h set value = 12 where id = 1").blocked)
                self.step("a", "commit")
                one = self.step("c", "select value from h where id = 1").rows
                self.step("b", "update h set value = 18 where id = 2")
                two = self.step("c", "select value from h where id = 2").rows
                self.step("b", "commit")
                three = self.step("c", "select value from h where id = 2").rows
                four = self.step("c", "select value from h where id = 1").rows
                self.step("c", "commit")
                self.assertEqual((one, two), ([("11",)], [("19",)]))
                if self.committed("b") and level == "read committed":
                    self.assertEqual((three, four), ([("18",)], [("12",)]))
                elif self.committed("c"):
                    self.assertEqual((three, four), ([("19",)], [("11",)]))

    def test_pmp_predicate_many_preceders(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.assertEqual(self.step("a", "select id from h where value = 30").rows, [])
                self.step("b", "insert into h values (3, 30)")
                self.step("b", "commit")
                seen = self.step("a", "select id from h where value % 3 = 0").rows
                self.step("a", "commit")
                self.assertTrue(self.committed("b"))
                self.assertEqual(seen, [("3",)] if level == "read committed" else [])

    def test_p4_lost_update(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.step("a", "select value from h where id = 1")
                self.step("b", "select value from h where id = 1")
                self.step("a", "update h set value = 11 where id = 1")
                self.assertTrue(self.step("b", "update h set value = 12 where id = 1").blocked)
                self.step("a", "commit")
                self.step("b", "commit")
                self.assertTrue(self.committed("a"))
                self.assertEqual(self.committed("b"), level == "read committed")

    def test_p4_is_prevented_by_for_update(self):
        self.begin("read committed", "a", "b")
        self.step("a", "select value from h where id = 1 for update")
        waiting = self.step("b", "select value from h where id = 1 for update")
        self.assertTrue(waiting.blocked)
        self.step("a", "update h set value = 11 where id = 1")
        self.step("a", "commit")
        self.assertEqual(waiting.rows, [("11",)])
        self.step("b", "update h set value = 12 where id = 1")
        self.step("b", "commit")
        self.assertTrue(self.committed("b"))
        self.assertEqual(self.final()[1], 12)

    def test_g_single_read_skew(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.assertEqual(self.step("a", "select value from h where id = 1").rows, [("10",)])
                self.step("b", "update h set value = 12 where id = 1")
                self.step("b", "update h set value = 18 where id = 2")
                self.step("b", "commit")
                self.assertTrue(self.committed("b"))
                seen = self.step("a", "select value from h where id = 2").rows
                self.step("a", "commit")
                self.assertEqual(seen, [("18",)] if level == "read committed" else [("20",)])

    def test_g2_item_write_skew(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.step("a", "select value from h where id in (1, 2)")
                self.step("b", "select value from h where id in (1, 2)")
                self.step("a", "update h set value = 11 where id = 1")
                self.step("b", "update h set value = 21 where id = 2")
                self.step("a", "commit")
                self.step("b", "commit")
                both = self.committed("a") and self.committed("b")
                self.assertEqual(both, level == "read committed")

    def test_g2_anti_dependency_cycle(self):
        for level in ("read committed", "serializable"):
            with self.subTest(level):
                self.setUp()
                self.begin(level, "a", "b")
                self.step("a", "select id from h where value % 3 = 0")
                self.step("b", "select id from h where value % 3 = 0")
                self.step("a", "insert into h values (3, 30)")
                self.step("b", "insert into h values (4, 42)")
                self.step("a", "commit")
                self.step("b", "commit")
                both = self.committed("a") and self.committed("b")
                self.assertEqual(both, level == "read committed")

    def test_statements_of_one_message_are_one_transaction(self):
        with self.connect() as c:
            c.simple("set default_transaction_isolation = 'read committed'")
            c.simple("update h set value = value + 1 where id = 1; "
                     "update h set value = value + 1 where id = 2; select nonsense from h")
        self.assertEqual(self.final(), {1: 10, 2: 20})


class Dsql(Cases, node.TestCase):
    def connect(self):
        return pgclient.Connection("127.0.0.1", self.port, user="tester", database="d")


class Postgres(Cases, unittest.TestCase):
    deadlock_seconds = 1.0      # Its deadlock_timeout.

    @classmethod
    def setUpClass(cls):
        cls.server = pgserver.PostgresServer()
        cls.server.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def connect(self):
        return pgclient.Connection("127.0.0.1", self.server.port)


node.main()
