"""psql and pgbench."""

import os
import subprocess
import tempfile

import node


class Psql(node.TestCase):
    def run_client(self, command, stdin=""):
        env = dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER="tester",
                   PGDATABASE="d", LC_ALL="C.UTF-8", PSQLRC="/dev/null")
        return subprocess.run(command, input=stdin, env=env, capture_output=True, text=True,
                              timeout=60, check=False)

    def psql(self, script, *flags):
        r = self.run_client(["psql", "-X", "-q", "-A", "-t", *flags], script)
        return r.stdout, r.stderr

    def test_version_is_one_that_tools_understand(self):
        out, err = self.psql("show server_version;\nselect version();")
        self.assertTrue(out.startswith("15.20 (dsql"), out)
        self.assertIn("PostgreSQL 15.20", out)
        self.assertEqual(err, "")

    def test_error_positions_point_at_the_word(self):
        _, err = self.psql("select 'äöü', nosuch;")
        self.assertIn("LINE 1: select 'äöü', nosuch;", err)
        self.assertIn("\n                      ^", err)

    def test_variables_and_gset(self):
        out, err = self.psql("select 6 * 7 as answer \\gset\nselect :answer + 1;")
        self.assertEqual((out, err), ("43\n", ""))

    def test_on_error_rollback(self):
        out, err = self.psql("\\set ON_ERROR_ROLLBACK on\n"
                             "create table oe (id int8 primary key);\nbegin;\n"
                             "insert into oe values (1);\nselect nosuch;\n"
                             "insert into oe values (2);\ncommit;\n"
                             "select count(*) from oe;\ndrop table oe;")
        self.assertEqual(out, "2\n")
        self.assertIn("nosuch", err)

    def test_script_stops_in_single_transaction(self):
        _, err = self.psql("create table st (id int8 primary key);\ninsert into st values (1);\n"
                           "select nosuch;", "-1", "-v", "ON_ERROR_STOP=1")
        self.assertIn("nosuch", err)
        _, err = self.psql("select * from st;")
        self.assertIn('relation "st" does not exist', err)

    def test_pgbench_in_all_modes(self):
        self.psql("create table pgb (aid int4 primary key, abalance int4);\ninsert into pgb values "
                  + ", ".join(f"({i}, 0)" for i in range(100)) + ";")
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write("\\set aid random(0, 99)\n"
                         "update pgb set abalance = abalance + 1 where aid = :aid;\n"
                         "select abalance from pgb where aid = :aid;\n")
            script.flush()
            for mode in ("simple", "extended", "prepared"):
                r = self.run_client(["pgbench", "-n", "-M", mode, "-f", script.name, "-c", "4",
                                     "-t", "25"])
                self.assertEqual(r.returncode, 0, r.stderr)
                self.assertIn("actually processed: 100/100", r.stdout)
        out, _ = self.psql("select sum(abalance) from pgb;\ndrop table pgb;")
        self.assertEqual(out, "300\n")


if __name__ == "__main__":
    node.main()
