/* Records of protected timestamps. */
#include "node/base/invariant.h"
#include "node/server/protected.h"
#include "tests/lib/test.h"

TEST(protected, records_come_back_and_damage_is_noticed)
{
    const struct key_span spans[] = {{BYTES_LIT("a"), BYTES_LIT("b")},
                                     {BYTES_LIT("x"), BYTES_LIT("y")}};
    const struct protected_record in = {.ts = {7, 8}, .spans = spans, .spans_count = 2};
    struct protected_record out;
    struct buf b = {0};
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_OK(protected_encode(&in, &b));
    EXPECT_OK(protected_decode(buf_bytes(&b), &arena, &out));
    EXPECT_TRUE(hts_eq(in.ts, out.ts));
    EXPECT_EQ(2, out.spans_count);
    EXPECT_TRUE(bytes_eq(spans[1].end, out.spans[1].end));
    for (size_t n = 0; n < b.len; n++) {
        EXPECT_CODE(STATUS_CORRUPT, protected_decode(bytes_of(b.ptr, n), &arena, &out));
    }
    b.ptr[0] = 9;
    EXPECT_CODE(STATUS_CORRUPT, protected_decode(buf_bytes(&b), &arena, &out));
    buf_deinit(&b);
    arena_deinit(&arena);
}
