/* Events become one JSON line and never overrun their buffer. */
#include "node/base/log.h"
#include "tests/lib/test.h"

TEST(log, formats_fields_as_json)
{
    char out[256];
    const struct log_field f[] = {U64("range", 7), STR("why", "a \"b\""), NS("took", 1500000)};

    EXPECT_TRUE(log_format(out, sizeof(out), LOG_LEVEL_INFO, "lease.started", f, 3) < sizeof(out));
    EXPECT_STREQ(
        "\"level\":\"info\",\"event\":\"lease.started\",\"range\":7,\"why\":\"a \\\"b\\\"\","
        "\"took\":\"1.500ms\"",
        out);
}

TEST(log, cuts_long_lines)
{
    char out[32];
    const struct log_field f[] = {STR("k", "a very long text that does not fit into the buffer")};

    EXPECT_EQ(31, log_format(out, sizeof(out), LOG_LEVEL_WARN, "x.y", f, 1));
}
