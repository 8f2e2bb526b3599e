/*
 * test.h -- the frame of all unit tests.
 *
 *     TEST(module, what_holds_as_a_sentence) { EXPECT_EQ(2, 1 + 1); }
 *
 * Each program runs its tests one after the other, prints a line per failure and the summary
 * "N passed, N failed". An argument selects tests by substring.
 */
#pragma once

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/status.h"

struct test_case {
    const char *module;
    const char *name;
    void (*fn)(void);
    struct test_case *next;
};

void test_register(struct test_case *t);

/* Records a failure of the running test and returns; `fmt` says what was seen. */
void test_fail(const char *file, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define TEST(module_, name_)                                                            \
    static void test_##module_##_##name_(void);                                         \
    __attribute__((constructor)) static void register_##module_##_##name_(void)         \
    {                                                                                   \
        static struct test_case t = {#module_, #name_, test_##module_##_##name_, NULL}; \
        test_register(&t);                                                              \
    }                                                                                   \
    static void test_##module_##_##name_(void)

#define EXPECT_TRUE(cond)                                         \
    do {                                                          \
        if (!(cond)) {                                            \
            test_fail(__FILE__, __LINE__, "expected: %s", #cond); \
            return;                                               \
        }                                                         \
    } while (0)
#define EXPECT_FALSE(cond) EXPECT_TRUE(!(cond))
#define EXPECT_EQ(want, got)                                                                 \
    do {                                                                                     \
        const int64_t want_ = (int64_t)(want);                                               \
        const int64_t got_ = (int64_t)(got);                                                 \
        if (want_ != got_) {                                                                 \
            test_fail(__FILE__, __LINE__, "%s: want %" PRId64 ", got %" PRId64, #got, want_, \
                      got_);                                                                 \
            return;                                                                          \
        }                                                                                    \
    } while (0)
#define EXPECT_STREQ(want, got)                                                           \
    do {                                                                                  \
        const char *want_ = (want);                                                       \
        const char *got_ = (got);                                                         \
        if (got_ == NULL || strcmp(want_, got_) != 0) {                                   \
            test_fail(__FILE__, __LINE__, "%s:\n want \"%s\"\n got  \"%s\"", #got, want_, \
                      got_ == NULL ? "(null)" : got_);                                    \
            return;                                                                       \
        }                                                                                 \
    } while (0)
#define EXPECT_BYTES_EQ(want, got)                                                         \
    do {                                                                                   \
        const struct bytes want_ = (want);                                                 \
        const struct bytes got_ = (got);                                                   \
        if (!bytes_eq(want_, got_)) {                                                      \
            test_fail(__FILE__, __LINE__, "%s: want %s, got %s", #got, test_hex(want_, 0), \
                      test_hex(got_, 1));                                                  \
            return;                                                                        \
        }                                                                                  \
    } while (0)
#define EXPECT_HTS_EQ(want, got) EXPECT_TRUE(hts_eq((want), (got)))
#define EXPECT_CODE(want, expr)                                                              \
    do {                                                                                     \
        const struct status st_ = (expr);                                                    \
        if (st_.code != (want)) {                                                            \
            test_fail(__FILE__, __LINE__, "%s: want %s, got %s (%s)", #expr,                 \
                      status_code_text(want), status_code_text(st_.code), status_text(st_)); \
            return;                                                                          \
        }                                                                                    \
    } while (0)
#define EXPECT_OK(expr) EXPECT_CODE(STATUS_OK, expr)

/* Hex text of bytes in one of two static buffers (slot 0 or 1); for messages only. */
const char *test_hex(struct bytes b, int slot);
