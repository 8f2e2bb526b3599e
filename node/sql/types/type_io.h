/*
 * type_io.h -- values as PostgreSQL clients write and read them: text and binary forms.
 *
 * Text forms and errors are PostgreSQL's, byte for byte (DateStyle ISO, IntervalStyle postgres).
 * Errors: STATUS_SQL_ERROR with 22P02 (syntax), 22003 and 22008 (range), 22007 (date syntax), 22001
 * (too long), 22021 (not UTF-8), 08P01 and 22P03 (binary), 0A000 (a type that is not `full`).
 *
 * Threads: pure functions, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "node/sql/session/error.h"
#include "node/sql/types/datum.h"
#include "node/sql/types/type.h"

/* A zone at a fixed distance from UTC. */
struct time_zone {
    char name[64];    /* As SHOW TimeZone prints it. */
    int32_t offset_s; /* East of UTC. */
};

#define TIME_ZONE_UTC ((struct time_zone){"UTC", 0})

/*
 * "UTC", "GMT", "Z", "+02", "-05:30", "2", "<+02>-02", ...: as SET TimeZone takes them; a bare number
 * is hours east of UTC. False: no such zone (22023), or one whose rules are not known yet.
 */
NOYIELD bool time_zone_parse(const char *name, struct time_zone *out);

/* Session settings that change how values read or print. */
struct type_settings {
    struct time_zone zone;
    int32_t extra_float_digits; /* -15..3; 1 and more: shortest text that reads back the same. */
};

#define TYPE_SETTINGS_DEFAULT ((struct type_settings){TIME_ZONE_UTC, 1})

/* What a conversion may use. */
struct type_io {
    struct arena *arena; /* Results that do not fit a datum; texts of errors. */
    struct sql_error *err;
    int32_t position; /* Of the literal, for errors; -1: none. */
    const struct type_settings *settings;
    int64_t now_us; /* For 'now' and 'today'; since 2000-01-01 UTC. */
};

/* Text in. Variable-length results borrow from `text` where they can. typmod -1: no limit. An
 * oversize varchar(n) is 22001 unless the excess is blank. */
NOYIELD NODISCARD struct status type_in_text(const struct type_io *io, oid type, int32_t typmod,
                                             struct bytes text, union datum *out);
/* Binary in, as Bind messages carry it. Borrows from `data`. */
NOYIELD NODISCARD struct status type_in_binary(const struct type_io *io, oid type, int32_t typmod,
                                               struct bytes data, union datum *out);

#define TYPE_OUT_SIZE 64 /* Enough for the text of every fixed-size value. */

/* Text out. Points into `scratch` or, for variable-length types, into the datum itself. */
NOYIELD struct bytes type_out_text(oid type, union datum d, const struct type_settings *s,
                                   char scratch[TYPE_OUT_SIZE]);
/* Binary out, likewise. */
NOYIELD struct bytes type_out_binary(oid type, union datum d, char scratch[TYPE_OUT_SIZE]);

/* Cuts or refuses a string for varchar(n): an explicit cast cuts silently, an assignment refuses with
 * 22001 unless only blanks are lost. typmod -1: unchanged. */
NOYIELD NODISCARD struct status type_varchar_fit(const struct type_io *io, int32_t typmod,
                                                 bool explicit_cast, struct bytes in,
                                                 struct bytes *out);

/* ---- pieces that functions use as well ------------------------------------------------------- */

/* Characters of UTF-8 text. */
NOYIELD size_t utf8_length(struct bytes s);
/* Bytes of the first `chars` characters, at most s.len. */
NOYIELD size_t utf8_offset(struct bytes s, size_t chars);
/* Where the first malformed sequence starts; s.len when there is none. NUL counts as malformed. */
NOYIELD size_t utf8_check(struct bytes s);
NOYIELD NODISCARD struct status type_check_utf8(const struct type_io *io, struct bytes s);

/* Decimal into out[21], no NUL; returns the length. */
NOYIELD size_t int64_text(int64_t v, char *out);
/* Shortest round-trip text (extra_float_digits >= 1) or %.*g of 15 + digits; no NUL. */
NOYIELD size_t float8_text(double v, int32_t extra_float_digits, char out[TYPE_OUT_SIZE]);
NOYIELD NODISCARD struct status float8_in(const struct type_io *io, struct bytes text, double *out);
NOYIELD NODISCARD struct status int_in(const struct type_io *io, oid type, struct bytes text,
                                       int64_t *out);
NOYIELD NODISCARD struct status bool_in(const struct type_io *io, struct bytes text, int64_t *out);

#define TIMESTAMP_INFINITY       INT64_MAX
#define TIMESTAMP_MINUS_INFINITY INT64_MIN
#define TIMESTAMP_MIN            (-211813488000000000LL) /* 4714-11-24 BC */
#define TIMESTAMP_END            9223371331200000000LL   /* 294277-01-01, exclusive */
#define TIMESTAMP_UNIX_EPOCH     (-946684800000000LL)    /* 1970-01-01 */

NOYIELD NODISCARD struct status timestamptz_in(const struct type_io *io, struct bytes text,
                                               int64_t *out);
NOYIELD size_t timestamptz_text(int64_t us, const struct time_zone *zone, char out[TYPE_OUT_SIZE]);
