select 1

select a, b as c, t.*, * from t where id = $1 and (x > 3 or not y) order by a desc nulls last, 2 limit 10 offset 5

select count(*), sum(distinct x), max(y) filter (where y > 0) from s.t as u (p, q) group by 1, lower(z) having count(*) > 1

select distinct on (a) a, b from t join u on t.a = u.b left join v using (c, d) cross join w natural join x

SELECT c.oid, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid)

select 'it''s', E'a\tb', 'con'
  'tinued', $$dollar 'quoted'$$, $tag$with $$ inside$tag$, U&'d\0061t\+000061', U&"d\0061t" from t

select b'0101', x'1F', N'nation', 1.5, .5, 5., 1e10, 1.5e-3, 2147483647, 2147483648, -2147483648, 99999999999999999999

select -5, - 5, +5, -x, a - -1, a+-1, a*-b, @ -3, !!4, a <-> b, a ->> 'k', a #>> '{a,b}', a @> b, a !=-1, a<>b, a<=b, a>=b, a||b, a~*'x', ~5

select a::int, a::varchar(10), cast(b as numeric(10,2)), date '2020-01-01', interval '1' day, timestamp(3) with time zone 'now', x::double precision, y::int[], z::text collate "C"

select case when a then 1 when b then 2 else 3 end, case x when 1 then 'a' end, coalesce(a, b, 1), nullif(a, 0), greatest(1, 2), least(a, b)

select a is null, b is not null, c is true, d is not false, e is unknown, f is distinct from g, h is not distinct from i

select a between 1 and 2, b not between symmetric 3 and 1, c in (1, 2, 3), d not in ('x'), e like 'a%', f not ilike 'b' escape '!', g similar to 'c', h = any ($1), i <> all (array[1,2])

select exists (select 1 from t), (select max(a) from t), array(select b from t), a in (select b from c), x > any (select y from z), x = all (select y from z)

select current_timestamp, current_timestamp(3), current_date, localtime, current_user, session_user, current_schema, current_catalog, user

select extract(year from ts), substring(a from 2 for 3), position('x' in y), trim(both 'x' from y), overlay(a placing b from 1), ts at time zone 'UTC', (a, b) overlaps (c, d)

select array[1, 2, 3], array[[1],[2]], row(1, 2), (1, 2), (x).f, (x).*, a[1], a[1:2], a[:], (f(x))[1].y

select f(), s.f(a, variadic b), count(distinct a order by b), rank() over ()

select 1 union all select 2 union select 3 intersect (select 4 order by 1 limit 1) except all values (5), (6) order by 1

with a as (select 1), b (x, y) as materialized (insert into t values (1) returning *) select * from a, b

with recursive r(n) as (select 1 union all select n + 1 from r where n < 10) select * from r

select * from t for update of t nowait

select * from a for share skip locked

select * from generate_series(1, 10) with ordinality as g(a, b), lateral (select g.a) x, (values (1, 'a'), (2, 'b')) v (c, d)

select * from t order by a fetch first 3 rows with ties

select /* a /* nested */ comment */ 1 -- line comment
, 2

values (1, 'a', null), (2, default, true)

table t

insert into t values (1, 'a', null, default, $1, now())

insert into s.t as x (a, b) select c, d from u where e returning x.a, b as bb, *

insert into t default values

insert into t (a, b) values (1, 2), (3, 4) on conflict (a) do update set b = excluded.b, (c, d) = (1, default) where t.b < 5 returning a

insert into t (a) values (1) on conflict do nothing

insert into t (a) values (1) on conflict on constraint t_pkey do nothing

insert into t (a) values (1) on conflict (a) where b > 0 do update set b = 1

update t set a = 1, b = b + 1, c = default where id = 7 returning *

update only s.t as x set (a, b) = row(1, 2) from u, v where x.id = u.id

delete from t

delete from t as x using u where x.a = u.a returning x.b

create table t (id int8 primary key, a text not null default 'x', b varchar(10) null, c bool default true, d timestamptz default now(), e numeric(10,2) check (e > 0), f int references u (g) on delete cascade on update set null deferrable initially deferred, h int generated always as identity, i int generated always as (a + 1) stored, unique (a, b), constraint fk foreign key (a) references v, check (a <> b))

create table if not exists s.t (a serial, b text collate "C", primary key (a, b) include (c)) with (fillfactor = 70, autovacuum_enabled = false)

create temporary table t (a int)

create unlogged table t ()

drop table if exists a, s.b cascade

drop table a

truncate a, only b restart identity cascade

begin

begin isolation level serializable, read only, deferrable

start transaction read write

commit and chain

rollback

abort

end

savepoint a

release savepoint a

rollback to savepoint a

prepare transaction 'x'

commit prepared 'x'

set a = 1

set local a.b to 'x', 'y', 3

set time zone 'UTC'

set time zone interval '1' hour

set names 'utf8'

set session characteristics as transaction isolation level read committed

set transaction read only

set x to default

reset x

reset all

show x

show all

show transaction isolation level

discard all

discard temp

prepare p (int, text) as select $1, $2

execute p (1, 'x')

deallocate p

deallocate all

explain select 1

explain (analyze, verbose false, format json) insert into t values (1)

copy t (a, b) from stdin with (format csv, header true, delimiter ',')

copy (select 1) to stdout

copy t to '/tmp/x' csv

create index on t (a)

create unique index concurrently if not exists i on t using btree (a desc, lower(b)) where c

create view v as select 1

create function f(a int) returns int language sql begin atomic select 1; select case when a then 1 end; end

create function f() returns int as $$ select 1; $$ language sql

alter table t add column a int

create database d

create role r

grant select on t to r

drop index i

drop view v

create sequence s

create schema s

create type e as enum ('a')

comment on table t is 'x'

vacuum t

analyze t

lock table t in share mode

declare c cursor for select 1

fetch 5 from c

close c

listen x

do $$ begin end $$

call p()

create table t as select 1

select into x from t

select * from "Quoted ""name""" where "select" = 1

select a AS "Ünïcode", ünï from täble where x = 'ä€😀'

select $1, $2::int, $3

select 1 as "A", 2 b, 3 "c"

select * from t where (((((a = 1)))))

select a[1].b, (a.b).c from t

select a.b.c.d from x.y.z

select interval '1 year', interval(3) '1.5', time '10:00', timestamp '2020-01-01 00:00'

select not not a, a and b and c and d, a or b or c, not (a and b)

select true, false, null, true::text, 't'::bool

select 1;

select * from t where a = 1 and b = 'x' -- trailing

;;select 2;;
