/* Commas, nesting and escapes. */
#include "node/base/json.h"
#include "tests/lib/test.h"

TEST(json, writes_nested_values)
{
    struct buf b = {0};
    struct json j;

    json_begin(&j, &b);
    json_object(&j);
    json_kv_str(&j, "a", "x\"\n");
    json_key(&j, "b");
    json_array(&j);
    json_u64(&j, 1);
    json_i64(&j, -2);
    json_bool(&j, true);
    json_str(&j, NULL);
    json_array_end(&j);
    json_kv_u64(&j, "c", 3);
    json_object_end(&j);
    EXPECT_OK(json_end(&j));
    EXPECT_BYTES_EQ(BYTES_LIT("{\"a\":\"x\\\"\\u000a\",\"b\":[1,-2,true,null],\"c\":3}"),
                    buf_bytes(&b));
    buf_deinit(&b);
}

TEST(json, reports_a_full_buffer_at_the_end)
{
    struct buf b = {.limit = 4};
    struct json j;

    json_begin(&j, &b);
    json_object(&j);
    json_kv_str(&j, "key", "value");
    json_object_end(&j);
    EXPECT_CODE(STATUS_MEMORY, json_end(&j));
    buf_deinit(&b);
}
