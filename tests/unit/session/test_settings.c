/* The table of parameters: sorted, its defaults valid, and what SET makes of values. */
#include <strings.h>

#include "node/sql/session/settings.h"
#include "tests/lib/test.h"

TEST(settings, table_is_sorted_and_complete)
{
    uint32_t count = 0;

    for (uint32_t i = 0; settings_def(i) != NULL; i++) {
        const struct setting_def *d = settings_def(i);

        EXPECT_TRUE(i == 0 || strcasecmp(settings_def(i - 1)->name, d->name) < 0);
        EXPECT_STREQ(d->name, settings_canonical_name(d->name));
        EXPECT_TRUE(d->type != SETTING_TYPE_ENUM || d->values[0] != 0);
        EXPECT_TRUE(d->type != SETTING_TYPE_INT || d->min <= d->max);
        count++;
    }
    EXPECT_TRUE(count >= 356);
    for (uint32_t i = 0; settings_reported(i) != NULL; i++) {
        struct settings s;

        settings_init(&s);
        EXPECT_TRUE(settings_get(&s, settings_reported(i)) != NULL);
        settings_deinit(&s);
    }
}

/* Whatever can be set takes its own default, and shows it again. */
TEST(settings, defaults_are_valid_values)
{
    struct settings s;
    struct arena arena;

    arena_init(&arena, 0);
    settings_init(&s);
    for (uint32_t i = 0; settings_def(i) != NULL; i++) {
        const struct setting_def *d = settings_def(i);
        struct sql_error err = {0};

        if (d->cls == SETTING_FIXED || strcmp(d->name, "session_authorization") == 0) {
            EXPECT_FALSE(status_ok(
                settings_set(&s, d->name, d->boot, SETTING_SESSION, false, &arena, &err)));
            continue;
        }
        EXPECT_OK(settings_set(&s, d->name, d->boot, SETTING_SESSION, false, &arena, &err));
        EXPECT_STREQ(d->boot, settings_get(&s, d->name));
    }
    settings_deinit(&s);
    arena_deinit(&arena);
}

static const char *set_and_show(const char *name, const char *value, struct arena *arena)
{
    struct sql_error err = {0};
    struct settings s;
    const char *shown = "error";

    settings_init(&s);
    if (status_ok(settings_set(&s, name, value, SETTING_SESSION, false, arena, &err))) {
        shown = arena_strdup(arena, settings_show(&s, name, arena));
    } else {
        shown = arena_strdup(arena, err.sqlstate);
    }
    settings_deinit(&s);
    return shown;
}

TEST(settings, values_are_normalised_as_postgres_does)
{
    const struct {
        const char *name;
        const char *value;
        const char *want;
    } cases[] = {
        {"work_mem", "1GB", "1GB"},
        {"work_mem", "1024", "1MB"},
        {"WORK_MEM", "  100 kB", "100kB"},
        {"work_mem", "63", "22023"},
        {"work_mem", "1 XB", "22023"},
        {"work_mem", "", "22023"},
        {"work_mem", "nan", "22023"},
        {"work_mem", "1e300", "22023"},
        {"statement_timeout", "1.5s", "1500ms"},
        {"statement_timeout", "2h", "2h"},
        {"statement_timeout", "0", "0"},
        {"statement_timeout", "-1", "22023"},
        {"extra_float_digits", "3", "3"},
        {"extra_float_digits", "-15", "-15"},
        {"extra_float_digits", "4", "22023"},
        {"enable_seqscan", "TRUE", "on"},
        {"enable_seqscan", "of", "off"},
        {"enable_seqscan", "o", "22023"},
        {"enable_seqscan", "1", "on"},
        {"client_min_messages", "WARNING", "warning"},
        {"client_min_messages", "warn", "22023"},
        {"datestyle", "iso", "ISO, MDY"},
        {"datestyle", "ISO,  mdy", "ISO, MDY"},
        {"datestyle", "German", "0A000"},
        {"client_encoding", "unicode", "UTF8"},
        {"client_encoding", "'utf-8'", "UTF8"},
        {"client_encoding", "latin1", "0A000"},
        {"bytea_output", "escape", "0A000"},
        {"standard_conforming_strings", "off", "0A000"},
        {"role", "somebody", "0A000"},
        {"role", "none", "none"},
        {"idle_in_transaction_session_timeout", "0", "0"},
        {"idle_in_transaction_session_timeout", "5", "5ms"},
        {"max_connections", "1", "55P02"},
        {"no.such", "x", "x"},
        {"nosuch", "x", "42704"},
        {".x", "x", "42704"},
        {"x.", "x", "42704"},
    };
    struct arena arena;

    arena_init(&arena, 0);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        EXPECT_STREQ(cases[i].want, set_and_show(cases[i].name, cases[i].value, &arena));
    }
    arena_deinit(&arena);
}

TEST(settings, limits_hold)
{
    char value[SETTING_VALUE_MAX + 2];
    char name[32];
    struct sql_error err = {0};
    struct settings s;
    struct arena arena;

    arena_init(&arena, 0);
    settings_init(&s);
    memset(value, 'x', sizeof(value));
    value[SETTING_VALUE_MAX] = 0;
    EXPECT_OK(settings_set(&s, "application_name", value, SETTING_SESSION, false, &arena, &err));
    value[SETTING_VALUE_MAX] = 'x';
    value[SETTING_VALUE_MAX + 1] = 0;
    EXPECT_CODE(STATUS_SQL_ERROR,
                settings_set(&s, "application_name", value, SETTING_SESSION, false, &arena, &err));
    for (uint32_t i = 0; i < SETTING_CUSTOM_MAX; i++) {
        (void)snprintf(name, sizeof(name), "my.p%u", i);
        EXPECT_OK(settings_set(&s, name, "v", SETTING_SESSION, false, &arena, &err));
    }
    EXPECT_CODE(STATUS_SQL_ERROR,
                settings_set(&s, "one.more", "v", SETTING_SESSION, false, &arena, &err));
    for (uint32_t i = 0; i < SETTING_UNDO_MAX; i++) {
        EXPECT_OK(settings_set(&s, "my.p1", "w", SETTING_SESSION, true, &arena, &err));
    }
    EXPECT_CODE(STATUS_OVERLOADED,
                settings_set(&s, "my.p1", "w", SETTING_SESSION, true, &arena, &err));
    settings_rollback(&s);
    EXPECT_STREQ("v", settings_get(&s, "my.p1"));
    settings_deinit(&s);
    arena_deinit(&arena);
}
