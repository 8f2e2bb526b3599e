/*
 * attributes.h -- marks that every prototype may carry.
 *
 * NOYIELD    never gives up the fiber. A NOYIELD function cannot call a MAYYIELD one (tests/lint).
 * MAYYIELD   may give up the fiber: after the call every fact read before it is stale.
 * NODISCARD  the result must be looked at.
 */
#pragma once

#define NOYIELD
#define MAYYIELD
#define NODISCARD               __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define UNUSED(x)               ((void)(x))
#define ARRAY_COUNT(a)          (sizeof(a) / sizeof((a)[0]))

/* The struct of `type` that embeds `ptr` as its field `field`. */
#define CONTAINER_OF(ptr, type, field) ((type *)(void *)((char *)(ptr)-offsetof(type, field)))
