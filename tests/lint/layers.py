"""layers: who may include whom, and which library has its door where.

The same order as in CMakeLists.txt, where it is what is linked; here it is what is read. Names are
folders. A file may include its own folder and those listed for it.
"""

import re

from source import Finding

_BASE = {"node/base"}
_RUNTIME = _BASE | {"node/runtime"}
_RPC = _RUNTIME | {"node/rpc"}
_RANGE = _RPC | {"node/raft", "node/storage", "regions"}
_KV = _RANGE | {"node/range"}
_TXN = _KV | {"node/kv"}
_CATALOG = _TXN | {"node/txn"}
_SQL = _CATALOG | {"node/catalog", "lua/engine"}
_PGWIRE = _SQL | {"node/sql"}

ALLOWED = {
    "node/base": set(),
    "node/runtime": _BASE,
    "node/rpc": _RUNTIME,
    "node/storage": _RUNTIME,
    "node/raft": _BASE,
    "regions": _BASE,
    "lua/engine": _BASE | {"regions"},
    "node/range": _RANGE,
    "node/kv": _KV,
    "node/txn": _TXN,
    "node/catalog": _CATALOG,
    "node/sql": _SQL,
    "node/pgwire": _PGWIRE,
    "node/server": _PGWIRE | {"node/pgwire"},
    "cli": _BASE | {"regions"},
}

# Inside node/sql: session -> parse, analyze -> plan -> exec -> types, functions. What a stage hands
# to the next one is the next one's contract: plan knows exec, exec does not know plan. The tree that
# parse makes is what analyze and ddl read.
_VALUES = {"types", "functions"}
_EXEC = _VALUES | {"exec", "pgcatalog"}
_ANALYZE = _EXEC | {"plan", "parse"}
SQL_ALLOWED = {
    "types": set(),
    "functions": {"types"},
    "pgcatalog": _VALUES,
    "exec": _VALUES | {"pgcatalog"},
    "plan": _EXEC,
    "parse": {"types"},
    "analyze": _ANALYZE,
    "ddl": _ANALYZE | {"analyze"},
    "session": _ANALYZE | {"analyze", "ddl"},
}
# Plain data that every stage fills; they stand in session because its callers look there for them.
SQL_FLOOR = {"node/sql/session/error.h", "node/sql/session/sink.h"}

DOORS = (
    (r"uv(/.*)?\.h$", {"node/runtime"}),
    (r"mbedtls/", {"node/rpc", "cli"}),  # cli is not linked to the node and speaks TLS itself.
    (r"ares.*\.h$", {"node/rpc"}),
    (r"protobuf-c/", {"node/rpc"}),
    (r"rocksdb/", {"node/storage"}),
    (r"(pg_query.*|postgres|nodes/.*|parser/.*|utils/.*)\.h$", {"node/sql/parse"}),
    (r"(lua|lauxlib|lualib|luaconf)\.h$", {"lua/engine"}),
    (r"curl/", {"cli", "node/server"}),
    (r"http_parser\.h$", {"node/server"}),
    (r"(xxhash|xxh3)\.h$", {"node/base"}),
    (r"tcl.*\.h$", {"node/sql/functions"}),
)


def layer_of(path):
    """The layer that a file belongs to, or None (tests, docs)."""
    parts = path.split("/")
    if parts[0] in ("regions", "cli"):
        return parts[0]
    return "/".join(parts[:2]) if parts[0] in ("node", "lua") and len(parts) > 2 else None


def _sql_stage(path):
    parts = path.split("/")
    return parts[2] if path.startswith("node/sql/") and len(parts) > 3 else None


def _check_sql(path, target):
    stage, other = _sql_stage(path), _sql_stage(target)
    if stage is None or other is None or stage == other or target in SQL_FLOOR:
        return None
    if stage not in SQL_ALLOWED:
        return f"node/sql/{stage} has no place in the order of sql"
    return None if other in SQL_ALLOWED[stage] else f"inside sql, {stage} may not include {other}"


def _check_ours(path, target):
    layer, other = layer_of(path), layer_of(target)
    if target.startswith("tests/"):
        return "only tests include tests" if layer else None
    if other not in ALLOWED:
        return f'"{target}" is not a path from the root of the repository'
    if layer is None:
        return None  # Tests may include everything.
    if layer != other and other not in ALLOWED.get(layer, set()):
        return f"{layer} may not include {other}"
    return _check_sql(path, target)


def _check_library(path, target):
    for pattern, folders in DOORS:
        if re.match(pattern, target) and not path.startswith(tuple(f + "/" for f in folders)):
            return f"<{target}> has its door in {', '.join(sorted(folders))}"
    return None


def check(tree):
    for source in tree.sources():
        for line, kind, target in source.includes:
            # PostgreSQL's own headers come in quotes as well.
            is_ours = kind == '"' and not any(re.match(pattern, target) for pattern, _ in DOORS)
            if is_ours:
                why = _check_ours(source.path, target)
            elif source.path.startswith("tests/"):
                why = None  # An oracle may be any library.
            else:
                why = _check_library(source.path, target)
            if why:
                yield Finding(source.path, line, "layers", why)
