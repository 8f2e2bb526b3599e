/*
 * session_fake.h -- a session that does what its statement says, for tests of the wire alone.
 *
 * It takes the place of node/sql/session at link time. Statements are words:
 *
 *     ""               empty
 *     rows N           N rows (int4, text): 1 'row 1', ...
 *     wide N           one row with a text of N bytes
 *     write            a write: its tag is held until the commit
 *     conflict N       the first N commits ask for another try; then SELECT 1 row
 *     error            42601 at byte 3
 *     notice           a notice, then SET
 *     sleep            waits until it is cancelled (57014)
 *     begin, commit    a block
 *     fatal            the session ends
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sql {
    uint32_t sessions; /* Live. */
    uint32_t created;
    uint32_t stops;     /* sql_stop() calls. */
    uint32_t cancelled; /* session_cancel() calls. */
    uint32_t size_max;  /* Of "rows N" and "wide N"; 0: none. For fuzzing. */
    char refuse_parameter[64];
};
