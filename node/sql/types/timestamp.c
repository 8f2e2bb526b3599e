/*
 * timestamp.c -- timestamp with time zone: microseconds since 2000-01-01 UTC as text.
 *
 * Reading takes ISO 8601 as PostgreSQL writes it and as drivers send it:
 *
 *     [-]YYYY-MM-DD[(T| )HH:MM[:SS[.ffffff]]][ ][Z | UTC | +HH[[:]MM[[:]SS]]][ AD|BC]
 *     now  today  tomorrow  yesterday  epoch  infinity  -infinity
 *
 * The other spellings of PostgreSQL's parser ("Jan 2 2024", "20240102") are refused with 22007; a zone
 * by name other than UTC is 0A000. Fractions are rounded half away from zero at the sixth digit, as
 * PostgreSQL does. Days are counted with the proleptic Gregorian calendar (Fliegel and Van Flandern).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/sql/types/type_io.h"

#define US_PER_S    1000000LL
#define US_PER_DAY  (86400 * US_PER_S)
#define EPOCH_JDATE 2451545 /* 2000-01-01 as a Julian day. */
#define YEAR_MAX    294276
#define ZONE_S_MAX  (16 * 3600 - 1)

static int64_t julian_day(int64_t year, int month, int day)
{
    int64_t century = 0;
    int64_t julian = 0;

    if (month > 2) {
        month += 1;
        year += 4800;
    } else {
        month += 13;
        year += 4799;
    }
    century = year / 100;
    julian = year * 365 - 32167;
    julian += year / 4 - century + century / 4;
    return julian + 7834 * month / 256 + day;
}

static void from_julian_day(int64_t jd, int64_t *year, int *month, int *day)
{
    uint64_t julian = (uint64_t)jd + 32044;
    uint64_t quad = julian / 146097;
    uint64_t extra = (julian - quad * 146097) * 4 + 3;
    int64_t y = 0;

    julian += 60 + quad * 3 + extra / 146097;
    quad = julian / 1461;
    julian -= quad * 1461;
    y = (int64_t)(julian * 4 / 1461);
    julian = (y != 0 ? (julian + 305) % 365 : (julian + 306) % 366) + 123;
    y += (int64_t)quad * 4;
    *year = y - 4800;
    quad = julian * 2141 / 65536;
    *day = (int)(julian - 7834 * quad / 256);
    *month = (int)((quad + 10) % 12 + 1);
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* A cursor over the text; every take_ function leaves it alone when it answers false. */
struct scan {
    struct bytes rest;
};

static bool take_char(struct scan *s, char c)
{
    if (s->rest.len == 0 || s->rest.ptr[0] != (uint8_t)c) {
        return false;
    }
    s->rest = bytes_skip(s->rest, 1);
    return true;
}

static bool take_word(struct scan *s, const char *word)
{
    const size_t n = strlen(word);

    if (s->rest.len < n || strncasecmp((const char *)s->rest.ptr, word, n) != 0) {
        return false;
    }
    s->rest = bytes_skip(s->rest, n);
    return true;
}

static bool peek_digit(const struct scan *s)
{
    return s->rest.len > 0 && s->rest.ptr[0] >= '0' && s->rest.ptr[0] <= '9';
}

static bool take_number(struct scan *s, size_t digits_max, int *out, size_t *digits_out)
{
    size_t n = 0;
    int v = 0;

    while (n < digits_max && n < s->rest.len && s->rest.ptr[n] >= '0' && s->rest.ptr[n] <= '9') {
        v = v * 10 + (s->rest.ptr[n] - '0');
        n++;
    }
    if (n == 0) {
        return false;
    }
    s->rest = bytes_skip(s->rest, n);
    *out = v;
    if (digits_out != NULL) {
        *digits_out = n;
    }
    return true;
}

static void take_blanks(struct scan *s)
{
    while (s->rest.len > 0 && (s->rest.ptr[0] == ' ' || s->rest.ptr[0] == '\t')) {
        s->rest = bytes_skip(s->rest, 1);
    }
}

/* Digits behind the point, rounded to microseconds. 1,000,000 carries into the seconds. */
static int64_t take_fraction(struct scan *s)
{
    int64_t us = 0;
    int64_t unit = 100000;
    bool round_up = false;

    for (int place = 0; peek_digit(s); place++) {
        const int d = s->rest.ptr[0] - '0';

        if (place < 6) {
            us += d * unit;
            unit /= 10;
        } else if (place == 6) {
            round_up = d >= 5;
        }
        s->rest = bytes_skip(s->rest, 1);
    }
    return us + (round_up ? 1 : 0);
}

/* +HH, +HHMM, +HH:MM, +HH:MM:SS; a bare number up to two digits is hours. */
static bool take_offset(struct scan *s, int32_t *east_s)
{
    const bool west = take_char(s, '-');
    size_t digits = 0;
    int h = 0;
    int m = 0;
    int sec = 0;

    if (!west && !take_char(s, '+')) {
        return false;
    }
    if (!take_number(s, 4, &h, &digits)) {
        return false;
    }
    if (digits > 2) {
        m = h % 100;
        h /= 100;
    } else if (take_char(s, ':') && (!take_number(s, 2, &m, NULL) ||
                                     (take_char(s, ':') && !take_number(s, 2, &sec, NULL)))) {
        return false;
    }
    if (h > 15 || m > 59 || sec > 59) {
        return false;
    }
    *east_s = (h * 3600 + m * 60 + sec) * (west ? -1 : 1);
    return true;
}

static size_t offset_text(int32_t east_s, char *out, size_t size)
{
    const int32_t abs_s = east_s < 0 ? -east_s : east_s;
    size_t n = (size_t)snprintf(out, size, "%c%02d", east_s < 0 ? '-' : '+', abs_s / 3600);

    if (abs_s % 3600 != 0) {
        n += (size_t)snprintf(out + n, size - n, ":%02d", abs_s / 60 % 60);
    }
    if (abs_s % 60 != 0) {
        n += (size_t)snprintf(out + n, size - n, ":%02d", abs_s % 60);
    }
    return n;
}

/* As PostgreSQL shows such a zone, a POSIX rule whose sign counts westwards: <+02>-02. */
static void zone_name(struct time_zone *z)
{
    char east[16];
    char west[16];

    east[offset_text(z->offset_s, east, sizeof(east))] = '\0';
    west[offset_text(-z->offset_s, west, sizeof(west))] = '\0';
    (void)snprintf(z->name, sizeof(z->name), "<%s>%s", east, west);
}

bool time_zone_parse(const char *name, struct time_zone *out)
{
    static const char *const utc[] = {"UTC",     "GMT",     "Z",         "Zulu",    "UCT",
                                      "Etc/UTC", "Etc/GMT", "Universal", "Etc/UCT", "Greenwich"};
    struct scan s = {bytes_str(name)};
    int hours = 0;

    if (s.rest.len == 0 || s.rest.len >= sizeof(out->name)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_COUNT(utc); i++) {
        if (strcasecmp(name, utc[i]) == 0) {
            (void)snprintf(out->name, sizeof(out->name), "%s", utc[i]);
            out->offset_s = 0;
            return true;
        }
    }
    if (take_char(&s, '<')) { /* Our own output: <+02>-02. */
        if (!take_offset(&s, &out->offset_s) || !take_char(&s, '>')) {
            return false;
        }
    } else if (peek_digit(&s)) {
        if (!take_number(&s, 2, &hours, NULL) || s.rest.len != 0 || hours > 15) {
            return false;
        }
        out->offset_s = hours * 3600;
    } else if (!take_offset(&s, &out->offset_s) || s.rest.len != 0) {
        return false;
    }
    zone_name(out);
    return true;
}

struct fields {
    int64_t year;
    int month, day, hour, minute, second;
    int64_t us;
    int32_t east_s;
};

enum parse_result {
    PARSE_OK,
    PARSE_SYNTAX,
    PARSE_RANGE,
    PARSE_MONTH,    /* No such month, which hints at another order of the fields. */
    PARSE_OVERFLOW, /* A date, but not one that can be stored. */
    PARSE_ZONE,     /* A zone by name: its rules are not known here. */
};

static enum parse_result parse_date(struct scan *s, struct fields *f)
{
    size_t digits = 0;
    int year = 0;

    if (!take_number(s, 6, &year, &digits) || digits < 3 || !take_char(s, '-') ||
        !take_number(s, 2, &f->month, NULL) || !take_char(s, '-') ||
        !take_number(s, 2, &f->day, NULL)) {
        return PARSE_SYNTAX;
    }
    f->year = year;
    return PARSE_OK;
}

static enum parse_result parse_time(struct scan *s, struct fields *f)
{
    if (!take_number(s, 2, &f->hour, NULL) || !take_char(s, ':') ||
        !take_number(s, 2, &f->minute, NULL)) {
        return PARSE_SYNTAX;
    }
    if (take_char(s, ':')) {
        if (!take_number(s, 2, &f->second, NULL)) {
            return PARSE_SYNTAX;
        }
        if (take_char(s, '.')) {
            f->us = take_fraction(s);
        }
    }
    return PARSE_OK;
}

/* What may follow date and time: a zone, then AD or BC. */
static enum parse_result parse_tail(struct scan *s, struct fields *f)
{
    take_blanks(s);
    if (s->rest.len > 0 && (s->rest.ptr[0] == '+' || s->rest.ptr[0] == '-')) {
        if (!take_offset(s, &f->east_s)) {
            return PARSE_SYNTAX;
        }
    } else if (take_word(s, "UTC") || take_word(s, "GMT") || take_word(s, "Z")) {
        f->east_s = 0;
    }
    take_blanks(s);
    if (take_word(s, "BC")) {
        if (f->year <= 0) {
            return PARSE_RANGE;
        }
        f->year = 1 - f->year;
    } else if (!take_word(s, "AD") && f->year == 0) {
        return PARSE_RANGE;
    }
    take_blanks(s);
    if (s->rest.len == 0) {
        return PARSE_OK;
    }
    return (s->rest.ptr[0] | 0x20) >= 'a' && (s->rest.ptr[0] | 0x20) <= 'z' ? PARSE_ZONE
                                                                            : PARSE_SYNTAX;
}

static enum parse_result fields_to_us(const struct fields *f, int64_t *out)
{
    const bool day_end = f->hour == 24 && f->minute == 0 && f->second == 0 && f->us == 0;
    int64_t us = 0;

    if (f->month < 1 || f->month > 12) {
        return PARSE_MONTH;
    }
    if (f->day < 1 || f->day > days_in_month(f->year, f->month) || (f->hour > 23 && !day_end) ||
        f->minute > 59 || f->second > 60) {
        return PARSE_RANGE;
    }
    if (f->year > YEAR_MAX || f->year < -4713) {
        return PARSE_OVERFLOW;
    }
    us = (julian_day(f->year, f->month, f->day) - EPOCH_JDATE) * 86400;
    us += f->hour * 3600 + f->minute * 60 + f->second - f->east_s;
    if (__builtin_mul_overflow(us, US_PER_S, &us) || __builtin_add_overflow(us, f->us, &us)) {
        return PARSE_OVERFLOW;
    }
    *out = us;
    return us < TIMESTAMP_MIN || us >= TIMESTAMP_END ? PARSE_OVERFLOW : PARSE_OK;
}

/* Local midnight of the day of `us`, `days` later. */
static int64_t midnight(int64_t us, int32_t east_s, int days)
{
    int64_t local = us + east_s * US_PER_S;
    int64_t rest = local % US_PER_DAY;

    if (rest < 0) {
        rest += US_PER_DAY;
    }
    return local - rest + days * US_PER_DAY - east_s * US_PER_S;
}

static bool special_word(const struct type_io *io, struct bytes s, int64_t *out)
{
    const int32_t east_s = io->settings->zone.offset_s;
    const struct {
        const char *word;
        int64_t value;
    } words[] = {{"epoch", TIMESTAMP_UNIX_EPOCH},
                 {"infinity", TIMESTAMP_INFINITY},
                 {"-infinity", TIMESTAMP_MINUS_INFINITY},
                 {"now", io->now_us},
                 {"today", midnight(io->now_us, east_s, 0)},
                 {"tomorrow", midnight(io->now_us, east_s, 1)},
                 {"yesterday", midnight(io->now_us, east_s, -1)}};

    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (s.len == strlen(words[i].word) &&
            strncasecmp((const char *)s.ptr, words[i].word, s.len) == 0) {
            *out = words[i].value;
            return true;
        }
    }
    return false;
}

static enum parse_result parse_timestamp(const struct type_io *io, struct bytes text, int64_t *out)
{
    struct fields f = {.east_s = io->settings->zone.offset_s};
    struct scan s = {text};
    enum parse_result r = PARSE_OK;

    take_blanks(&s);
    while (s.rest.len > 0 && s.rest.ptr[s.rest.len - 1] == ' ') {
        s.rest.len--;
    }
    if (special_word(io, s.rest, out)) {
        return PARSE_OK;
    }
    r = parse_date(&s, &f);
    if (r == PARSE_OK) {
        const bool t = take_char(&s, 'T') || take_char(&s, 't');

        take_blanks(&s);
        if (t || peek_digit(&s)) {
            r = parse_time(&s, &f);
        }
    }
    if (r == PARSE_OK) {
        r = parse_tail(&s, &f);
    }
    return r == PARSE_OK ? fields_to_us(&f, out) : r;
}

struct status timestamptz_in(const struct type_io *io, struct bytes text, int64_t *out)
{
    const int len = (int)text.len;
    const char *p = (const char *)text.ptr;
    struct status st = OK;

    switch (parse_timestamp(io, text, out)) {
    case PARSE_OK:
        return OK;
    case PARSE_SYNTAX:
        return sql_error_set(io->err, io->arena, "22007", io->position,
                             "invalid input syntax for type timestamp with time zone: \"%.*s\"",
                             len, p);
    case PARSE_RANGE:
        return sql_error_set(io->err, io->arena, "22008", io->position,
                             "date/time field value out of range: \"%.*s\"", len, p);
    case PARSE_MONTH:
        st = sql_error_set(io->err, io->arena, "22008", io->position,
                           "date/time field value out of range: \"%.*s\"", len, p);
        io->err->hint = "Perhaps you need a different \"datestyle\" setting.";
        return st;
    case PARSE_OVERFLOW:
        return sql_error_set(io->err, io->arena, "22008", io->position,
                             "timestamp out of range: \"%.*s\"", len, p);
    case PARSE_ZONE:
        break;
    }
    return sql_error_unsupported(
        io->err, io->arena, io->position,
        arena_printf(io->arena, "time zone of the timestamp \"%.*s\"", len, p));
}

size_t timestamptz_text(int64_t us, const struct time_zone *zone, char out[TYPE_OUT_SIZE])
{
    int64_t year = 0;
    int64_t days = 0;
    int64_t rest = 0;
    int month = 0;
    int day = 0;
    size_t n = 0;

    if (us == TIMESTAMP_INFINITY || us == TIMESTAMP_MINUS_INFINITY) {
        return (size_t)snprintf(out, TYPE_OUT_SIZE, "%s",
                                us == TIMESTAMP_INFINITY ? "infinity" : "-infinity");
    }
    us += zone->offset_s * US_PER_S; /* Within int64: values stay clear of its ends by a day. */
    days = us / US_PER_DAY;
    rest = us % US_PER_DAY;
    if (rest < 0) {
        rest += US_PER_DAY;
        days--;
    }
    from_julian_day(days + EPOCH_JDATE, &year, &month, &day);
    n = (size_t)snprintf(out, TYPE_OUT_SIZE, "%04lld-%02d-%02d %02d:%02d:%02d",
                         (long long)(year > 0 ? year : 1 - year), month, day,
                         (int)(rest / (3600 * US_PER_S)), (int)(rest / (60 * US_PER_S) % 60),
                         (int)(rest / US_PER_S % 60));
    if (rest % US_PER_S != 0) {
        n += (size_t)snprintf(out + n, TYPE_OUT_SIZE - n, ".%06d", (int)(rest % US_PER_S));
        while (out[n - 1] == '0') {
            n--;
        }
    }
    n += offset_text(zone->offset_s, out + n, TYPE_OUT_SIZE - n);
    if (year <= 0) {
        n += (size_t)snprintf(out + n, TYPE_OUT_SIZE - n, " BC");
    }
    return n;
}
