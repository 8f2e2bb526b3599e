/*
 * scan_statement.c -- when are two texts the same statement?
 *
 * A client without prepared statements sends `... WHERE id = 7`, then `... WHERE id = 8`. Both give
 * the same plan, so they should share it, and finding that out must be cheaper than parsing. The key
 * of a statement is a hash of its skeleton: the tokens, with numbers and strings replaced by their
 * lexical class. Grammar and analysis branch only on classes, so equal keys mean equal trees up to
 * the values of literals, which become parameters of the plan.
 *
 * That holds for a literal only where the grammar makes a plain constant of it. Elsewhere its value
 * matters to the tree, and the literal is *pinned*: its text goes into the key. We see tokens, no
 * tree, so the rules below are generous: pinning a literal too much costs a cache hit, pinning one
 * too few gives wrong answers. Pinned are
 *   1. all literals in ORDER BY, GROUP BY, HAVING, LIMIT, OFFSET and FETCH (column numbers, limits);
 *   2. with any of GROUP BY, HAVING, DISTINCT, ORDER BY also those of the select list, because such
 *      clauses match expressions by equality;
 *   3. type modifiers: in parentheses behind `::type` or `AS type`, or behind CURRENT_TIMESTAMP;
 *   4. a literal directly behind a word that cannot precede an expression: DATE '...', LIKE '...',
 *      INTERVAL '1' ..., TIME ZONE '...';
 *   5. a number behind a unary sign: the grammar folds -5 into one constant whose type depends on
 *      the sign at the edges of int4 and int8;
 *   6. a pattern of ~ and its kin; the field of EXTRACT.
 * What is rarer than that (WITH, set operations, windows, escape strings, hints, parameters beside
 * literals, ...) is not abstracted at all; `abstract` is false.
 *
 * Which literals are pinned depends on the tokens only, never on values. So the key can hold skeleton
 * and pinned texts together, and one look-up decides.
 */
#include <string.h>

#include "node/base/invariant.h"
#include "node/sql/parse/scan.h"
#include "node/sql/parse/scan_words.h"

#define NESTING_MAX 32u /* Deeper parentheses: not abstracted. */

/* What holds for literals at this place; bits. */
enum {
    IN_TARGETS = 1, /* Pinned if the statement sorts, groups or removes duplicates. */
    IN_PINNED = 2,
};

struct level {
    uint8_t inherited; /* From outside of the parenthesis. */
    uint8_t own;       /* From the clause we are in. */
};

struct abstracter {
    struct bytes text;
    struct scan_statement *out;
    uint8_t *key; /* Skeleton, then pinned texts. Room for all: see abstracter_init(). */
    size_t key_size;
    uint32_t literals_cap;
    struct level levels[NESTING_MAX];
    uint32_t depth;
    struct scan_token previous;
    struct scan_token before; /* The one before previous. */
    uint32_t previous_flags;  /* enum scan_word_flag */
    uint32_t before_flags;
    uint64_t in_targets[SCAN_LITERALS_MAX / 64];
    bool matches_expressions; /* Rule 2. */
    bool type_follows;        /* Behind `::` or AS, in the words of a type. */
    bool abstract;
    bool insert;
    uint32_t words;
};

static bool is_literal(uint16_t kind)
{
    return kind == SCAN_INTEGER || kind == SCAN_DECIMAL || kind == SCAN_STRING ||
           kind == SCAN_DOLLAR_STRING;
}

/* Does this token end an operand, so that a following sign is a binary operator? */
static bool ends_operand(struct scan_token t, uint32_t flags)
{
    switch (t.kind) {
    case ')':
    case ']':
    case SCAN_QUOTED:
    case SCAN_INTEGER:
    case SCAN_DECIMAL:
    case SCAN_STRING:
    case SCAN_DOLLAR_STRING:
        return true;
    case SCAN_WORD:
        return (flags & SCAN_WORD_RESERVED) == 0;
    default:
        return false;
    }
}

/* Is `digits` <= `limit`, both without leading zeros? */
static bool digits_fit(struct bytes digits, const char *limit)
{
    const size_t n = strlen(limit);

    while (digits.len > 0 && digits.ptr[0] == '0') {
        digits = bytes_skip(digits, 1);
    }
    return digits.len < n || (digits.len == n && memcmp(digits.ptr, limit, n) <= 0);
}

static enum scan_class literal_class(struct bytes text, struct scan_token t)
{
    const struct bytes spelled = bytes_of(text.ptr + t.start, t.end - t.start);

    if (t.kind == SCAN_STRING || t.kind == SCAN_DOLLAR_STRING) {
        return SCAN_CLASS_STRING;
    }
    if (t.kind == SCAN_INTEGER && digits_fit(spelled, "2147483647")) {
        return SCAN_CLASS_INT4;
    }
    if (t.kind == SCAN_INTEGER && digits_fit(spelled, "9223372036854775807")) {
        return SCAN_CLASS_INT8;
    }
    return SCAN_CLASS_NUMERIC;
}

static bool contains_tilde(struct bytes text, struct scan_token t)
{
    return t.kind == SCAN_OPERATOR && memchr(text.ptr + t.start, '~', t.end - t.start) != NULL;
}

/* Rules 1 and 3 to 6 of the head of this file. */
static bool must_pin(const struct abstracter *a, struct scan_token t)
{
    const struct level *level = &a->levels[a->depth];
    const struct scan_token p = a->previous;
    const bool number = t.kind == SCAN_INTEGER || t.kind == SCAN_DECIMAL;

    if (((level->inherited | level->own) & IN_PINNED) != 0) {
        return true;
    }
    if (p.kind == SCAN_WORD) {
        return (a->previous_flags & SCAN_WORD_OPENS) == 0;
    }
    if (number && (p.kind == '-' || p.kind == '+')) {
        return !ends_operand(a->before, a->before_flags);
    }
    return p.kind == SCAN_QUOTED || contains_tilde(a->text, p) ||
           (p.kind == '[' && a->type_follows) ||
           (p.kind == '(' && (a->before_flags & SCAN_WORD_EXTRACT) != 0);
}

static void key_put(struct abstracter *a, uint8_t kind, struct bytes content)
{
    a->key[a->key_size++] = kind;
    if (content.len > 0) {
        memcpy(a->key + a->key_size, content.ptr, content.len);
        a->key_size += content.len;
    }
    a->key[a->key_size++] = 0;
}

static struct status add_literal(struct abstracter *a, struct arena *arena, struct scan_token t)
{
    const struct level *level = &a->levels[a->depth];
    const uint32_t at = a->out->literals_count;

    if (at == SCAN_LITERALS_MAX) {
        a->abstract = false;
        return OK;
    }
    if (at == a->literals_cap) {
        const uint32_t cap = at == 0 ? 8 : at * 2;
        struct scan_literal *grown = ARENA_ARRAY(arena, struct scan_literal, cap);

        if (grown == NULL) {
            return FAIL(STATUS_MEMORY, "too many literals for the statement's arena");
        }
        if (at > 0) {
            memcpy(grown, a->out->literals, at * sizeof(*grown));
        }
        a->out->literals = grown;
        a->literals_cap = cap;
    }
    a->out->literals[at] =
        (struct scan_literal){t.start, t.end, (uint8_t)literal_class(a->text, t), must_pin(a, t)};
    if (((level->inherited | level->own) & IN_TARGETS) != 0) {
        a->in_targets[at / 64] |= (uint64_t)1 << (at % 64);
    }
    a->out->literals_count++;
    key_put(a, (uint8_t)(0x80 + a->out->literals[at].class_), BYTES_EMPTY);
    return OK;
}

/* Where the clauses of a query begin. */
static void note_clause(struct abstracter *a, uint32_t flags)
{
    struct level *level = &a->levels[a->depth];

    a->matches_expressions = a->matches_expressions || (flags & SCAN_WORD_MATCHES) != 0;
    if ((flags & SCAN_WORD_FROM) != 0 && (a->previous_flags & SCAN_WORD_DISTINCT) != 0) {
        return; /* IS DISTINCT FROM begins no clause. */
    }
    if ((flags & SCAN_WORD_TARGETS) != 0) {
        level->own = IN_TARGETS;
    } else if ((flags & SCAN_WORD_PINS) != 0) {
        level->own = IN_PINNED;
    } else if ((flags & SCAN_WORD_PLAIN) != 0) {
        level->own = 0;
    }
}

static void note_word(struct abstracter *a, uint32_t flags)
{
    const bool after_with = (a->previous_flags & SCAN_WORD_WITH) != 0;

    a->words++;
    if ((flags & SCAN_WORD_UNUSUAL) != 0 || (after_with && (flags & SCAN_WORD_TIME) == 0) ||
        ((flags & SCAN_WORD_INTO) != 0 && !(a->insert && a->words == 2))) {
        a->abstract = false;
    }
    note_clause(a, flags);
    if ((flags & SCAN_WORD_AS) != 0) {
        a->type_follows = true;
    } else if ((flags & SCAN_WORD_RESERVED) != 0) {
        a->type_follows = false;
    }
}

/* Rule 3: these parentheses hold type modifiers. */
static bool opens_modifiers(const struct abstracter *a)
{
    return (a->type_follows &&
            (a->previous.kind == SCAN_WORD || a->previous.kind == SCAN_QUOTED)) ||
           (a->previous_flags & SCAN_WORD_MODIFIED) != 0;
}

static void note_open(struct abstracter *a)
{
    const struct level *outer = &a->levels[a->depth];
    uint8_t inherited = outer->inherited | outer->own;

    if (opens_modifiers(a)) {
        inherited |= IN_PINNED;
    }
    a->type_follows = false;
    if (a->depth + 1 == NESTING_MAX) {
        a->abstract = false;
        return;
    }
    a->levels[++a->depth] = (struct level){inherited, 0};
}

static void note_close(struct abstracter *a)
{
    a->type_follows = false;
    if (a->depth == 0) {
        a->abstract = false; /* Unbalanced: a syntax error. */
        return;
    }
    a->depth--;
}

/* Feeds one token into skeleton and state. */
static struct status abstract_token(struct abstracter *a, struct arena *arena, struct scan_token t,
                                    uint32_t flags)
{
    const struct bytes spelled = bytes_of(a->text.ptr + t.start, t.end - t.start);

    if (is_literal(t.kind)) {
        /* numeric(3,1) '1.5': the modifiers were taken for arguments. */
        a->abstract = a->abstract && !(a->previous.kind == ')' && t.kind != SCAN_INTEGER);
        a->type_follows = a->type_follows && a->previous.kind == '['; /* int[3] */
        TRY(add_literal(a, arena, t));
    } else if (t.kind == SCAN_WORD) {
        note_word(a, flags);
        key_put(a, 1, spelled);
    } else if (t.kind == SCAN_QUOTED) {
        key_put(a, 2, spelled);
    } else if (t.kind == '(') {
        note_open(a);
        key_put(a, '(', BYTES_EMPTY);
    } else if (t.kind == ')') {
        note_close(a);
        key_put(a, ')', BYTES_EMPTY);
    } else if (t.kind == SCAN_TYPECAST) {
        a->type_follows = true;
        key_put(a, 3, BYTES_EMPTY);
    } else if (t.kind < SCAN_WORD || t.kind >= SCAN_OPERATOR) {
        a->type_follows = a->type_follows && (t.kind == '.' || t.kind == '[' || t.kind == ']');
        key_put(a, 4, spelled);
    } else {
        a->abstract = false; /* Parameters, escape, unicode, bit and national strings. */
    }
    a->before = a->previous;
    a->before_flags = a->previous_flags;
    a->previous = t;
    a->previous_flags = flags;
    return OK;
}

/*
 * Every token gives at most its own bytes + 2 to the skeleton, and pinned literals their bytes + 2
 * once more. Tokens without blanks between them are at least one byte, hence the factor.
 */
static struct status abstracter_init(struct abstracter *a, struct bytes text, uint32_t size,
                                     struct arena *arena, struct scan_statement *out)
{
    memset(a, 0, sizeof(*a));
    a->text = text;
    a->out = out;
    a->key = arena_alloc(arena, (size_t)size * 6 + 16, 1);
    if (a->key == NULL) {
        return FAIL(STATUS_MEMORY, "statement too long for its arena");
    }
    a->abstract = true;
    return OK;
}

static void abstracter_finish(struct abstracter *a)
{
    struct scan_statement *out = a->out;

    for (uint32_t i = 0; i < out->literals_count && a->abstract; i++) {
        struct scan_literal *lit = &out->literals[i];

        if (a->matches_expressions && (a->in_targets[i / 64] >> (i % 64) & 1) != 0) {
            lit->pinned = true;
        }
        if (lit->pinned) {
            key_put(a, 5, bytes_of(a->text.ptr + lit->start, lit->end - lit->start));
        }
    }
    out->abstract = a->abstract && a->depth == 0;
    if (out->abstract) {
        out->key = hash128(bytes_of(a->key, a->key_size), 0);
    } else {
        out->literals = NULL;
        out->literals_count = 0;
    }
}

static bool starts_abstractable(struct bytes text, struct scan_token t)
{
    return scan_is(text, t, "select") || scan_is(text, t, "insert") || scan_is(text, t, "update") ||
           scan_is(text, t, "delete") || scan_is(text, t, "values");
}

/* What it takes to find the `;` that ends a statement. */
struct splitter {
    uint32_t parens;
    uint32_t begins; /* Open BEGIN ATOMIC and, inside of one, CASE. */
    uint32_t previous_flags;
};

/* Does this token end the statement? Else it is taken note of. */
static bool split_token(struct splitter *sp, struct scan_token t, uint32_t flags)
{
    if (t.kind == ';' && sp->parens == 0 && sp->begins == 0) {
        return true;
    }
    if (t.kind == '(') {
        sp->parens++;
    } else if (t.kind == ')' && sp->parens > 0) {
        sp->parens--;
    } else if (((flags & SCAN_WORD_ATOMIC) != 0 && (sp->previous_flags & SCAN_WORD_BEGIN) != 0) ||
               ((flags & SCAN_WORD_CASE) != 0 && sp->begins > 0)) {
        sp->begins++;
    } else if ((flags & SCAN_WORD_END) != 0 && sp->begins > 0) {
        sp->begins--;
    }
    sp->previous_flags = flags;
    return false;
}

/* Finds end and next of the statement whose first token was just read. */
static struct status scan_to_end(struct scanner *s, struct bytes text, struct scan_token t,
                                 struct abstracter *a, struct arena *arena,
                                 struct scan_statement *out)
{
    struct splitter split = {0};

    for (;;) {
        const uint32_t flags = scan_word_flags(text, t);

        if (t.kind == SCAN_ERROR && a != NULL) {
            a->abstract = false;
        }
        if (t.kind == SCAN_ERROR) {
            out->end = t.end;
        }
        if (t.kind == SCAN_END || t.kind == SCAN_ERROR || split_token(&split, t, flags)) {
            out->next = t.end;
            return OK;
        }
        out->end = t.end;
        if (a != NULL && a->abstract) {
            TRY(abstract_token(a, arena, t, flags));
        }
        t = scan_next(s);
    }
}

void scan_split(struct bytes text, uint32_t from, struct scan_statement *out)
{
    struct scanner s;
    struct scan_token first;

    scan_init(&s, text, from);
    first = scan_next(&s);
    *out = (struct scan_statement){.start = first.start, .end = first.start, .next = first.end};
    (void)scan_to_end(&s, text, first, NULL, NULL, out); /* Fails only when it abstracts. */
}

struct status scan_statement(struct bytes text, uint32_t from, struct arena *arena,
                             struct scan_statement *out)
{
    const size_t size = text.len - from;
    struct scanner s;
    struct scan_token first;
    struct abstracter *a = NULL;

    scan_init(&s, text, from);
    first = scan_next(&s);
    *out = (struct scan_statement){.start = first.start, .end = first.start, .next = first.end};
    if (size <= SCAN_ABSTRACT_MAX && starts_abstractable(text, first)) {
        a = arena_alloc(arena, sizeof(*a), _Alignof(struct abstracter));
        if (a == NULL) {
            return FAIL(STATUS_MEMORY, "statement too long for its arena");
        }
        TRY(abstracter_init(a, text, (uint32_t)size, arena, out));
        a->insert = scan_is(text, first, "insert");
    }
    TRY(scan_to_end(&s, text, first, a, arena, out));
    if (a != NULL) {
        a->abstract = a->abstract && !s.hint;
        abstracter_finish(a);
    }
    return OK;
}

/* Copies a plain string without its quotes, halving doubled ones and joining continuations. */
static size_t resolve_string(struct bytes quoted, uint8_t *out)
{
    size_t n = 0;
    bool inside = false;

    for (size_t i = 0; i < quoted.len; i++) {
        if (quoted.ptr[i] != '\'') {
            if (inside) {
                out[n++] = quoted.ptr[i];
            } else if (quoted.ptr[i] == '-') { /* A comment between two pieces may hold quotes. */
                while (i + 1 < quoted.len && quoted.ptr[i + 1] != '\n' &&
                       quoted.ptr[i + 1] != '\r') {
                    i++;
                }
            }
        } else if (inside && i + 1 < quoted.len && quoted.ptr[i + 1] == '\'') {
            out[n++] = '\'';
            i++;
        } else {
            inside = !inside;
        }
    }
    return n;
}

struct status scan_literal_value(struct bytes text, struct scan_literal lit, struct arena *arena,
                                 struct bytes *out)
{
    struct bytes spelled = bytes_of(text.ptr + lit.start, lit.end - lit.start);
    uint8_t *copy;

    INVARIANT(lit.start < lit.end);
    if (lit.class_ != SCAN_CLASS_STRING) {
        *out = spelled;
        return OK;
    }
    if (spelled.ptr[0] == '$') {
        const uint8_t *second = memchr(spelled.ptr + 1, '$', spelled.len - 1);
        const size_t delimiter_size = (size_t)(second - spelled.ptr) + 1;

        *out = bytes_of(second + 1, spelled.len - 2 * delimiter_size);
        return OK;
    }
    if (memchr(spelled.ptr + 1, '\'', spelled.len - 2) == NULL) {
        *out = bytes_of(spelled.ptr + 1, spelled.len - 2);
        return OK;
    }
    copy = arena_alloc(arena, spelled.len, 1);
    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "literal too long for its arena");
    }
    *out = bytes_of(copy, resolve_string(spelled, copy));
    return OK;
}
