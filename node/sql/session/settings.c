/*
 * settings.c -- see settings.h.
 *
 * The table is sorted by lower-cased name and searched by halving. What a session has changed is a
 * short list: clients set a handful of parameters, and a session that sets nothing costs nothing.
 *
 * Undo: every SET in a transaction leaves a record with the value before and after it. A rollback
 * walks them newest first and restores the values before. A commit keeps, per parameter, what the
 * last SET that was not LOCAL has set, and the value before the transaction if there was none.
 *
 * Some values are checked and prepared for use here (apply): a value that we would have to honour and
 * cannot is refused with 0A000 or 22023, never stored and ignored.
 */
#include "node/sql/session/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/base/invariant.h"

static const struct setting_def defs[] = {
#define X(name, type, cls, unit, boot, values, min, max, description) \
    {name, SETTING_TYPE_##type, SETTING_##cls, unit, boot, values, min, max, description},
#include "node/sql/session/settings.def"
#undef X
};

/* In the order in which PostgreSQL 15 reports them at start. */
static const char *const reported[] = {
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
};

struct value {
    struct list link;
    const char *name; /* Of the table, or own memory behind the struct (custom). */
    bool custom;
    char *text;    /* NULL: the default. */
    char *startup; /* What RESET goes back to; NULL: the table's. */
};

struct undo {
    struct list link;
    struct value *value;
    char *before; /* NULL: the default. */
    char *after;
    bool local;
};

const struct setting_def *settings_def(uint32_t i)
{
    return i < ARRAY_COUNT(defs) ? &defs[i] : NULL;
}

const char *settings_reported(uint32_t i)
{
    return i < ARRAY_COUNT(reported) ? reported[i] : NULL;
}

static bool is_reported(const char *name)
{
    for (uint32_t i = 0; i < ARRAY_COUNT(reported); i++) {
        if (strcmp(reported[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static const struct setting_def *find_def(const char *name)
{
    size_t low = 0;
    size_t high = ARRAY_COUNT(defs);

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int c = strcasecmp(name, defs[middle].name);

        if (c == 0) {
            return &defs[middle];
        }
        if (c < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const char *settings_canonical_name(const char *name)
{
    const struct setting_def *d = find_def(name);

    return d == NULL ? name : d->name;
}

static struct value *find_value(const struct settings *s, const char *name)
{
    LIST_FOREACH(it, &s->values) {
        struct value *v = LIST_ENTRY(it, struct value, link);

        if (strcasecmp(v->name, name) == 0) {
            return v;
        }
    }
    return NULL;
}

const char *settings_get(const struct settings *s, const char *name)
{
    const struct value *v = find_value(s, name);
    const struct setting_def *d = find_def(name);

    if (v != NULL && v->text != NULL) {
        return v->text;
    }
    if (v != NULL && v->startup != NULL) {
        return v->startup;
    }
    return d == NULL ? NULL : d->boot;
}

static int64_t get_int(const struct settings *s, const char *name)
{
    const char *text = settings_get(s, name);

    return text == NULL ? 0 : strtoll(text, NULL, 10);
}

/* ---- what values mean ---- */

static int notice_level(const char *text)
{
    if (strcmp(text, "error") == 0) {
        return 2;
    }
    return strcmp(text, "warning") == 0 ? 1 : 0;
}

/* Brings the ready-made fields up to date after `name` has changed. */
static void refresh(struct settings *s, const char *name)
{
    if (strcmp(name, "TimeZone") == 0) {
        const bool ok = time_zone_parse(settings_get(s, name), &s->types.zone);

        INVARIANT(ok); /* check_special() let it in. */
    } else if (strcmp(name, "extra_float_digits") == 0) {
        s->types.extra_float_digits = (int32_t)get_int(s, name);
    } else if (strcmp(name, "statement_timeout") == 0) {
        s->statement_timeout_ms = (uint64_t)get_int(s, name);
    } else if (strcmp(name, "lock_timeout") == 0) {
        s->lock_timeout_ms = (uint64_t)get_int(s, name);
    } else if (strcmp(name, "idle_session_timeout") == 0) {
        s->idle_timeout_ms = (uint64_t)get_int(s, name);
    } else if (strcmp(name, "idle_in_transaction_session_timeout") == 0) {
        s->idle_in_txn_timeout_ms = (uint64_t)get_int(s, name);
    } else if (strcmp(name, "client_min_messages") == 0) {
        s->notice_level = notice_level(settings_get(s, name));
    } else if (strcmp(name, "default_transaction_read_only") == 0) {
        s->default_read_only = strcmp(settings_get(s, name), "on") == 0;
    }
    if (s->on_reported != NULL && is_reported(name)) {
        s->on_reported(s->ctx, name, settings_get(s, name));
    }
}

bool settings_wants(const struct settings *s, enum sql_severity severity)
{
    switch (severity) {
    case SQL_NOTICE:
        return s->notice_level < 1;
    case SQL_WARNING:
        return s->notice_level < 2;
    case SQL_ERROR:
    case SQL_FATAL:
        break;
    }
    return true;
}

/* ---- checking values ---- */

struct check {
    const struct setting_def *def;
    struct arena *arena;
    struct sql_error *err;
};

static struct status bad_value(const struct check *c, const char *value)
{
    return sql_error_set(c->err, c->arena, "22023", -1,
                         "invalid value for parameter \"%s\": \"%s\"", c->def->name, value);
}

static bool is_prefix(const char *value, const char *word, size_t least)
{
    const size_t n = strlen(value);

    return n >= least && n <= strlen(word) && strncasecmp(value, word, n) == 0;
}

static struct status check_bool(const struct check *c, const char *value, const char **out)
{
    if (is_prefix(value, "true", 1) || is_prefix(value, "yes", 1) || is_prefix(value, "on", 2) ||
        strcmp(value, "1") == 0) {
        *out = "on";
        return OK;
    }
    if (is_prefix(value, "false", 1) || is_prefix(value, "no", 1) || is_prefix(value, "off", 2) ||
        strcmp(value, "0") == 0) {
        *out = "off";
        return OK;
    }
    return sql_error_set(c->err, c->arena, "22023", -1, "parameter \"%s\" requires a Boolean value",
                         c->def->name);
}

struct unit {
    const char *base; /* Of the parameter. */
    const char *name;
    double factor; /* Units of base. */
};

/* Largest first within a base: SHOW takes the first that divides evenly. */
static const struct unit units[] = {
    {"ms", "d", 86400000.0},   {"ms", "h", 3600000.0},     {"ms", "min", 60000.0},
    {"ms", "s", 1000.0},       {"ms", "ms", 1.0},          {"ms", "us", 0.001},
    {"s", "d", 86400.0},       {"s", "h", 3600.0},         {"s", "min", 60.0},
    {"s", "s", 1.0},           {"s", "ms", 0.001},         {"min", "d", 1440.0},
    {"min", "h", 60.0},        {"min", "min", 1.0},        {"kB", "TB", 1073741824.0},
    {"kB", "GB", 1048576.0},   {"kB", "MB", 1024.0},       {"kB", "kB", 1.0},
    {"kB", "B", 1.0 / 1024},   {"8kB", "TB", 134217728.0}, {"8kB", "GB", 131072.0},
    {"8kB", "MB", 128.0},      {"8kB", "kB", 0.125},       {"MB", "TB", 1048576.0},
    {"MB", "GB", 1024.0},      {"MB", "MB", 1.0},          {"B", "TB", 1099511627776.0},
    {"B", "GB", 1073741824.0}, {"B", "MB", 1048576.0},     {"B", "kB", 1024.0},
    {"B", "B", 1.0},
};

static const struct unit *find_unit(const char *base, const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (strcmp(units[i].base, base) == 0 && strcmp(units[i].name, name) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

static struct status check_int(const struct check *c, const char *value, const char **out)
{
    const struct setting_def *d = c->def;
    char *end = NULL;
    double v = 0;

    errno = 0;
    v = strtod(value, &end);
    while (end != value && isspace((unsigned char)*end)) {
        end++;
    }
    if (end == value || errno != 0 || !(v >= -1e15 && v <= 1e15)) {
        return bad_value(c, value);
    }
    if (*end != 0) {
        const struct unit *u = find_unit(d->unit, end);

        if (u == NULL) {
            return bad_value(c, value);
        }
        v *= u->factor;
    }
    v = v < 0 ? v - 0.5 : v + 0.5;
    if ((int64_t)v < d->min || (int64_t)v > d->max) {
        return sql_error_set(c->err, c->arena, "22023", -1,
                             "%lld%s%s is outside the valid range for parameter \"%s\" "
                             "(%lld .. %lld)",
                             (long long)v, d->unit[0] == 0 ? "" : " ", d->unit, d->name,
                             (long long)d->min, (long long)d->max);
    }
    *out = arena_printf(c->arena, "%lld", (long long)v);
    return OK;
}

static struct status check_real(const struct check *c, const char *value, const char **out)
{
    char *end = NULL;
    const double v = strtod(value, &end);

    if (end == value || *end != 0 || v != v) {
        return bad_value(c, value);
    }
    *out = value;
    return OK;
}

/* "Available values: a, b, c." of a|b|c. */
static const char *available_values(const struct check *c)
{
    const char *list = "";

    for (const char *p = c->def->values; *p != 0;) {
        const size_t n = strcspn(p, "|");

        list = arena_printf(c->arena, "%s%s%.*s", list, list[0] == 0 ? "" : ", ", (int)n, p);
        p += n + (p[n] == '|' ? 1 : 0);
    }
    return arena_printf(c->arena, "Available values: %s.", list);
}

static struct status check_enum(const struct check *c, const char *value, const char **out)
{
    const size_t len = strlen(value);

    for (const char *p = c->def->values; *p != 0;) {
        const size_t n = strcspn(p, "|");

        if (n == len && strncasecmp(p, value, n) == 0) {
            *out = arena_strndup(c->arena, p, n);
            return *out == NULL ? FAIL(STATUS_MEMORY, "out of memory") : OK;
        }
        p += n + (p[n] == '|' ? 1 : 0);
    }
    (void)bad_value(c, value);
    c->err->hint = available_values(c);
    return FAIL(STATUS_SQL_ERROR, c->err->message);
}

static struct status unsupported_value(const struct check *c, const char *value)
{
    return sql_error_set(c->err, c->arena, "0A000", -1,
                         "value \"%s\" of parameter \"%s\" is not "
                         "supported yet",
                         value, c->def->name);
}

/* 'utf-8' in quotes (asyncpg), UTF8, UNICODE. */
static struct status check_encoding(const struct check *c, const char *value, const char **out)
{
    char plain[32] = {0};
    size_t n = 0;

    for (const char *p = value; *p != 0 && n + 1 < sizeof(plain); p++) {
        if (isalnum((unsigned char)*p)) {
            plain[n++] = (char)tolower((unsigned char)*p);
        }
    }
    if (strcmp(plain, "utf8") == 0 || strcmp(plain, "unicode") == 0) {
        *out = "UTF8";
        return OK;
    }
    if (strcmp(plain, "sqlascii") == 0) {
        *out = "SQL_ASCII"; /* No conversion either way. */
        return OK;
    }
    return unsupported_value(c, value);
}

/* "ISO", "ISO, MDY", "mdy, iso": output is ISO, and input order only matters for ambiguous dates,
 * which are read as MDY. */
static struct status check_datestyle(const struct check *c, const char *value, const char **out)
{
    char word[16] = {0};
    size_t n = 0;

    for (const char *p = value;; p++) {
        if (isalpha((unsigned char)*p)) {
            if (n + 1 < sizeof(word)) {
                word[n++] = (char)tolower((unsigned char)*p);
            }
            continue;
        }
        word[n] = 0;
        if (n > 0 && strcmp(word, "iso") != 0 && strcmp(word, "mdy") != 0 &&
            strcmp(word, "us") != 0 && strcmp(word, "noneuropean") != 0) {
            return unsupported_value(c, value);
        }
        n = 0;
        if (*p == 0) {
            break;
        }
    }
    *out = "ISO, MDY";
    return OK;
}

static struct status check_special(const struct check *c, const char *value, const char **out)
{
    const char *name = c->def->name;
    struct time_zone zone;

    if (strcmp(name, "client_encoding") == 0) {
        return check_encoding(c, value, out);
    }
    if (strcmp(name, "DateStyle") == 0) {
        return check_datestyle(c, value, out);
    }
    if (strcmp(name, "TimeZone") == 0) {
        if (!time_zone_parse(value, &zone)) {
            return bad_value(c, value);
        }
        *out = arena_strdup(c->arena, zone.name);
        return *out == NULL ? FAIL(STATUS_MEMORY, "out of memory") : OK;
    }
    if (strcmp(name, "standard_conforming_strings") == 0 && strcmp(value, "on") != 0) {
        return unsupported_value(c, value);
    }
    if (strcmp(name, "bytea_output") == 0 && strcmp(value, "hex") != 0) {
        return unsupported_value(c, value);
    }
    if ((strcmp(name, "role") == 0 && strcmp(value, "none") != 0) ||
        strcmp(name, "session_authorization") == 0) {
        return sql_error_unsupported(c->err, c->arena, -1, "changing the role of a session");
    }
    return OK;
}

static struct status check_value(const struct check *c, const char *value, const char **out)
{
    struct status st = OK;

    if (c->def->cls == SETTING_FIXED) {
        return sql_error_set(c->err, c->arena, "55P02", -1, "parameter \"%s\" cannot be changed",
                             c->def->name);
    }
    *out = value;
    switch (c->def->type) {
    case SETTING_TYPE_BOOL:
        st = check_bool(c, value, out);
        break;
    case SETTING_TYPE_INT:
        st = check_int(c, value, out);
        break;
    case SETTING_TYPE_REAL:
        st = check_real(c, value, out);
        break;
    case SETTING_TYPE_ENUM:
        st = check_enum(c, value, out);
        break;
    case SETTING_TYPE_STRING:
        break;
    }
    TRY(st);
    return check_special(c, *out, out);
}

/* ---- changing values ---- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static char *copy_text(const char *text)
{
    return text == NULL ? NULL : strdup(text);
}

static struct value *value_create(struct settings *s, const struct setting_def *d, const char *name)
{
    const size_t own = d == NULL ? strlen(name) + 1 : 0;
    struct value *v = calloc(1, sizeof(*v) + own);

    if (v == NULL) {
        return NULL;
    }
    if (d == NULL) {
        memcpy(v + 1, name, own);
        v->custom = true;
        s->custom_count++;
    }
    v->name = d == NULL ? (const char *)(v + 1) : d->name;
    list_push_back(&s->values, &v->link);
    return v;
}

/* Custom parameters have a dot between two identifiers. */
static bool is_custom_name(const char *name)
{
    const char *dot = strchr(name, '.');

    return dot != NULL && dot != name && dot[1] != 0 && strlen(name) <= SETTING_NAME_MAX;
}

static struct status find_or_create(struct settings *s, const char *name, struct arena *arena,
                                    struct sql_error *err, const struct setting_def **def,
                                    struct value **out)
{
    *def = find_def(name);
    *out = find_value(s, name);
    if (*out != NULL) {
        return OK;
    }
    if (*def == NULL && !is_custom_name(name)) {
        return sql_error_set(err, arena, "42704", -1, "unrecognized configuration parameter \"%s\"",
                             name);
    }
    if (*def == NULL && s->custom_count >= SETTING_CUSTOM_MAX) {
        return sql_error_set(err, arena, "53400", -1, "too many custom parameters");
    }
    *out = value_create(s, *def, name);
    return *out == NULL ? FAIL(STATUS_MEMORY, "no memory for a parameter") : OK;
}

static struct status remember(struct settings *s, struct value *v, const char *after, bool local)
{
    struct undo *u = NULL;

    if (s->undo_count >= SETTING_UNDO_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many changes of parameters in one transaction");
    }
    u = calloc(1, sizeof(*u));
    if (u == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a parameter");
    }
    u->value = v;
    u->before = copy_text(v->text);
    u->after = copy_text(after);
    u->local = local;
    list_push_front(&s->undo, &u->link);
    s->undo_count++;
    return OK;
}

/* Takes `text`. */
static void assign(struct settings *s, struct value *v, char *text)
{
    char *old = v->text;
    const bool changed = !same_text(old, text);

    v->text = text;
    free(old);
    if (changed) {
        refresh(s, v->name);
    }
}

struct status settings_force(struct settings *s, const char *name, const char *value)
{
    const struct setting_def *d = find_def(name);
    struct value *v = find_value(s, name);
    char *text = strdup(value);

    INVARIANT(d != NULL);
    v = v == NULL ? value_create(s, d, name) : v;
    if (v == NULL || text == NULL) {
        free(text);
        return FAIL(STATUS_MEMORY, "no memory for a parameter");
    }
    free(v->startup);
    v->startup = text;
    refresh(s, v->name);
    return OK;
}

struct status settings_set(struct settings *s, const char *name, const char *value,
                           enum setting_scope scope, bool in_txn, struct arena *arena,
                           struct sql_error *err)
{
    struct check check = {.arena = arena, .err = err};
    struct value *v = NULL;
    const char *checked = value;
    char *text = NULL;

    if (value != NULL && strlen(value) > SETTING_VALUE_MAX) {
        return sql_error_set(err, arena, "22023", -1, "value of parameter \"%s\" is too long",
                             name);
    }
    TRY(find_or_create(s, name, arena, err, &check.def, &v));
    if (value != NULL && check.def != NULL) {
        TRY(check_value(&check, value, &checked));
    } else if (check.def != NULL && check.def->cls == SETTING_FIXED) {
        return check_value(&check, "", &checked);
    }
    if (in_txn) {
        TRY(remember(s, v, checked, scope == SETTING_LOCAL));
    }
    text = copy_text(checked);
    if (checked != NULL && text == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a parameter");
    }
    if (scope == SETTING_STARTUP) {
        free(v->startup);
        v->startup = text;
        refresh(s, v->name);
    } else {
        assign(s, v, text);
    }
    return OK;
}

struct status settings_reset_all(struct settings *s, bool in_txn, struct arena *arena,
                                 struct sql_error *err)
{
    LIST_FOREACH(it, &s->values) {
        struct value *v = LIST_ENTRY(it, struct value, link);

        if (v->text != NULL) {
            TRY(settings_set(s, v->name, NULL, SETTING_SESSION, in_txn, arena, err));
        }
    }
    return OK;
}

static void undo_free(struct settings *s, struct undo *u)
{
    list_remove(&u->link);
    s->undo_count--;
    free(u->before);
    free(u->after);
    free(u);
}

uint32_t settings_mark(const struct settings *s)
{
    return s->undo_count;
}

void settings_rollback_to(struct settings *s, uint32_t mark)
{
    while (s->undo_count > mark) {
        struct undo *u = LIST_ENTRY(s->undo.next, struct undo, link);

        assign(s, u->value, copy_text(u->before));
        undo_free(s, u);
    }
}

void settings_rollback(struct settings *s)
{
    settings_rollback_to(s, 0);
}

/* Newest first: the first SET that we meet and that was not LOCAL is what stays; if there is none,
 * the oldest record holds the value from before the transaction. */
static void commit_value(struct settings *s, struct value *v)
{
    const struct undo *last = NULL;
    const struct undo *oldest = NULL;

    LIST_FOREACH(it, &s->undo) {
        const struct undo *u = LIST_ENTRY(it, struct undo, link);

        if (u->value == v) {
            last = last == NULL && !u->local ? u : last;
            oldest = u;
        }
    }
    INVARIANT(oldest != NULL); /* Asked because of one of them. */
    assign(s, v, copy_text(last != NULL ? last->after : oldest->before));
}

void settings_commit(struct settings *s)
{
    LIST_FOREACH(it, &s->undo) {
        const struct undo *u = LIST_ENTRY(it, struct undo, link);

        if (u->local) {
            commit_value(s, u->value);
        }
    }
    while (s->undo_count > 0) {
        undo_free(s, LIST_ENTRY(s->undo.next, struct undo, link));
    }
}

void settings_init(struct settings *s)
{
    *s = (struct settings){.types = TYPE_SETTINGS_DEFAULT};
    list_init(&s->values);
    list_init(&s->undo);
}

void settings_deinit(struct settings *s)
{
    struct list *it = NULL;

    while (s->undo_count > 0) {
        undo_free(s, LIST_ENTRY(s->undo.next, struct undo, link));
    }
    while ((it = list_pop_front(&s->values)) != NULL) {
        struct value *v = LIST_ENTRY(it, struct value, link);

        free(v->text);
        free(v->startup);
        free(v);
    }
}

/* ---- showing ---- */

static const char *show_int(const struct setting_def *d, const char *raw, struct arena *arena)
{
    const int64_t v = strtoll(raw, NULL, 10);

    if (d->unit[0] == 0 || v <= 0) {
        return raw;
    }
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        const struct unit *u = &units[i];

        if (strcmp(u->base, d->unit) == 0 && u->factor >= 1 && v % (int64_t)u->factor == 0) {
            return arena_printf(arena, "%lld%s", (long long)(v / (int64_t)u->factor), u->name);
        }
    }
    if (strcmp(d->unit, "8kB") == 0) {
        return arena_printf(arena, "%lldkB", (long long)v * 8);
    }
    return arena_printf(arena, "%lld%s", (long long)v, d->unit);
}

const char *settings_show(const struct settings *s, const char *name, struct arena *arena)
{
    const char *raw = settings_get(s, name);
    const struct setting_def *d = find_def(name);

    if (raw == NULL || d == NULL || d->type != SETTING_TYPE_INT) {
        return raw;
    }
    return show_int(d, raw, arena);
}
