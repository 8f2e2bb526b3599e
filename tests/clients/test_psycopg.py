"""psycopg 3 as applications use it."""

import threading

import node
import psycopg
from psycopg import errors


class Psycopg(node.TestCase):
    def connect(self, **more):
        c = psycopg.connect(f"host=127.0.0.1 port={self.port} user=tester dbname=d", **more)
        self.addCleanup(c.close)
        return c

    def table(self, definition, name):
        c = self.connect(autocommit=True)
        c.execute(f"create table {name} ({definition})")
        self.addCleanup(c.execute, f"drop table {name}")
        return c

    def test_types_survive_in_both_formats(self):
        c = self.table("id int8 primary key, s text, f float8, b bool", "ty")
        c.execute("insert into ty values (%s, %s, %s, %s)", (1, "é'\"\\", 1.5, True))
        c.execute("insert into ty values (%s, %s, %s, %s)", (2, None, None, None))
        for binary in (False, True):
            rows = c.execute("select * from ty order by id", binary=binary).fetchall()
            self.assertEqual(rows, [(1, "é'\"\\", 1.5, True), (2, None, None, None)])

    def test_prepared_statement_runs_many_times(self):
        c = self.table("id int8 primary key, v int8", "pr")
        for i in range(50):
            c.execute("insert into pr values (%s, %s)", (i, i * i), prepare=True)
        for i in range(50):
            row = c.execute("select v from pr where id = %s", (i,), prepare=True).fetchone()
            self.assertEqual(row, (i * i,))

    def test_executemany_and_pipeline(self):
        c = self.table("id int8 primary key", "pi")
        c.cursor().executemany("insert into pi values (%s)", [(i,) for i in range(100)])
        self.assertEqual(c.execute("select count(*) from pi").fetchone(), (100,))
        with c.pipeline() as p:
            cursors = [c.execute("select id from pi where id = %s", (i,)) for i in range(20)]
            p.sync()
            self.assertEqual([x.fetchone() for x in cursors], [(i,) for i in range(20)])

    def test_pipeline_stops_at_the_error(self):
        c = self.table("id int8 primary key", "pe")
        with self.assertRaises(errors.UndefinedTable):
            with c.pipeline():
                c.execute("insert into pe values (1)")
                c.execute("select * from nowhere")
        self.assertEqual(c.execute("select count(*) from pe").fetchone(), (0,))

    def test_savepoints_and_failed_blocks(self):
        self.table("id int8 primary key", "sp")
        c = self.connect()
        with c.transaction():
            c.execute("insert into sp values (1)")
            with self.assertRaises(errors.UniqueViolation) as caught, c.transaction():
                c.execute("insert into sp values (1)")
            self.assertEqual(caught.exception.diag.constraint_name, "sp_pkey")
            c.execute("insert into sp values (2)")
        self.assertEqual(c.execute("select count(*) from sp").fetchone(), (2,))
        with self.assertRaises(errors.UndefinedColumn):
            c.execute("select nosuch from sp")
        with self.assertRaises(errors.InFailedSqlTransaction):
            c.execute("select 1")
        c.rollback()
        self.assertEqual(c.execute("select 1").fetchone(), (1,))

    def test_ddl_in_a_transaction(self):
        c = self.connect()
        other = self.connect(autocommit=True)
        c.execute("create table dt (id int8 primary key)")
        c.execute("insert into dt values (1)")
        with self.assertRaises(errors.UndefinedTable):
            other.execute("select * from dt")
        c.rollback()
        with self.assertRaises(errors.UndefinedTable):
            c.execute("select * from dt")
        c.rollback()
        c.execute("create table dt (id int8 primary key)")
        c.execute("insert into dt values (1)")
        c.commit()
        self.assertEqual(other.execute("select * from dt").fetchall(), [(1,)])
        c.execute("drop table dt")
        c.commit()

    def count_up(self, times, explicit):
        c = self.connect(autocommit=not explicit)
        for _ in range(times):
            while True:
                try:
                    if explicit:
                        v = c.execute("select v from ctr where id = 1").fetchone()[0]
                        c.execute("update ctr set v = %s where id = 1", (v + 1,))
                        c.commit()
                    else:
                        c.execute("update ctr set v = v + 1 where id = 1")
                    break
                except errors.SerializationFailure:
                    self.assertTrue(explicit, "an implicit transaction is run again by the server")
                    c.rollback()

    def test_counters_lose_nothing(self):
        c = self.table("id int8 primary key, v int8", "ctr")
        for explicit in (False, True):
            c.execute("delete from ctr")
            c.execute("insert into ctr values (1, 0)")
            failures = []

            def work(explicit=explicit, failures=failures):
                try:
                    self.count_up(10, explicit)
                except Exception as e:  # pylint: disable=broad-except
                    failures.append(e)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(failures, [])
            self.assertEqual(c.execute("select v from ctr").fetchone(), (40,))

    def test_copy_is_refused_by_name(self):
        c = self.table("id int8 primary key", "cp")
        with self.assertRaises(errors.FeatureNotSupported), \
                c.cursor().copy("copy cp from stdin") as copy:
            copy.write_row((1,))
        self.assertEqual(c.execute("select count(*) from cp").fetchone(), (0,))


if __name__ == "__main__":
    node.main()
