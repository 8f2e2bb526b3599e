/*
 * key_internal.h -- shared by the files of the codec.
 */
#pragma once

#include "node/storage/key/key.h"

/* ASC tags of columns; a DESC column is the complement of all its bytes, tag included. */
#define TAG_NULL_LOW    0x01
#define TAG_NULL_HIGH   0xFE
#define TAG_FALSE       0x10
#define TAG_TRUE        0x11
#define TAG_INT_NEG     0x27 /* minus the number of bytes: 0x1F..0x27 */
#define TAG_INT_POS     0x28 /* plus the number of bytes: 0x28..0x30 */
#define TAG_FLOAT       0x31
#define TAG_NUM_NEG_INF 0x33
#define TAG_NUM_NEG     0x34
#define TAG_NUM_ZERO    0x35
#define TAG_NUM_POS     0x36
#define TAG_NUM_POS_INF 0x37
#define TAG_NUM_NAN     0x38
#define TAG_TEXT        0x40
#define TAG_BYTEA       0x41
#define TAG_COLLATED    0x42
#define TAG_SORT_KEY    0x43
#define TAG_UUID        0x50
#define TAG_INET        0x51
#define TAG_INTERVAL    0x52
#define TAG_TIMETZ      0x53
#define TAG_ENUM        0x54
#define TAG_ARRAY       0x60
#define TAG_MAX         0x60

#define ARRAY_END  0x01
#define ARRAY_ELEM 0x02
#define ARRAY_NULL 0x03

/* uvar: one byte UVAR_ZERO + v up to UVAR_SMALL_MAX, else UVAR_BYTES + n and n bytes. */
#define UVAR_ZERO      0x88
#define UVAR_SMALL_MAX 109
#define UVAR_BYTES     0xF5
/* Below UVAR_ZERO signed exponents continue downwards: SVAR_BYTES - n and n complemented bytes. */
#define SVAR_BYTES 0x87
#define SVAR_BIAS  54

#define ESC_BYTE 0x00
#define ESC_ZERO 0xFF
#define ESC_TERM 0x01

/* Room for n more bytes, or NULL with e->full set. */
NOYIELD uint8_t *key__grow(struct key_enc *e, size_t n);

/* Complements what was written since `mark` if the order is a descending one. */
NOYIELD void key__direct(struct key_enc *e, enum key_order o, size_t mark);

/* The least n with v < 256^n. */
static inline unsigned key__bytes_of(uint64_t v)
{
    return v == 0 ? 0 : (unsigned)(71 - __builtin_clzll(v)) / 8;
}

/* XOR mask of a direction. */
static inline uint8_t key__mask(enum key_order o)
{
    return (o & KEY_DESC) != 0 ? 0xFF : 0x00;
}

static inline uint8_t key__read(struct reader *r, uint8_t mask)
{
    return (uint8_t)(read_u8(r) ^ mask);
}

/* n big-endian bytes, n <= 8. */
NOYIELD uint64_t key__read_be(struct reader *r, uint8_t mask, unsigned n);

/* Finds the end of an escaped string: length without terminator, bytes after unescaping. */
NOYIELD bool key__escaped_extent(const struct reader *r, uint8_t mask, size_t *raw_len,
                                 size_t *plain_len);
/* arena NULL: only skips. */
NOYIELD struct bytes key__read_escaped(struct reader *r, uint8_t mask, struct arena *arena);
