/*
 * desc_codec.h -- table descriptors as bytes.
 *
 * Layout (varints are LEB128, text is varint length + bytes):
 *
 *     format(1) = 1
 *     id  version  schema  name  flags           flags: 1 hidden rowid
 *     columns_count, per column:
 *         id  type  zigzag(typmod)  flags  name  [default text]     flags: 1 not null, 2 default
 *     primary index:
 *         id  flags  name  columns_count, per column: id flags      flags: 1 unique / 1 descending
 *
 * A reader refuses what it does not know (format, flag bits, trailing bytes) with STATUS_CORRUPT:
 * guessing at a schema is worse than stopping. New fields come with a new format number.
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "node/catalog/catalog.h"

#define DESC_FORMAT      1u
#define DESC_BYTES_MAX   ((size_t)1 << 20)
#define DESC_DEFAULT_MAX 8192u /* Bytes of one default expression. */

/* Are the parts consistent: names, ids, index columns? Errors: STATUS_INVALID. */
NOYIELD NODISCARD struct status desc_check(const struct table_desc *d);

/* Appends. Errors: STATUS_INVALID (desc_check), STATUS_MEMORY. */
NOYIELD NODISCARD struct status desc_encode(const struct table_desc *d, struct buf *out);

/* Everything in `out` lives in the arena; valid_until and refs are zero.
 * Errors: STATUS_CORRUPT, STATUS_MEMORY. */
NOYIELD NODISCARD struct status desc_decode(struct bytes in, struct arena *arena,
                                            struct table_desc *out);
