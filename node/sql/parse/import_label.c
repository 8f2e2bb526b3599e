/*
 * import_label.c -- what a result column is called when no alias says it.
 *
 * PostgreSQL's FigureColname(): walks down to the part of an expression that has a name, with a
 * strength for how good the name is: 2 a column, a function or a keyword of its own, 1 a type of a
 * cast, which a better name below overrides. A scalar sub-select takes the label of its first column;
 * if that is a star only analysis can know, and the label is "".
 *
 * Source: PostgreSQL 15, src/backend/parser/parse_target.c.
 */
#include <string.h>

#include "node/sql/parse/import_internal.h"

/* How far the walk may have gone, and what it found. */
struct label {
    const char *name;
    int strength;
};

static struct label label_of(struct import *im, const Node *node);

static struct label label_column(const ColumnRef *c)
{
    struct label l = {NULL, 0};
    ListCell *cell;

    foreach(cell, c->fields)
    {
        if (IsA(lfirst(cell), String)) {
            l = (struct label){strVal(lfirst(cell)), 2};
        }
    }
    return l;
}

static struct label label_indirection(struct import *im, const A_Indirection *ind)
{
    const char *name = NULL;
    ListCell *cell;

    foreach(cell, ind->indirection)
    {
        if (IsA(lfirst(cell), String)) {
            name = strVal(lfirst(cell));
        }
    }
    return name != NULL ? (struct label){name, 2} : label_of(im, ind->arg);
}

/* What lies inside may be better than `name`, which has strength 1. */
static struct label label_unless(struct label inner, const char *name)
{
    return inner.strength <= 1 && name != NULL ? (struct label){name, 1} : inner;
}

static struct label label_sql_value(const SQLValueFunction *v)
{
    switch (v->op) {
    case SVFOP_CURRENT_DATE:
        return (struct label){"current_date", 2};
    case SVFOP_CURRENT_TIME:
    case SVFOP_CURRENT_TIME_N:
        return (struct label){"current_time", 2};
    case SVFOP_CURRENT_TIMESTAMP:
    case SVFOP_CURRENT_TIMESTAMP_N:
        return (struct label){"current_timestamp", 2};
    case SVFOP_LOCALTIME:
    case SVFOP_LOCALTIME_N:
        return (struct label){"localtime", 2};
    case SVFOP_LOCALTIMESTAMP:
    case SVFOP_LOCALTIMESTAMP_N:
        return (struct label){"localtimestamp", 2};
    case SVFOP_CURRENT_ROLE:
        return (struct label){"current_role", 2};
    case SVFOP_CURRENT_USER:
        return (struct label){"current_user", 2};
    case SVFOP_USER:
        return (struct label){"user", 2};
    case SVFOP_SESSION_USER:
        return (struct label){"session_user", 2};
    case SVFOP_CURRENT_CATALOG:
        return (struct label){"current_catalog", 2};
    case SVFOP_CURRENT_SCHEMA:
        return (struct label){"current_schema", 2};
    }
    return (struct label){NULL, 0};
}

static struct label label_select(struct import *im, const SelectStmt *s)
{
    const ResTarget *first;

    while (s->op != SETOP_NONE) {
        s = s->larg;
    }
    if (s->valuesLists != NIL) {
        return (struct label){"column1", 2};
    }
    if (s->targetList == NIL) {
        return (struct label){NULL, 2};
    }
    first = linitial(s->targetList);
    if (first->name != NULL) {
        return (struct label){first->name, 2};
    }
    return (struct label){import__label(im, first->val), 2};
}

static struct label label_sublink(struct import *im, const SubLink *s)
{
    switch (s->subLinkType) {
    case EXISTS_SUBLINK:
        return (struct label){"exists", 2};
    case ARRAY_SUBLINK:
        return (struct label){"array", 2};
    case EXPR_SUBLINK:
        return label_select(im, (const SelectStmt *)s->subselect);
    case ALL_SUBLINK:
    case ANY_SUBLINK:
    case ROWCOMPARE_SUBLINK:
    case MULTIEXPR_SUBLINK:
    case CTE_SUBLINK:
        break;
    }
    return (struct label){NULL, 0};
}

static struct label label_kind(struct import *im, const Node *node)
{
    switch ((int)nodeTag(node)) {
    case T_ColumnRef:
        return label_column((const ColumnRef *)node);
    case T_A_Indirection:
        return label_indirection(im, (const A_Indirection *)node);
    case T_FuncCall:
        return (struct label){strVal(llast(((const FuncCall *)node)->funcname)), 2};
    case T_A_Expr:
        return ((const A_Expr *)node)->kind == AEXPR_NULLIF ? (struct label){"nullif", 2}
                                                            : (struct label){NULL, 0};
    case T_TypeCast:
        return label_unless(label_of(im, ((const TypeCast *)node)->arg),
                            strVal(llast(((const TypeCast *)node)->typeName->names)));
    case T_CollateClause:
        return label_of(im, ((const CollateClause *)node)->arg);
    case T_GroupingFunc:
        return (struct label){"grouping", 2};
    case T_SubLink:
        return label_sublink(im, (const SubLink *)node);
    case T_CaseExpr:
        return label_unless(label_of(im, (const Node *)((const CaseExpr *)node)->defresult),
                            "case");
    case T_A_ArrayExpr:
        return (struct label){"array", 2};
    case T_RowExpr:
        return (struct label){"row", 2};
    case T_CoalesceExpr:
        return (struct label){"coalesce", 2};
    case T_MinMaxExpr:
        return (struct label){((const MinMaxExpr *)node)->op == IS_GREATEST ? "greatest" : "least",
                              2};
    case T_SQLValueFunction:
        return label_sql_value((const SQLValueFunction *)node);
    default:
        return (struct label){NULL, 0};
    }
}

static struct label label_of(struct import *im, const Node *node)
{
    struct label l;

    if (node == NULL) {
        return (struct label){NULL, 0};
    }
    import__enter(im, -1);
    l = label_kind(im, node);
    import__leave(im);
    return l;
}

static bool is_star(const Node *node)
{
    return (IsA(node, ColumnRef) && IsA(llast(((const ColumnRef *)node)->fields), A_Star)) ||
           (IsA(node, A_Indirection) &&
            IsA(llast(((const A_Indirection *)node)->indirection), A_Star));
}

const char *import__label(struct import *im, const Node *node)
{
    struct label l;

    if (is_star(node)) {
        return "";
    }
    l = label_of(im, node);
    return l.name != NULL ? import__str(im, l.name) : "?column?";
}
