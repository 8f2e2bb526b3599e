/*
 * ranges.c -- see ranges.h.
 */
#include "tests/unit/range/ranges.h"

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"

struct bytes ranges_start(uint8_t *mem, uint32_t i)
{
    mem[0] = 0x90;
    be32_put(mem + 1, i);
    return bytes_of(mem, 5);
}

static void put_desc(struct engine *e, struct engine_batch *b, const struct range_desc *d,
                     struct mvcc_stats *stats)
{
    struct mvcc_reader reader;
    struct mvcc_writer w;
    struct mvcc_written written;
    struct mvcc_conflict conflict;
    struct buf value = {0};
    struct arena arena;
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct mvcc_write op = {.ts = hts_ms(1), .expect = MVCC_EXPECT_ABSENT};

    arena_init(&arena, 0);
    mvcc_reader_init(&reader, e, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&w, &reader, b, &arena);
    INVARIANT(status_ok(range_desc_encode(d, &value)));
    op.value = buf_bytes(&value);
    key_enc_init(&k, mem, sizeof(mem));
    key_enc_local(&k, d->start, KEY_LOCAL_DESCRIPTOR);
    INVARIANT(status_ok(key_enc_finish(&k, &op.key)));
    INVARIANT(status_ok(mvcc_put(&w, &op, &written, &conflict)));
    *stats = w.stats;
    mvcc_reader_deinit(&reader);
    buf_deinit(&value);
    arena_deinit(&arena);
}

static void put_records(struct engine_batch *b, const struct range_desc *d, uint32_t store,
                        const struct applied_state *a)
{
    struct replica fake = {.range = d->id, .id = d->replicas[store - 1].id};
    uint8_t mem[KEY_STACK_SIZE];
    struct buf v = {0};

    INVARIANT(status_ok(applied_state_encode(a, &v)));
    INVARIANT(status_ok(engine_batch_put(
        b, ENGINE_CF_STATE, key_range_record(mem, d->id, KEY_RANGE_APPLIED), buf_bytes(&v))));
    buf_clear(&v);
    INVARIANT(status_ok(replica__ident_encode(&fake, d->start, &v)));
    INVARIANT(status_ok(
        engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, d->id, KEY_RAFT_IDENT), buf_bytes(&v))));
    buf_clear(&v);
    INVARIANT(status_ok(buf_append_varint(&v, a->index)));
    INVARIANT(status_ok(buf_append_varint(&v, a->term)));
    INVARIANT(status_ok(engine_batch_put(b, ENGINE_CF_RAFT,
                                         key_raft(mem, d->id, KEY_RAFT_TRUNCATED), buf_bytes(&v))));
    buf_deinit(&v);
}

void ranges_write(struct engine *e, uint32_t store, uint32_t voters, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct applied_state a = {.index = RANGE_FIRST_INDEX,
                                  .term = RANGE_FIRST_TERM,
                                  .generation = 1,
                                  .addressed = true};
        struct range_desc d = {.id = RANGES_ID(i),
                               .replicas_count = voters,
                               .next_replica = voters + 1,
                               .generation = 1};
        uint8_t start[8];
        uint8_t end[8];
        struct engine_batch b;

        d.start = ranges_start(start, i);
        d.end = ranges_start(end, i + 1);
        for (uint32_t k = 0; k < voters; k++) {
            d.replicas[k] = (struct range_replica){{k + 1}, {k + 1}, {k + 1}, RANGE_VOTER};
        }
        engine_batch_init(&b);
        put_desc(e, &b, &d, &a.stats);
        put_records(&b, &d, store, &a);
        INVARIANT(status_ok(engine_write(e, &b, i + 1 == count)));
        engine_batch_deinit(&b);
    }
}
