/*
 * linear.h -- is there one order of operations on a register that explains all answers?
 *
 * Source: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe's memory of states
 * ("Testing for Linearizability", 2017). Operations of unknown outcome may take effect at any time
 * after their call, or never.
 */
#pragma once

#include <stddef.h>

#include "tests/sim/history.h"

enum linear_verdict {
    LINEAR_YES,
    LINEAR_NO,
    LINEAR_TOO_HARD, /* Gave up after LINEAR_STEPS_MAX. */
};

#define LINEAR_OPS_MAX   4096u
#define LINEAR_STEPS_MAX 4000000u

/* ops  Reads, writes and CAS of one register, none with the outcome OP_FAILED, by `called`. */
enum linear_verdict linear_check(const struct op *const *ops, size_t count);

/* The same by trying all orders: for tests of the above, at most 8 operations. */
bool linear_check_naive(const struct op *const *ops, size_t count);
