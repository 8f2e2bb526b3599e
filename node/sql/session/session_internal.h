/*
 * session_internal.h -- what the parts of a session share.
 *
 *     session.c    life, names, cancelling, settings
 *     prepared.c   statements: parsed, compiled, cached by text
 *     block.c      the transaction: implicit, block, failed; savepoints
 *     run.c        one statement from begin to tag
 *     simple.c     Query messages
 *     extended.c   Parse, Bind, Describe, Execute, Sync
 *     utility.c    BEGIN, SET, SHOW, PREPARE, ...
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/hash.h"
#include "node/base/hts.h"
#include "node/base/list.h"
#include "node/base/map.h"
#include "node/runtime/fiber.h"
#include "node/runtime/shard.h"
#include "node/sql/parse/parse.h"
#include "node/sql/plan/statement.h"
#include "node/sql/session/session.h"
#include "node/sql/session/settings.h"

#define SQL_CACHE_STATEMENTS_MAX 4096u
#define SQL_CACHE_TEXT_MAX       8192u /* Longer texts are not cached. */
#define SESSION_RETRIES_MAX      50u
#define SESSION_SAVEPOINTS_MAX   1000u
#define SESSION_EXECUTED_MAX     16u /* Statements of a transaction that commit errors are traced to. */
#define SESSION_ARENA_MAX        ((size_t)128 << 20)

/* Shared by the sessions of a shard. */
struct sql {
    struct sql_options o;
    struct catalog *catalog;
    struct map cache;  /* hash of text and parameter types -> struct prepared. */
    struct list lru;   /* Newest first. */
    uint64_t sessions; /* Live ones. */
};

/*
 * One statement, parsed and, when it is one of exec's, compiled. Refcounted; shared by sessions when
 * it came from the cache. The tree stays: a change of the schema compiles it again.
 */
struct prepared {
    uint32_t refs;
    struct arena arena;      /* Tree, text, types. */
    struct prepared *parent; /* PREPARE name AS ...: the tree belongs to that one. */
    struct bytes text;       /* What positions of errors count in. */
    struct ast_stmt *ast;    /* NULL: empty text, or many. */
    struct ast_stmt **many;  /* A Query of several statements: only parsed. */
    uint32_t many_count;
    struct statement *stmt; /* NULL: a utility, or empty. */
    const oid *param_types; /* As declared by the client. */
    uint16_t param_types_count;
    const struct row_desc *utility_rows; /* Of SHOW and its like; NULL: none. */
    uint64_t key;                        /* In the cache; 0: not there. */
    struct list link;
};

/* A name that a session gave to a statement. */
struct named_statement {
    struct list link;
    struct prepared *p;
    char name[]; /* "" is the unnamed one. */
};

struct portal {
    struct list link;
    struct prepared *p; /* NULL: free (the unnamed portal's struct is kept). */
    struct arena arena; /* Parameters, formats. */
    struct arena run_arena;
    union datum *params;
    uint8_t *nulls;
    int16_t *formats;
    uint16_t formats_count;
    struct sql_view view;
    struct statement_run *run;
    bool started;
    bool done;
    char name[]; /* "" is the unnamed one. */
};

enum block_state {
    BLOCK_NONE,
    BLOCK_IMPLICIT, /* One Query, or everything up to Sync. */
    BLOCK_OPEN,     /* BEGIN */
    BLOCK_FAILED,   /* BEGIN, then an error: until ROLLBACK. */
};

struct savepoint {
    struct list link;
    uint64_t position; /* txn_savepoint() */
    bool has_txn;      /* There was a transaction to take the position of. */
    uint32_t settings; /* settings_mark() */
    uint32_t overlay;  /* catalog_overlay_mark() */
    char name[];
};

struct block {
    enum block_state state;
    struct arena arena; /* Of the transaction. */
    struct txn *txn;    /* NULL until the first statement that needs it. */
    bool read_only;
    bool again;       /* The statement has run before: see block__snapshot(). */
    struct hts began; /* The first try of the transaction; zero: it has not begun. */
    bool as_of_once;  /* as_of came with the one statement of an implicit transaction. */
    struct hts as_of; /* Reads happen at this time. Zero: now. */
    bool queried;     /* A statement has run in it: isolation and mode are settled. */
    bool single;      /* Implicit, and no second statement is to come. */
    bool told_write;  /* The sink holds the tag of a write. */
    bool commit_failed;
    bool unrepeatable; /* PREPARE and its like ran: they cannot be taken back. */
    bool marked;
    uint64_t mark;    /* Of the sink, where the transaction started. */
    int64_t start_us; /* now() */
    uint32_t executed_count;
    struct statement *executed[SESSION_EXECUTED_MAX]; /* Writes; references. */
    uint32_t executions;                              /* Of any kind. */
    struct portal *replay;  /* The one that was executed, if it is the only one and ran through. */
    struct list savepoints; /* Newest first. */
    uint32_t savepoints_count;
};

struct session {
    struct sql *sql;
    char *user;
    char *database;
    uint32_t backend_pid;
    struct settings settings;
    struct list statements; /* struct named_statement */
    uint32_t statements_count;
    struct map statements_by_name; /* hash -> named_statement; collisions: see session.c */
    struct list portals;
    uint32_t portals_count;
    struct portal *unnamed_portal; /* Kept allocated. */
    struct block block;
    struct catalog_overlay *overlay; /* NULL until the first DDL in a transaction. */
    struct arena scratch;            /* Of one call: trees of a Query, error texts. */
    struct row_sink *sink;           /* Of the running call; NULL between calls. */
    struct fiber *fiber;             /* Running a call; NULL between calls. */
    struct shard_timer timeout;
    struct rng rng; /* Back-off. */
    int64_t statement_start_us;
    bool cancelled;
    bool timed_out;
    bool portals_stale; /* Their transaction is over: they go when the call ends. */
};

/* ---- session.c ---- */

/* Around every entry of the API: the sink, cancelling, the statement timeout. */
NOYIELD void session__enter(struct session *s, struct row_sink *sink, bool timed);
NOYIELD void session__leave(struct session *s);
/* Microseconds since 2000-01-01 by the node's clock. */
NOYIELD int64_t session__now_us(struct session *s);
NOYIELD void session__fill_view(struct session *s, struct sql_view *out);
/* As SHOW prints it; NULL: no such parameter. */
NOYIELD const char *session__show(struct session *s, const char *name);
/* Tells the error to the sink and fails the transaction. Always false. */
MAYYIELD bool session__fail(struct session *s, const struct sql_error *err);
/* The same for a status; err counts when it is STATUS_SQL_ERROR. */
MAYYIELD bool session__fail_status(struct session *s, struct status st, struct sql_error *err);
NOYIELD void session__notice(struct session *s, enum sql_severity severity, const char *sqlstate,
                             const char *fmt, ...) PRINTF_LIKE(4, 5);

NOYIELD struct named_statement *session__find_statement(struct session *s, const char *name);
/* Takes the reference on success. Errors: STATUS_OVERLOADED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status session__add_statement(struct session *s, const char *name,
                                                       struct prepared *p);
NOYIELD void session__drop_statement(struct session *s, struct named_statement *n);
NOYIELD void session__drop_statements(struct session *s);
NOYIELD struct portal *session__find_portal(struct session *s, const char *name);
/* Errors: STATUS_OVERLOADED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status session__add_portal(struct session *s, const char *name,
                                                    struct portal **out);
NOYIELD void session__drop_portal(struct session *s, struct portal *p);
NOYIELD void session__drop_portals(struct session *s);

/* ---- prepared.c ---- */

/*
 * The statement of `text`: from the cache, or parsed and compiled.
 * many  Several statements are allowed: then only `many` and `many_count` are set.
 * Errors: STATUS_SQL_ERROR (42601 for several), others.
 */
MAYYIELD NODISCARD struct status prepared__get(struct session *s, struct bytes text,
                                               const oid *types, uint16_t types_count, bool many,
                                               struct sql_error *err, struct prepared **out);
/* The same for a tree in somebody's arena: `parent` keeps it alive, or it lives long enough (NULL). */
MAYYIELD NODISCARD struct status prepared__from_ast(struct session *s, struct ast_stmt *ast,
                                                    struct bytes text, const oid *types,
                                                    uint16_t types_count, struct prepared *parent,
                                                    struct sql_error *err, struct prepared **out);
/* Renews leases, compiles again when the schema has changed. Afterwards, and until the next yield,
 * p->stmt may be used by this session. Errors also: 0A000 when the columns are others now. */
MAYYIELD NODISCARD struct status prepared__refresh(struct session *s, struct prepared *p,
                                                   struct sql_error *err);
NOYIELD struct prepared *prepared__acquire(struct prepared *p);
NOYIELD void prepared__release(struct sql *sql, struct prepared *p); /* Accepts NULL. */
NOYIELD void prepared__drop_cache(struct sql *sql);
NOYIELD const struct row_desc *prepared__rows(const struct prepared *p); /* NULL: none. */
NOYIELD bool prepared__is_txn_control(const struct prepared *p);

/* Runs parse_statements() on the big stack. */
NOYIELD NODISCARD struct status prepared__parse(struct session *s, struct bytes text,
                                                struct arena *arena, struct parse_result *out,
                                                struct sql_error *err);

/* ---- block.c ---- */

NOYIELD void block__init(struct block *b);
/* A statement is about to run: opens the implicit transaction if none is open.
 * Errors: STATUS_SQL_ERROR 25P02. */
NOYIELD NODISCARD struct status block__statement(struct session *s, const struct prepared *p,
                                                 struct sql_error *err);
/* The next statement reads at the time that `e` names; NULL: at that of its transaction.
 * Errors: STATUS_SQL_ERROR. */
NOYIELD NODISCARD struct status block__as_of(struct session *s, const struct ast_expr *e,
                                             struct sql_error *err);
/* A statement takes its snapshot where reads are committed. There is a transaction. */
NOYIELD void block__snapshot(struct session *s);
/* The transaction of the block, begun if need be. */
NOYIELD NODISCARD struct status block__txn(struct session *s, struct txn **out);
/* Ends the transaction. Errors: those of txn_commit(), EXISTS turned into 23505. */
MAYYIELD NODISCARD struct status block__commit(struct session *s, struct sql_error *err);
NOYIELD void block__rollback(struct session *s);
/* After an error: implicit is over, a block has failed. */
NOYIELD void block__fail(struct session *s);
/* Drops what the transaction did and lets it run again from the mark; false: too late for that. */
NOYIELD bool block__restart(struct session *s);
/* A statement is about to begin that may have to be run again by itself. */
struct block_try {
    bool marked;
    uint64_t mark; /* Of the sink. */
    bool first;    /* The transaction begins with it. */
    uint64_t position;
};
NOYIELD void block__try_begin(struct session *s, struct block_try *out);
/*
 * Takes back what the statement did, so that it can run again: in a READ COMMITTED transaction, or as
 * the first statement of a block. False, and nothing happens: the client has seen rows of it, or
 * earlier statements read what it has to agree with.
 */
NOYIELD bool block__try_again(struct session *s, const struct block_try *t);
/* It will not run again: rows may leave as they come. */
NOYIELD void block__try_end(struct session *s, const struct block_try *t);
/* The tag of a write is about to be told: an implicit transaction holds it back. */
NOYIELD void block__told_write(struct session *s);
/* The same for a statement whose conflicts a commit may have to explain. */
NOYIELD void block__remember(struct session *s, struct statement *stmt);

/* The isolation level of the transaction that runs, or of the next one. */
NOYIELD const char *block__isolation(const struct session *s);
/* SET transaction_isolation, SET transaction_read_only: may it still change? Errors: 25001. */
NOYIELD NODISCARD struct status block__check_mode(struct session *s, const char *name,
                                                  const char *value, struct sql_error *err);
/* SET TRANSACTION. Errors: STATUS_SQL_ERROR 25001. */
NOYIELD NODISCARD struct status block__set_modes(struct session *s, const struct ast_txn_modes *m,
                                                 struct sql_error *err);
/* BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK TO. */
MAYYIELD NODISCARD struct status block__control(struct session *s, const struct ast_stmt *ast,
                                                struct sql_error *err, const char **tag);

/* ---- as_of.c ---- */

/* The time that AS OF SYSTEM TIME means now. Errors: 22023, 0A000. */
NOYIELD NODISCARD struct status as_of__resolve(struct session *s, const struct ast_expr *e,
                                               struct sql_error *err, struct hts *out);

/* ---- run.c ---- */

/* Makes the portal run p without parameters. Errors: STATUS_OVERLOADED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status run__unnamed(struct session *s, struct prepared *p,
                                             struct portal **out);
/*
 * Runs a portal up to rows_max rows (0: all), telling rows and tag to the session's sink.
 * begin  Tell the columns first (simple protocol).
 */
MAYYIELD NODISCARD struct status run__portal(struct session *s, struct portal *p, uint64_t rows_max,
                                             bool begin, struct sql_error *err);

/* A statement inside a statement: rows go to `sink`, nothing else is told. */
struct run_inner {
    struct prepared *p;
    const union datum *params;
    const uint8_t *nulls;
    struct row_sink *sink;
    uint64_t rows; /* Out. */
};
MAYYIELD NODISCARD struct status run__inner(struct session *s, struct run_inner *r,
                                            struct sql_error *err);

/* Before try number `tries` of a transaction, from 1. Errors: STATUS_CANCELLED. */
MAYYIELD NODISCARD struct status run__backoff(struct session *s, uint32_t tries);
/* Is this a conflict that running again may cure? */
NOYIELD bool run__may_retry(struct status st);

/* ---- ranges.c ---- */

/* SHOW RANGES, SPLIT AT, RELOCATE LEASE. `begin` as of utility__run(). */
MAYYIELD NODISCARD struct status ranges__run(struct session *s, struct portal *p, bool begin,
                                             struct sql_error *err);
/* Columns of such a statement, in the arena. NULL: none. */
NOYIELD const struct row_desc *ranges__rows(const struct ast_ranges *r, struct arena *arena);

/* ---- utility.c ---- */

/* Values of expressions, each cast to its type; in the session's scratch memory.
 * text  What positions of errors count in. */
MAYYIELD NODISCARD struct status utility__evaluate(struct session *s, const struct ast_exprs *args,
                                                   const oid *types, struct bytes text,
                                                   struct sql_error *err, union datum **values,
                                                   uint8_t **nulls);

/* Runs a statement that is not exec's. `begin`: tell the columns first (simple protocol). */
MAYYIELD NODISCARD struct status utility__run(struct session *s, struct portal *p, bool begin,
                                              struct sql_error *err);
/* Columns of a utility statement, in the arena; NULL: it returns no rows. */
NOYIELD const struct row_desc *utility__rows(struct session *s, const struct ast_stmt *ast,
                                             struct arena *arena);
