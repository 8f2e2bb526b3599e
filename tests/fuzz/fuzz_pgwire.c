/*
 * fuzz_pgwire.c -- arbitrary bytes into a connection, over sockets in memory.
 *
 * First byte: bit 0 logs in before the rest is said, bits 1..7 give the size of the pieces in which
 * the rest arrives (0: all at once). The session is the one made of words of the unit tests; what is
 * tested is everything in front of it. Whatever was said, the connection ends when the client goes,
 * and nothing is left behind (LeakSanitizer, and the invariants of wire_test_destroy()).
 */
#include "node/base/invariant.h"
#include "tests/unit/pgwire/wire_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_test *t = NULL;
    struct wire_client *c = NULL;
    size_t piece = 0;

    if (size < 2) {
        return 0;
    }
    t = wire_test_create(NULL);
    t->sql.size_max = 1000;
    c = wire_client_connect(t);
    if ((data[0] & 1) != 0) {
        wire_client_login(c);
    }
    piece = data[0] >> 1 == 0 ? size : data[0] >> 1;
    for (size_t at = 1; at < size && c->stream != NULL; at += piece) {
        const size_t n = size - at < piece ? size - at : piece;
        const struct status st =
            env_stream_write(shard_env(t->client_shard), c->stream, bytes_of(data + at, n));

        INVARIANT(status_ok(st));
        fake_world_settle(t->world);
    }
    wire_client_destroy(c);
    INVARIANT(pgwire_connections(t->server) == 0);
    wire_test_destroy(t);
    return 0;
}
