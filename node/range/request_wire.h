/*
 * request_wire.h -- pieces of requests and results as protobuf messages, for request.c and request_txn.c.
 *
 * Encoding allocates in the arena and borrows bytes from its input; nothing (a zero timestamp, a zero
 * transaction) becomes NULL. Decoding checks everything. Errors: STATUS_MEMORY, STATUS_CORRUPT.
 */
#pragma once

#include "node/range/request.h"

NOYIELD NODISCARD struct status request__hts_to_pb(struct hts ts, struct arena *arena,
                                                   Dsql__Pb__Hts **out);
NOYIELD struct hts request__hts_from_pb(const Dsql__Pb__Hts *pb);

NOYIELD NODISCARD struct status request__txn_to_pb(const struct range_batch_txn *t,
                                                   struct arena *arena, Dsql__Pb__BatchTxn **out);
NOYIELD NODISCARD struct status request__txn_from_pb(const Dsql__Pb__BatchTxn *pb,
                                                     struct range_batch_txn *out);

NOYIELD NODISCARD struct status request__args_to_pb(const struct range_txn_args *a,
                                                    struct arena *arena, Dsql__Pb__TxnArgs **out);
NOYIELD NODISCARD struct status request__args_from_pb(const Dsql__Pb__TxnArgs *pb,
                                                      struct arena *arena,
                                                      const struct range_txn_args **out);

NOYIELD NODISCARD struct status request__info_to_pb(const struct range_txn_info *i,
                                                    struct arena *arena, Dsql__Pb__TxnInfo **out);
NOYIELD NODISCARD struct status request__info_from_pb(const Dsql__Pb__TxnInfo *pb,
                                                      struct arena *arena,
                                                      const struct range_txn_info **out);
