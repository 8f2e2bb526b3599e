#!/usr/bin/env python3
"""generate.py -- statements nobody thought of, against dsqld and PostgreSQL side by side.

    generate.py --seed 1 --count 2000

Two kinds, mixed: queries over one table whose every type and odd value stands in a few rows, with random
expressions, conditions, orders and groups; and changes with random keys, in and out of transactions,
with savepoints. Both servers must give the same rows, types and command tags, or errors of one code.

Allowed to differ, and counted as "loose": *which* rows raise an arithmetic error, or whether an expression
that cannot matter is evaluated at all (PostgreSQL folds `null + 1/0` before it looks at the row, which no
one may rely on); and which of several violated constraints is named. What dsqld refuses with 0A000 is
counted as "unsupported".

A difference prints the statements that lead to it; the seed repeats the run. Needs PostgreSQL 15.
"""

import argparse
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)

import pgclient  # noqa: E402
import run  # noqa: E402

COLUMNS = {
    "int4": ["a", "id"], "int8": ["g"], "int2": ["h"], "text": ["b", "f"], "bool": ["c"],
    "float8": ["d"], "timestamptz": ["e"],
}
LITERALS = {
    "int4": ["0", "1", "-1", "7", "2147483647", "null::int4", "100"],
    "int8": ["0::int8", "3::int8", "9223372036854775807", "null::int8", "5000000000"],
    "int2": ["1::int2", "(-3)::int2", "32767::int2", "null::int2"],
    "text": ["''", "'a'", "'abc'", "'ä€x'", "null::text", "'12'", "'%b_'", "'ABC '"],
    "bool": ["true", "false", "null::bool"],
    "float8": ["1.5::float8", "0::float8", "-2.25::float8", "'NaN'::float8",
               "'Infinity'::float8", "1e10::float8", "null::float8"],
    "timestamptz": ["'2020-01-01 00:00:00+00'::timestamptz", "null::timestamptz",
                    "'2021-06-05 04:03:02.1+00'::timestamptz", "'infinity'::timestamptz"],
}
NUMBERS = ["int2", "int4", "int8", "float8"]
TYPES = list(COLUMNS)

SETUP = [
    "create table gen (id int primary key, a int, b text, c bool, d float8, e timestamptz, "
    "f varchar(5), g int8, h int2)",
    "insert into gen values "
    "(1, 1, 'x', true, 1.5, '2020-01-01 00:00:00+00', 'abc', 5, 1), "
    "(2, null, null, null, null, null, null, null, null), "
    "(3, 7, 'yÿ%', false, -2, '1999-12-31 23:59:59+00', '', -1, -7), "
    "(4, -2147483648, 'Abc_\\', true, 'NaN', 'infinity', ' a ', 9223372036854775807, 32767), "
    "(5, 0, '', false, '-Infinity', '2020-06-01 12:00:00.5+00', 'abc', 0, 0), "
    "(6, 2147483647, '12', null, 1e300, '-infinity', 'zz', -9223372036854775808, -32768)",
    "create table gen_dml (id int primary key, a int, b text not null default 'd')",
]

# Codes of errors that depend on which rows and sub-expressions are looked at.
ARITHMETIC = ("22003", "22012", "22P02", "22025")
CONSTRAINTS = ("23502", "23505", "21000")


class Expressions:
    """Random well-typed expressions over the columns of gen."""

    def __init__(self, rng):
        self.r = rng

    def any(self, depth):
        return self.of(self.r.choice(TYPES), depth)

    def of(self, kind, depth):
        r = self.r
        if depth <= 0 or r.random() < 0.12:
            return r.choice(COLUMNS[kind] if r.random() < 0.55 else LITERALS[kind])
        if r.random() < 0.25:
            return self._common(kind, depth - 1)
        if kind in ("int2", "int4", "int8"):
            return self._integer(kind, depth - 1)
        maker = getattr(self, "_" + kind, None)
        return maker(depth - 1) if maker else r.choice(COLUMNS[kind] + LITERALS[kind])

    def _common(self, kind, d):
        x = [self.of(kind, d) for _ in range(2)]
        return self.r.choice([
            lambda: f"case when {self.of('bool', d)} then {x[0]} else {x[1]} end",
            lambda: f"case {self.of('int4', d)} when {self.of('int4', d)} then {x[0]} end",
            lambda: f"coalesce({x[0]}, {x[1]})",
            lambda: f"nullif({x[0]}, {x[1]})",
            lambda: f"{self.r.choice(['greatest', 'least'])}({x[0]}, {x[1]})",
        ])()

    def _integer(self, kind, d):
        r = self.r
        x = [self.of(kind, d) for _ in range(2)]
        return r.choice([
            lambda: f"({x[0]} {r.choice('+-*/%')} {x[1]})",
            lambda: f"({x[0]} {r.choice('&|#')} {x[1]})",
            lambda: f"(- {x[0]})",
            lambda: f"abs({x[0]})",
            lambda: f"mod({x[0]}, {x[1]})",
            lambda: f"({self.of(r.choice(NUMBERS), d)})::{kind}",
            lambda: f"length({self.of('text', d)})::{kind}",
            lambda: f"strpos({self.of('text', d)}, {self.of('text', d)})::{kind}",
        ])()

    def _float8(self, d):
        r = self.r
        x = [self.of("float8", d) for _ in range(2)]
        return r.choice([
            lambda: f"({x[0]} {r.choice('+-*/')} {x[1]})",
            lambda: f"{r.choice(['floor', 'ceil', 'round', 'trunc', 'sign', 'abs'])}({x[0]})",
            lambda: f"({self.of(r.choice(NUMBERS), d)})::float8",
            lambda: f"(- {x[0]})",
        ])()

    def _text(self, d):
        r = self.r
        x = [self.of("text", d) for _ in range(3)]
        one = ["lower", "upper", "btrim", "ltrim", "rtrim", "reverse", "quote_literal"]
        return r.choice([
            lambda: f"({x[0]} || {self.of(r.choice(['text', 'int4', 'bool', 'int8']), d)})",
            lambda: f"{r.choice(one)}({x[0]})",
            lambda: f"substr({x[0]}, {r.randint(-2, 4)}, {r.randint(0, 5)})",
            lambda: f"{r.choice(['left', 'right'])}({x[0]}, {r.randint(-3, 4)})",
            lambda: f"replace({x[0]}, {x[1]}, {x[2]})",
            lambda: f"{r.choice(['lpad', 'rpad'])}({x[0]}, {r.randint(-1, 8)}, {x[1]})",
            lambda: f"({self.any(d)})::text",
            lambda: f"({x[0]})::varchar({r.randint(1, 4)})",
            lambda: f"split_part({x[0]}, {x[1]}, {r.choice([1, 2, -1])})",
        ])()

    def _comparison(self, d):
        r = self.r
        left = r.choice(TYPES)
        right = r.choice(NUMBERS) if left in NUMBERS else left
        return f"({self.of(left, d)} {r.choice(['=', '<>', '<', '<=', '>', '>='])} {self.of(right, d)})"

    def _bool(self, d):
        r = self.r
        kind = r.choice(TYPES)
        x = [self.of(kind, d) for _ in range(3)]
        maybe_not = r.choice(["", "not "])
        return r.choice([
            lambda: self._comparison(d),
            lambda: f"({self.of('bool', d)} {r.choice(['and', 'or'])} {self.of('bool', d)})",
            lambda: f"(not {self.of('bool', d)})",
            lambda: f"({x[0]} is {maybe_not}null)",
            lambda: f"({self.of('bool', d)} is {maybe_not}{r.choice(['true', 'false', 'unknown'])})",
            lambda: f"({x[0]} {maybe_not}in ({x[1]}, {x[2]}))",
            lambda: f"({x[0]} {maybe_not}between {r.choice(['', 'symmetric '])}{x[1]} and {x[2]})",
            lambda: f"({x[0]} is {maybe_not}distinct from {x[1]})",
            lambda: f"({self.of('text', d)} {maybe_not}{r.choice(['like', 'ilike'])} "
                    f"{self.of('text', d)})",
        ])()


class Statements:
    def __init__(self, rng):
        self.r = rng
        self.e = Expressions(rng)
        self.in_txn = False
        self.savepoints = 0

    def next(self):
        return self._query() if self.r.random() < 0.6 and not self.in_txn else self._change()

    def _query(self):
        r, e = self.r, self.e
        depth = r.randint(1, 4)
        order = r.choice(["", " desc"]) + r.choice(["", " nulls first", " nulls last"])
        return r.choice([
            lambda: f"select id, {e.any(depth)} as v from gen order by id",
            lambda: f"select id from gen where {e.of('bool', depth)} order by id",
            lambda: f"select id from gen order by coalesce({e.of(r.choice(TYPES), 1)}, null){order}, id",
            lambda: f"select {e.of(r.choice(['bool', 'int4', 'text']), 1)} as k, count(*), "
                    f"{r.choice(['min', 'max'])}({e.of(r.choice(['int4', 'text', 'float8']), 1)}) "
                    f"from gen group by 1 order by 1",
            lambda: f"select id from gen where id {r.choice(['=', '<', '>', '<=', '>='])} "
                    f"{r.randint(0, 7)} and {e.of('bool', 2)} order by id{r.choice(['', ' desc'])} "
                    f"limit {r.randint(0, 4)} offset {r.randint(0, 2)}",
        ])()

    def _key(self):
        return self.r.randint(1, 12)

    def _transaction(self):
        r = self.r
        if not self.in_txn:
            self.in_txn, self.savepoints = True, 0
            return "begin"
        if r.random() < 0.5:
            self.in_txn = False
            return r.choice(["commit", "commit", "rollback"])
        if self.savepoints == 0 or r.random() < 0.5:
            self.savepoints += 1
            return f"savepoint s{self.savepoints}"
        return f"{r.choice(['rollback to', 'release'])} s{r.randint(1, self.savepoints)}"

    def _change(self):
        r = self.r
        if r.random() < 0.25:
            return self._transaction()
        where = r.choice([f"id = {self._key()}", f"id > {self._key()}", f"a < {self._key()}",
                          f"id in ({self._key()}, {self._key()})", f"b = 'x{self._key()}'",
                          f"id between {self._key()} and {self._key()} and a is not null"])
        returning = r.choice(["", "", " returning *", " returning id, a + 1"])
        rows = ", ".join(f"({self._key()}, {r.choice([self._key(), 'null'])}, "
                         f"{r.choice(['null'] + ['default'] * 3 + ['%r' % f'x{self._key()}'] * 6)})"
                         for _ in range(r.randint(1, 3)))
        conflict = r.choice([
            "", "", " on conflict do nothing", " on conflict (id) do nothing",
            " on conflict (id) do update set a = gen_dml.a + excluded.a",
            " on conflict (id) do update set b = excluded.b where gen_dml.a > 5"])
        return r.choice([
            lambda: f"insert into gen_dml values {rows}{conflict}{returning}",
            lambda: f"insert into gen_dml values {rows}{conflict}{returning}",
            lambda: f"update gen_dml set a = a + {self._key()} where {where}{returning}",
            # One row: with several, whether keys collide on the way depends on the order of the scan.
            lambda: f"update gen_dml set id = id + {self._key() * 20} where id = {self._key()}",
            lambda: f"update gen_dml set id = {self._key()}, b = b || 'x' where id = {self._key()}{returning}",
            lambda: f"delete from gen_dml where {where}{returning}",
            lambda: "select * from gen_dml order by id",
            lambda: f"select id, a, b from gen_dml where {where} order by a desc, id limit 5",
        ])()


def answer(connection, sql, way):
    """What is compared: ('error', code, message) or types, rows, tag."""
    if way == 0:
        result = connection.simple(sql)[0]
    else:
        result = connection.extended(sql, result_format=way - 1)
    if result.error is not None:
        return ("error", result.error.sqlstate, result.error.message)
    if result.columns is None:
        return ("done", result.tag)
    rows = result.texts()
    if "order by" not in sql:
        rows.sort(key=str)
    return ("rows", [(c.name, c.type_name) for c in result.columns], rows, result.tag)


def verdict(theirs, ours):
    if ours[0] == "error" and ours[1] == "0A000":
        return "unsupported"
    if theirs == ours or (theirs[0] == ours[0] == "error" and theirs[1] == ours[1]):
        return "same"
    errors = [x[1] for x in (theirs, ours) if x[0] == "error"]
    if any(code in ARITHMETIC for code in errors):
        return "loose"
    if len(errors) == 2 and all(code in CONSTRAINTS for code in errors):
        return "loose"
    return "different"


def compare(dsqld, postgres, seed, count):
    rng = random.Random(seed)
    statements = Statements(rng)
    counts = {"same": 0, "loose": 0, "unsupported": 0, "different": 0}
    history = []
    for sql in SETUP:
        postgres.simple(sql)[0].check()
        dsqld.simple(sql)[0].check()
    for _ in range(count):
        sql = statements.next()
        way = 0 if statements.in_txn else rng.randint(0, 2)
        history.append(sql)
        theirs = answer(postgres, sql, way)
        try:
            ours = answer(dsqld, sql, way)
        except pgclient.ConnectionLost as e:
            ours = ("lost", str(e))
        what = verdict(theirs, ours)
        counts[what] += 1
        if what == "different":
            start = max((i for i, s in enumerate(history) if s == "begin"), default=len(history) - 1)
            lead = history[start:-1] if statements.in_txn else []
            print("different:", *lead, sql, sep="\n    ")
            print(f"  PostgreSQL {theirs}\n  dsqld      {ours}")
        if ours[0] == "lost":
            break
        if what in ("loose", "unsupported") and postgres.txn != dsqld.txn:
            for c in (postgres, dsqld):
                c.simple("rollback")
            statements.in_txn = False
        if not statements.in_txn and what != "same" and "gen_dml" in sql:
            for c in (postgres, dsqld):
                c.simple("delete from gen_dml")
    return counts


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=2000)
    p.add_argument("--dsqld", default="build/debug/bin/dsqld")
    args = p.parse_args()
    report = run.Report(run.Known(""))
    with run.postgres() as for_postgres, run.dsqld(args.dsqld, report) as for_dsqld:
        with for_postgres(0)() as theirs, for_dsqld(0)() as ours:
            for c in (theirs, ours):
                c.query("set timezone = 'UTC'")
            counts = compare(ours, theirs, args.seed, args.count)
    print(f"seed {args.seed}: {counts}")
    failed = counts["different"] + report.failed
    print(f"{counts['same']} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
