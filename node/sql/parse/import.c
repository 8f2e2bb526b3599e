/*
 * import.c -- the door to libpg_query.
 *
 * libpg_query is PostgreSQL's own parser as a library. Its public results (protobuf, JSON) cost ten
 * times the parse and can be made to overflow any stack, so we call raw_parser() and copy the C
 * structures it gives into our tree before its memory is given back. The raw parser itself needs
 * some 12 KiB of stack whatever the text; the copy recurses, and counts its depth.
 *
 * Errors. The library raises them by siglongjmp to PG_exception_stack. Its own wrapper drops
 * SQLSTATE, hint and detail; ours (raw_parse) keeps them. The names it needs are thread-local in the
 * library, see import_internal.h, and survive the localising of its symbols through
 * pg_query/keep.txt.
 *
 * Guard: node numbers are compiled in from PostgreSQL's headers and must be the library's. The test
 * test_parse_oracle.c compares a tree of each kind with the library's own JSON.
 */
#include "node/sql/parse/import.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/sql/parse/import_internal.h"
#include "node/sql/parse/scan.h"

/* From pg_query_internal.h, which cannot be included: it declares more than is kept. */
MemoryContext pg_query_enter_memory_context(void);
void pg_query_exit_memory_context(MemoryContext context);

void import__fail(struct import *im, struct status st)
{
    im->failure = st;
    longjmp(im->leave, 1);
}

void import__error(struct import *im, const char *sqlstate, int location, const char *fmt, ...)
{
    char message[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    import__fail(im, sql_error_set(im->err, im->arena, sqlstate, location, "%s", message));
}

void import__unsupported(struct import *im, const char *feature, int location)
{
    im->unsupported = feature;
    im->unsupported_location = location;
    import__fail(im, FAIL(STATUS_UNSUPPORTED, feature));
}

void *import__calloc(struct import *im, size_t count, size_t size)
{
    static const char nothing[1];
    void *p;

    if (count == 0) {
        return (void *)(uintptr_t)nothing; /* Never written: no element exists. */
    }
    p = arena_calloc(im->arena, count, size);
    if (p == NULL) {
        import__fail(im, FAIL(STATUS_MEMORY, "statement too large for its arena"));
    }
    return p;
}

const char *import__str(struct import *im, const char *s)
{
    char *copy;

    if (s == NULL) {
        return NULL;
    }
    copy = arena_strdup(im->arena, s);
    if (copy == NULL) {
        import__fail(im, FAIL(STATUS_MEMORY, "statement too large for its arena"));
    }
    return copy;
}

void import__enter(struct import *im, int location)
{
    if (im->depth == AST_DEPTH_MAX) {
        import__error(im, "54001", location, "statement is nested too deeply: more than %u levels",
                      AST_DEPTH_MAX);
    }
    im->depth++;
}

void import__leave(struct import *im)
{
    im->depth--;
}

struct ast_stmt *import__nested(struct import *im, const Node *node)
{
    struct ast_stmt *stmt = IMPORT_NEW(im, struct ast_stmt);

    stmt->location = -1;
    stmt->unsupported_location = -1;
    import__enter(im, -1);
    import__stmt(im, node, stmt);
    import__leave(im);
    return stmt;
}

/* What DROP, ALTER, COMMENT ... of an object other than a table is called. */
static const char *object_name(ObjectType type)
{
    switch ((int)type) { /* (int): only the common ones have a name here. */
    case OBJECT_INDEX:
        return "INDEX";
    case OBJECT_SEQUENCE:
        return "SEQUENCE";
    case OBJECT_VIEW:
        return "VIEW";
    case OBJECT_MATVIEW:
        return "MATERIALIZED VIEW";
    case OBJECT_SCHEMA:
        return "SCHEMA";
    case OBJECT_TYPE:
        return "TYPE";
    case OBJECT_DOMAIN:
        return "DOMAIN";
    case OBJECT_FUNCTION:
        return "FUNCTION";
    case OBJECT_PROCEDURE:
        return "PROCEDURE";
    case OBJECT_TRIGGER:
        return "TRIGGER";
    case OBJECT_EXTENSION:
        return "EXTENSION";
    case OBJECT_TABLE:
        return "TABLE";
    default:
        return "OBJECT";
    }
}

struct other_name {
    NodeTag tag;
    const char *name;
};

static const struct other_name other_names[] = {
    {T_AlterDatabaseStmt, "ALTER DATABASE"},
    {T_AlterDatabaseSetStmt, "ALTER DATABASE"},
    {T_AlterDefaultPrivilegesStmt, "ALTER DEFAULT PRIVILEGES"},
    {T_AlterEnumStmt, "ALTER TYPE"},
    {T_AlterRoleStmt, "ALTER ROLE"},
    {T_AlterRoleSetStmt, "ALTER ROLE"},
    {T_AlterSeqStmt, "ALTER SEQUENCE"},
    {T_AlterSystemStmt, "ALTER SYSTEM"},
    {T_AlterTableStmt, "ALTER TABLE"},
    {T_CallStmt, "CALL"},
    {T_CheckPointStmt, "CHECKPOINT"},
    {T_ClosePortalStmt, "CLOSE"},
    {T_ClusterStmt, "CLUSTER"},
    {T_CommentStmt, "COMMENT"},
    {T_CompositeTypeStmt, "CREATE TYPE"},
    {T_ConstraintsSetStmt, "SET CONSTRAINTS"},
    {T_CreateCastStmt, "CREATE CAST"},
    {T_CreateDomainStmt, "CREATE DOMAIN"},
    {T_CreateEnumStmt, "CREATE TYPE"},
    {T_CreateExtensionStmt, "CREATE EXTENSION"},
    {T_CreateFunctionStmt, "CREATE FUNCTION"},
    {T_CreatePolicyStmt, "CREATE POLICY"},
    {T_CreateRangeStmt, "CREATE TYPE"},
    {T_CreateRoleStmt, "CREATE ROLE"},
    {T_CreateSchemaStmt, "CREATE SCHEMA"},
    {T_CreateSeqStmt, "CREATE SEQUENCE"},
    {T_CreateStatsStmt, "CREATE STATISTICS"},
    {T_CreateTableAsStmt, "CREATE TABLE AS"},
    {T_CreateTrigStmt, "CREATE TRIGGER"},
    {T_CreatedbStmt, "CREATE DATABASE"},
    {T_DeclareCursorStmt, "DECLARE CURSOR"},
    {T_DefineStmt, "CREATE"},
    {T_DoStmt, "DO"},
    {T_DropRoleStmt, "DROP ROLE"},
    {T_DropdbStmt, "DROP DATABASE"},
    {T_FetchStmt, "FETCH"},
    {T_GrantRoleStmt, "GRANT"},
    {T_GrantStmt, "GRANT"},
    {T_IndexStmt, "CREATE INDEX"},
    {T_ListenStmt, "LISTEN"},
    {T_LoadStmt, "LOAD"},
    {T_LockStmt, "LOCK TABLE"},
    {T_MergeStmt, "MERGE"},
    {T_NotifyStmt, "NOTIFY"},
    {T_RefreshMatViewStmt, "REFRESH MATERIALIZED VIEW"},
    {T_ReindexStmt, "REINDEX"},
    {T_RenameStmt, "ALTER ... RENAME"},
    {T_RuleStmt, "CREATE RULE"},
    {T_UnlistenStmt, "UNLISTEN"},
    {T_VacuumStmt, "VACUUM"},
    {T_ViewStmt, "CREATE VIEW"},
};

static _Noreturn void import_other(struct import *im, const Node *node)
{
    for (size_t i = 0; i < ARRAY_COUNT(other_names); i++) {
        if (other_names[i].tag == nodeTag(node)) {
            import__unsupported(im, other_names[i].name, -1);
        }
    }
    if (IsA(node, DropStmt)) {
        import__unsupported(
            im,
            arena_printf(im->arena, "DROP %s", object_name(((const DropStmt *)node)->removeType)),
            -1);
    }
    import__unsupported(im, "this statement", -1);
}

static bool import_query_stmt(struct import *im, const Node *node, struct ast_stmt *out)
{
    switch ((int)nodeTag(node)) {
    case T_SelectStmt:
        out->kind = AST_STMT_SELECT;
        out->select = import__select(im, (const SelectStmt *)node);
        return true;
    case T_InsertStmt:
        out->kind = AST_STMT_INSERT;
        out->insert = import__insert(im, (const InsertStmt *)node);
        return true;
    case T_UpdateStmt:
        out->kind = AST_STMT_UPDATE;
        out->update = import__update(im, (const UpdateStmt *)node);
        return true;
    case T_DeleteStmt:
        out->kind = AST_STMT_DELETE;
        out->delete_ = import__delete(im, (const DeleteStmt *)node);
        return true;
    default:
        return false;
    }
}

static bool import_table_stmt(struct import *im, const Node *node, struct ast_stmt *out)
{
    switch ((int)nodeTag(node)) {
    case T_CreateStmt:
        out->kind = AST_STMT_CREATE_TABLE;
        out->create_table = import__create_table(im, (const CreateStmt *)node);
        return true;
    case T_DropStmt:
        if (((const DropStmt *)node)->removeType != OBJECT_TABLE) {
            return false;
        }
        out->kind = AST_STMT_DROP_TABLE;
        out->drop_table = import__drop_table(im, (const DropStmt *)node);
        return true;
    case T_TruncateStmt:
        out->kind = AST_STMT_TRUNCATE;
        out->truncate = import__truncate(im, (const TruncateStmt *)node);
        return true;
    case T_CopyStmt:
        out->kind = AST_STMT_COPY;
        out->copy = import__copy(im, (const CopyStmt *)node);
        return true;
    default:
        return false;
    }
}

static enum ast_discard discard_of(DiscardMode target)
{
    switch (target) {
    case DISCARD_ALL:
        return AST_DISCARD_ALL;
    case DISCARD_PLANS:
        return AST_DISCARD_PLANS;
    case DISCARD_SEQUENCES:
        return AST_DISCARD_SEQUENCES;
    case DISCARD_TEMP:
        return AST_DISCARD_TEMP;
    }
    return AST_DISCARD_ALL;
}

static struct ast_prepare *import_prepare(struct import *im, const PrepareStmt *s)
{
    struct ast_prepare *p = IMPORT_NEW(im, struct ast_prepare);

    p->name = import__str(im, s->name);
    p->types_count = (uint32_t)list_length(s->argtypes);
    p->types = IMPORT_ARRAY(im, struct ast_type *, p->types_count);
    for (uint32_t i = 0; i < p->types_count; i++) {
        p->types[i] = import__type(im, list_nth(s->argtypes, (int)i));
    }
    p->stmt = import__nested(im, s->query);
    return p;
}

static struct ast_execute *import_execute(struct import *im, const ExecuteStmt *s)
{
    struct ast_execute *e = IMPORT_NEW(im, struct ast_execute);

    e->name = import__str(im, s->name);
    e->args = import__exprs(im, s->params);
    return e;
}

static struct ast_explain *import_explain(struct import *im, const ExplainStmt *s)
{
    struct ast_explain *e = IMPORT_NEW(im, struct ast_explain);

    e->options = import__options(im, s->options);
    e->stmt = import__nested(im, s->query);
    return e;
}

static bool import_session_stmt(struct import *im, const Node *node, struct ast_stmt *out)
{
    switch ((int)nodeTag(node)) {
    case T_TransactionStmt:
        out->kind = AST_STMT_TXN;
        out->txn = import__txn(im, (const TransactionStmt *)node);
        return true;
    case T_VariableSetStmt:
        out->kind = AST_STMT_SET;
        out->set = import__set(im, (const VariableSetStmt *)node);
        return true;
    case T_VariableShowStmt:
        out->kind = AST_STMT_SHOW;
        out->show = IMPORT_NEW(im, struct ast_show);
        out->show->name = import__str(im, ((const VariableShowStmt *)node)->name);
        return true;
    case T_DiscardStmt:
        out->kind = AST_STMT_DISCARD;
        out->discard = discard_of(((const DiscardStmt *)node)->target);
        return true;
    case T_PrepareStmt:
        out->kind = AST_STMT_PREPARE;
        out->prepare = import_prepare(im, (const PrepareStmt *)node);
        return true;
    case T_ExecuteStmt:
        out->kind = AST_STMT_EXECUTE;
        out->execute = import_execute(im, (const ExecuteStmt *)node);
        return true;
    case T_DeallocateStmt:
        out->kind = AST_STMT_DEALLOCATE;
        out->deallocate = IMPORT_NEW(im, struct ast_deallocate);
        out->deallocate->name = import__str(im, ((const DeallocateStmt *)node)->name);
        return true;
    case T_ExplainStmt:
        out->kind = AST_STMT_EXPLAIN;
        out->explain = import_explain(im, (const ExplainStmt *)node);
        return true;
    default:
        return false;
    }
}

void import__stmt(struct import *im, const Node *node, struct ast_stmt *out)
{
    if (!import_query_stmt(im, node, out) && !import_table_stmt(im, node, out) &&
        !import_session_stmt(im, node, out)) {
        import_other(im, node);
    }
}

/* First byte behind blanks and comments; the statement's length without what follows it. */
static void set_extent(struct ast_stmt *stmt, const RawStmt *raw, const char *text)
{
    const size_t size = strlen(text);
    const size_t from = (size_t)raw->stmt_location;
    size_t to = raw->stmt_len > 0 ? from + (size_t)raw->stmt_len : size;
    struct scanner s;

    scan_init(&s, bytes_of(text, to), (uint32_t)from);
    stmt->location = (int32_t)scan_next(&s).start;
    while (to > (size_t)stmt->location && strchr(" \t\n\r\f", text[to - 1]) != NULL) {
        to--;
    }
    stmt->length = (int32_t)to - stmt->location;
}

/* One statement; its own landing place, so that one that is not supported spoils no other. */
static struct status import_statement(struct import *im, const RawStmt *raw, struct ast_stmt **out)
{
    struct ast_stmt *volatile stmt = ARENA_NEW(im->arena, struct ast_stmt);

    if (stmt == NULL) {
        return FAIL(STATUS_MEMORY, "statement too large for its arena");
    }
    set_extent(stmt, raw, im->text);
    stmt->unsupported_location = -1;
    im->depth = 0;
    im->params = 0;
    if (setjmp(im->leave) == 0) {
        import__stmt(im, raw->stmt, stmt);
    } else if (im->failure.code == STATUS_UNSUPPORTED) {
        stmt->unsupported = im->unsupported;
        stmt->unsupported_location =
            im->unsupported_location >= 0 ? im->unsupported_location : stmt->location;
    } else {
        return im->failure;
    }
    stmt->params = im->params;
    *out = stmt;
    return OK;
}

static struct status import_list(struct import *im, const List *list, struct parse_result *out)
{
    const uint32_t count = (uint32_t)list_length(list);
    struct parse_result result = {0};

    if (count > PARSE_STATEMENTS_MAX) {
        return sql_error_set(im->err, im->arena, "54000", -1,
                             "too many statements in one text: %u, the limit is %u", count,
                             PARSE_STATEMENTS_MAX);
    }
    result.stmts = ARENA_ARRAY(im->arena, struct ast_stmt *, count);
    if (count > 0 && result.stmts == NULL) {
        return FAIL(STATUS_MEMORY, "too many statements for their arena");
    }
    for (uint32_t i = 0; i < count; i++) {
        TRY(import_statement(im, list_nth(list, (int)i), &result.stmts[i]));
    }
    result.count = count;
    *out = result;
    return OK;
}

/* cursorpos counts characters from 1; we count bytes from 0. */
static int32_t byte_position(const char *text, int cursorpos)
{
    int32_t at = 0;

    if (cursorpos <= 0) {
        return -1;
    }
    for (int i = 1; i < cursorpos && text[at] != '\0'; i++) {
        do {
            at++;
        } while (((uint8_t)text[at] & 0xC0) == 0x80);
    }
    return at;
}

/* Turns the library's pending error into ours and clears it. */
static struct status take_error(struct import *im)
{
    const ErrorData *e = CopyErrorData();
    char sqlstate[6];
    int code = e->sqlerrcode;
    struct status st;

    for (int i = 0; i < 5; i++) {
        sqlstate[i] = (char)PGUNSIXBIT(code);
        code >>= 6;
    }
    sqlstate[5] = '\0';
    st = sql_error_set(im->err, im->arena, sqlstate, byte_position(im->text, e->cursorpos), "%s",
                       e->message != NULL ? e->message : "syntax error");
    if (e->detail != NULL) {
        im->err->detail = arena_strdup(im->arena, e->detail);
    }
    if (e->hint != NULL) {
        im->err->hint = arena_strdup(im->arena, e->hint);
    }
    im->err->routine = e->funcname != NULL ? arena_strdup(im->arena, e->funcname) : NULL;
    FlushErrorState();
    return st;
}

/* PG_TRY, written out. The list lives in the current memory context. */
static struct status raw_parse(struct import *im, const List **out)
{
    sigjmp_buf *const saved_stack = PG_exception_stack;
    ErrorContextCallback *const saved_context = error_context_stack;
    MemoryContext const context = CurrentMemoryContext;
    struct status st = OK;
    sigjmp_buf here;

    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        *out = raw_parser(im->text, RAW_PARSE_DEFAULT);
    } else {
        PG_exception_stack = saved_stack;
        error_context_stack = saved_context;
        CurrentMemoryContext = context;
        return take_error(im);
    }
    PG_exception_stack = saved_stack;
    error_context_stack = saved_context;
    return st;
}

struct status import_text(const char *text, struct arena *arena, struct parse_result *out,
                          struct sql_error *err)
{
    MemoryContext const context = pg_query_enter_memory_context();
    struct import im = {.arena = arena, .err = err, .text = text};
    const List *list = NULL;
    struct status st = OK;

    TRY_OUT(raw_parse(&im, &list));
    TRY_OUT(import_list(&im, list, out));
out:
    pg_query_exit_memory_context(context);
    return st;
}
