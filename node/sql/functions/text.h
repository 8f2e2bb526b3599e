/*
 * text.h -- string kernels, shared by func.def.
 *
 * Positions and lengths count characters, from 1, as in SQL. Results are views of the arguments where
 * possible, otherwise bytes in e->arena. Each answers false after eval_fail().
 */
#pragma once

#include "node/sql/functions/func.h"

#define TEXT_RESULT_MAX ((size_t)64 << 20) /* 54000 beyond. */

NOYIELD size_t utf8_clip(struct bytes s, size_t max); /* Whole characters within max bytes. */
NOYIELD bool text_concat(struct eval *e, struct bytes a, struct bytes b, struct bytes *out);
NOYIELD bool text_case(struct eval *e, struct bytes a, bool upper, struct bytes *out);
/* to_end: `count` does not matter. */
NOYIELD bool text_substr(struct eval *e, struct bytes s, int64_t from, int64_t count, bool to_end,
                         struct bytes *out);
NOYIELD struct bytes text_trim(struct bytes s, struct bytes set, bool left, bool right);
NOYIELD struct bytes text_left(struct bytes s, int64_t n);
NOYIELD struct bytes text_right(struct bytes s, int64_t n);
NOYIELD bool text_replace(struct eval *e, struct bytes s, struct bytes from, struct bytes to,
                          struct bytes *out);
NOYIELD int64_t text_position(struct bytes s, struct bytes part);
NOYIELD bool text_reverse(struct eval *e, struct bytes s, struct bytes *out);
NOYIELD bool text_repeat(struct eval *e, struct bytes s, int64_t times, struct bytes *out);
NOYIELD bool text_pad(struct eval *e, struct bytes s, int64_t width, struct bytes fill, bool left,
                      struct bytes *out);
NOYIELD bool text_split_part(struct eval *e, struct bytes s, struct bytes by, int64_t n,
                             struct bytes *out);
NOYIELD int64_t text_ascii(struct bytes s);
NOYIELD bool text_chr(struct eval *e, int64_t code, struct bytes *out);
NOYIELD bool text_hex(struct eval *e, uint64_t v, struct bytes *out);
NOYIELD bool text_quote_ident(struct eval *e, struct bytes s, struct bytes *out);
NOYIELD bool text_quote_literal(struct eval *e, struct bytes s, struct bytes *out);
/* LIKE with the escape character `\`. */
NOYIELD bool text_like(struct eval *e, struct bytes s, struct bytes pattern, bool any_case,
                       bool negated, int64_t *out);
/* Rewrites a pattern for another escape character to one for `\`. */
NOYIELD bool text_like_escape(struct eval *e, struct bytes pattern, struct bytes escape,
                              struct bytes *out);
