/*
 * parallel.pml -- one transaction that commits in parallel over several ranges (node/docs/0007).
 *
 * Question: can anybody see a transaction committed that somebody else saw, or sees later, aborted, at
 * another timestamp, or in part? Can one commit whose reads no longer hold?
 *
 * Key 0 is the anchor: its intent and the record are written by one command of one range; or the
 * transaction has only locked it (ANCHOR_WRITTEN 0). Every other key has a range of its own. The
 * coordinator has sent everything at once, asking for timestamp ASK, which is also when the transaction
 * began and what it has read at. Everything after that is free: requests are late, lost or executed
 * again as replays; answers are lost; readers come at any key and timestamp; others push, abort and
 * recover at any time, for a transaction may look expired whenever one likes; the coordinator gives up
 * and recovers itself, or dies; the anchor's lease moves; what is decided is settled by anybody, in any
 * order.
 *
 * What is simplified, and why that hides nothing:
 *   - A request is evaluated and applied in one step: latches are held from one to the other, and what
 *     is proposed is in the log before the next lease starts or never.
 *   - A request that was sent may be executed at any time later, once; a replay any number of times.
 *     An answer arrives at once or never; a coordinator that has sent a replay takes no notice of what
 *     was sent before.
 *   - Knowledge of an outcome is never forgotten, and whoever has it may settle any intent, late.
 *   - A change of lease at another range than the anchor's raises what was read there, as a reader does.
 *   - Readers do not tell what they saw: a reader that missed the transaction's value is remembered.
 *
 * Ghost variables (decided, missed, over) are never read by the protocol.
 *
 * Properties, checked after every step:
 *   P1  the transaction is decided at most once: implicitly (STAGING, and every key listed has its
 *       intent at or below), or by a COMMITTED record; at one timestamp; and never ABORTED after;
 *   P2  who is told "committed" or sees it so, the client or anybody, is told that timestamp, truly;
 *       who is told "aborted" is told so of a transaction that never commits;
 *   P3  once it is decided, every key has its intent at or below, or its version at, that timestamp;
 *   P4  nobody has read a key at or above that timestamp without seeing it;
 *   P5  nothing that it has read was written between there and its commit.
 *
 * -DBUG_x leaves one rule out; each must then be caught. -DSEEK_x asserts that something desirable
 * never happens, and must be refuted: it shows that the good model does not just stand still.
 */

/* run.py gives the bounds: KEYS, TS_MAX, READS, LEASES, RECOVERERS, HEARTBEAT, LARGE, INSERT,
 * ANCHOR_WRITTEN. */
#define ASK 1

/* The record; NONE is also "pending" or "over". */
#define NONE 0
#define PENDING 1
#define STAGING 2
#define COMMITTED 3
#define ABORTED 4
byte rec;
byte rec_ts;

/* Memory of the anchor's leaseholder; lost with the lease, which leaves the floor. */
bit finished;
byte pushed;
byte marker_floor;

/* The keys. */
byte intent[KEYS];  /* Timestamp of the intent; 0: none. */
byte version[KEYS]; /* Of the transaction's committed value; 0: none. */
byte read[KEYS];    /* Timestamp cache and floors. */
bit row = INSERT;   /* Key 1: an insert meets a row. */

/* What the transaction has read. */
byte other_write;         /* Timestamp of somebody's write to it; 0: none. */
byte other_read = ASK;    /* Its timestamp cache. */

/* The network: requests that were sent. */
bit write_sent[KEYS];    /* Until executed. */
bit replay_sent[KEYS];   /* For ever. */
bit stage_sent[TS_MAX + 1];
bit stage_replay_sent[TS_MAX + 1];
bit heartbeat_sent = HEARTBEAT;

/* The coordinator. */
#define RUNNING 0
#define RECOVERING 1 /* Itself. */
#define ENDED 2
#define DEAD 3
byte state;
byte ask = ASK;     /* At which it stages, or has staged. */
byte laid[KEYS];    /* Where its intents stand, by the answers; 0: no answer. */
byte answer;        /* Of the record, see above; NONE: not yet, or only where it must go: */
byte answer_ts;
bit early = LARGE;  /* The record is not to be written yet. */
byte told;          /* COMMITTED or ABORTED. */
byte told_ts;
bit refresh_due;    /* Only in a broken variant. */

/* Who recovers: number 0 is the coordinator itself. */
byte step_of[RECOVERERS + 1]; /* 0: idle; 1 ..: which key comes next; KEYS: the record. */
byte attempt[RECOVERERS + 1];
bit missing[RECOVERERS + 1];

/* What somebody knows, and may act on. */
byte seen_committed;     /* Timestamp. */
bit seen_aborted;
bit seen_over;           /* Taken as aborted: after it was over. */
bit seen_pushed[TS_MAX + 1];

/* Ghosts. */
byte decided;
bit over;                /* Committed, settled, and the record is gone. */
byte missed[KEYS];

byte leases_left = LEASES;

hidden byte i, value;

#define MAX(p, q) ((p) > (q) -> (p) : (q))
#define OVER_BY_MARKERS (finished || ASK <= marker_floor)

inline check()
{
    value = 1;
    for (i : 1 .. KEYS - 1) {
        value = value && intent[i] != 0 && intent[i] <= rec_ts;
    }
    if
    :: decided == 0 && (rec == COMMITTED || (rec == STAGING && value)) -> decided = rec_ts;
    :: else
    fi;
    if
    :: decided != 0 ->
        assert(rec != ABORTED && rec != PENDING);
        assert(rec == NONE || rec_ts == decided);                         /* P1 */
        assert(!seen_aborted && told != ABORTED);                         /* P2 */
        for (i : 1 - ANCHOR_WRITTEN .. KEYS - 1) {
            assert((intent[i] != 0 && intent[i] <= decided) || version[i] == decided); /* P3 */
            assert(missed[i] < decided);                                  /* P4 */
        }
        assert(!READS || other_write == 0 || other_write > decided);      /* P5 */
    :: else
    fi;
    assert(told != COMMITTED || told_ts == decided);                      /* P2 */
    assert(seen_committed == 0 || seen_committed == decided);
    value = 0;
}

/* ------------------------------------------------------------------ writes, at their ranges */

/* Above what was read, and above our own version, if we are too late. */
#define LAND(k) MAX(MAX(ASK, read[k] + 1), (version[k] == 0 -> 0 : version[k] + 1))
#define CAN_LAND(k) (intent[k] != 0 || LAND(k) <= TS_MAX)

inline lay(k)
{
    if
    :: intent[k] == 0 -> intent[k] = LAND(k);
    :: else
    fi;
}

/* May a replay be executed, and answered? */
#ifdef BUG_REPLAY_GOES_HIGHER
#define REPLAY_LANDS(k) CAN_LAND(k)
#define REPLAY_GOOD(k) CAN_LAND(k)
#else
#define REPLAY_LANDS(k) (intent[k] == 0 && LAND(k) == ASK)
#ifdef BUG_REPLAY_TRUSTS_A_HIGHER_INTENT
#define REPLAY_GOOD(k) (intent[k] != 0 || LAND(k) == ASK)
#else
#define REPLAY_GOOD(k) ((intent[k] != 0 && intent[k] <= ASK) || (intent[k] == 0 && LAND(k) == ASK))
#endif
#endif

#define MEETS_ROW(k) ((k) == 1 && row && intent[k] == 0)

/* An insert that met a row has read it: nobody deletes it below, so that the insert, executed again,
 * could still succeed there after the client was told that it had not. */
inline refuse_insert()
{
#ifdef BUG_FAILED_INSERT_IS_NO_READ
    skip;
#else
    read[1] = MAX(read[1], ASK);
#endif
}

/* Who deletes the row does so below ASK when nobody is known to have read it there. */
inline delete_row()
{
    row = 0;
    if
    :: read[1] >= ASK -> read[1]++;
    :: else
    fi;
}

/* ------------------------------------------------------------------ the record */

/* Lowest timestamp at which the record may be staged. */
inline lowest(t)
{
    value = t;
#ifndef BUG_IGNORES_PUSH_MARKER
    value = MAX(value, pushed + 1);
#endif
#ifndef BUG_FORGOTTEN_PUSH
    if
    :: rec == PENDING -> value = MAX(value, marker_floor + 1);
    :: else
    fi;
#endif
#ifndef BUG_ANCHOR_ABOVE_RECORD
    if
    :: ANCHOR_WRITTEN && intent[0] == 0 -> value = MAX(value, read[0] + 1);
    :: else
    fi;
#endif
}

#ifdef BUG_IGNORES_FINISHED
#define MAY_CREATE (ASK > marker_floor)
#else
#ifdef BUG_IGNORES_MARKER_FLOOR
#define MAY_CREATE (!finished)
#else
#define MAY_CREATE (!OVER_BY_MARKERS)
#endif
#endif

inline write_record(t)
{
    rec = (LARGE -> COMMITTED : STAGING);
    rec_ts = value;
    if
    :: ANCHOR_WRITTEN && intent[0] == 0 -> intent[0] = MAX(t, read[0] + 1);
    :: else
    fi;
}

/* END_TXN with the anchor's intents. Leaves what it answers in `i`, the timestamp in `value`; NONE with a
 * timestamp: nothing was written, come back above it. */
inline stage(t, is_replay)
{
    if
#ifdef BUG_STAGES_OVER_ABORTED
    :: rec == ABORTED -> rec = STAGING; rec_ts = t; i = rec; value = rec_ts;
#else
    :: rec == ABORTED -> i = rec; value = 0;
#endif
    :: rec == COMMITTED -> i = rec; value = rec_ts;
    :: rec == STAGING ->
#ifdef BUG_STAGES_DOWN
        rec_ts = t;
#else
        rec_ts = MAX(rec_ts, t);
#endif
        i = rec;
        value = rec_ts;
    :: rec == NONE && !MAY_CREATE -> i = ABORTED; value = 0;
    :: else ->
        lowest(t);
        if
        :: value > TS_MAX -> i = NONE; value = 0;
#ifdef BUG_STAGES_ABOVE_READS
        :: value <= TS_MAX && (value == t || !is_replay) ->
#else
        :: value <= TS_MAX && (value == t || (!READS && !is_replay)) ->
#endif
            write_record(t);
            i = rec;
        :: else -> i = NONE; value = (is_replay -> 0 : value);
        fi
    fi;
}

inline stage_answered()
{
    answer = i;
    answer_ts = value;
    check();
}

/* Of one who wants the transaction gone, and may have it: it has expired. */
inline push_abort(me)
{
    if
    :: rec == COMMITTED -> learn(me, COMMITTED, rec_ts);
    :: rec == PENDING || rec == STAGING -> rec = ABORTED; finished = 1; learn(me, ABORTED, 0);
    :: rec == NONE || rec == ABORTED ->
#ifdef BUG_ABORTS_WITHOUT_MARKER
        finished = finished || rec == ABORTED;
#else
        finished = 1;
#endif
        learn(me, ABORTED, 0);
    fi;
}

inline learn(me, outcome, ts)
{
    if
    :: outcome == COMMITTED -> seen_committed = ts;
    :: outcome == ABORTED && over -> seen_over = 1;
    :: outcome == ABORTED && !over -> seen_aborted = 1;
    fi;
    if
    :: me == 0 -> told = outcome; told_ts = ts; state = ENDED;
    :: else
    fi;
    step_of[me] = 0;
    attempt[me] = 0;
    missing[me] = 0;
    check();
}

/* ------------------------------------------------------------------ recovery */

/* Recoverers take the keys in different orders. */
#define KEY_OF(me) ((me) % 2 == 0 -> step_of[me] : KEYS - step_of[me])
#define MAY_RECOVER(me) ((me) > 0 || state == RECOVERING)

inline query(me)
{
    value = KEY_OF(me);
    if
    :: intent[value] != 0 && intent[value] <= attempt[me] -> step_of[me]++;
    :: else ->
#ifndef BUG_NO_PREVENTION
        read[value] = MAX(read[value], attempt[me]);
#endif
        missing[me] = 1;
        step_of[me] = KEYS;
    fi;
    check();
}

#ifdef BUG_RECOVERS_ANY_TIMESTAMP
#define SAME_ATTEMPT(me) true
#else
#define SAME_ATTEMPT(me) (rec_ts == attempt[me])
#endif

inline recover(me)
{
    if
    :: rec == STAGING && SAME_ATTEMPT(me) ->
        rec = (missing[me] -> ABORTED : COMMITTED);
        if
        :: rec == ABORTED -> learn(me, ABORTED, 0);
        :: else -> learn(me, COMMITTED, rec_ts);
        fi;
    :: rec == COMMITTED -> learn(me, COMMITTED, rec_ts);
    :: rec == ABORTED -> learn(me, ABORTED, 0);
    :: rec == NONE -> assert(OVER_BY_MARKERS); learn(me, ABORTED, 0);
    :: else -> step_of[me] = 0; attempt[me] = 0; missing[me] = 0; /* It has moved on: look again. */
    fi;
}

#ifdef BUG_ABORTS_WITHOUT_RECOVERY
#define MAY_PUSH_ABORT true
#else
#define MAY_PUSH_ABORT (rec != STAGING)
#endif

proctype recoverer(byte me)
{
end:
    do
    :: d_step { step_of[me] == 0 && MAY_RECOVER(me) && MAY_PUSH_ABORT &&
        (me == 0 || !(seen_aborted || seen_over) || seen_committed == 0) -> push_abort(me); skip }
    :: d_step { step_of[me] == 0 && MAY_RECOVER(me) && rec == STAGING ->
        attempt[me] = rec_ts;
        step_of[me] = 1; skip }
    :: d_step { step_of[me] > 0 && step_of[me] < KEYS && MAY_RECOVER(me) -> query(me); skip }
    :: d_step { step_of[me] == KEYS && MAY_RECOVER(me) -> recover(me); skip }
    od
}

/* ------------------------------------------------------------------ the coordinator */

inline tell(outcome, ts)
{
    told = outcome;
    told_ts = ts;
    state = ENDED;
    check();
}

#ifdef BUG_COMMITS_WITHOUT_ALL_INTENTS
#define ALL_LAID(k) ((k) == KEYS - 1 || laid[k] != 0)
#else
#define ALL_LAID(k) (laid[k] != 0)
#endif
#if KEYS == 2
#define LAID ALL_LAID(1)
#define HIGHEST laid[1]
#else
#define LAID (ALL_LAID(1) && ALL_LAID(2))
#define HIGHEST MAX(laid[1], laid[2])
#endif

/* Everything is answered, but it must go higher. */
#define MUST_GO MAX(HIGHEST, answer_ts)
#define STALE(t) (READS && other_write != 0 && other_write <= (t))

inline restage(t)
{
    ask = t;
    answer = NONE;
    answer_ts = 0;
    early = 0;
    stage_sent[t] = 1;
    check();
}

inline refresh_and_stage()
{
    value = MUST_GO;
#ifdef BUG_NO_REFRESH
    restage(value);
#else
#ifdef BUG_REFRESHES_MEANWHILE
    refresh_due = 1;
    restage(value);
#else
    if
    :: STALE(value) -> tell(ABORTED, 0);
    :: else -> other_read = MAX(other_read, value); restage(value);
    fi;
#endif
#endif
}

#ifdef BUG_IGNORES_WHERE_INTENTS_LANDED
#define GOOD_ENOUGH true
#else
#define GOOD_ENOUGH (HIGHEST <= answer_ts)
#endif

proctype coordinator()
{
end:
    do
    :: d_step { state == RUNNING && LAID && answer == STAGING && GOOD_ENOUGH && !refresh_due ->
        tell(COMMITTED, answer_ts); skip }
    :: d_step { state == RUNNING && LAID && answer == STAGING && HIGHEST > answer_ts ->
        refresh_and_stage(); skip }
    :: d_step { state == RUNNING && LAID && answer == NONE && answer_ts != 0 ->
        refresh_and_stage(); skip }
    :: d_step { state == RUNNING && LAID && early -> refresh_and_stage(); skip }
    :: d_step { state == RUNNING && answer == COMMITTED -> tell(COMMITTED, answer_ts); skip }
    :: d_step { state == RUNNING && answer == ABORTED -> tell(ABORTED, 0); skip }
#ifdef BUG_REFRESHES_MEANWHILE
    :: d_step { state == RUNNING && refresh_due && STALE(ask) -> tell(ABORTED, 0); skip }
    :: d_step { state == RUNNING && refresh_due && !STALE(ask) ->
        refresh_due = 0; other_read = MAX(other_read, ask); skip }
#endif
    :: d_step { state == RUNNING && !early && answer == NONE && answer_ts == 0 &&
        !stage_replay_sent[ask] -> stage_replay_sent[ask] = 1; skip }
    :: d_step { state == RUNNING -> state = RECOVERING; skip }
    :: d_step { state != DEAD -> state = DEAD; skip }
    od
}

/* ------------------------------------------------------------------ everybody else */

/* A write of key k is executed. */
#define WRITES(k)                                                                                  \
    :: d_step { write_sent[k] && !MEETS_ROW(k) && CAN_LAND(k) ->                                   \
        write_sent[k] = 0; lay(k); check(); skip }                                                 \
    :: d_step { write_sent[k] && !MEETS_ROW(k) && CAN_LAND(k) && state == RUNNING &&               \
        !replay_sent[k] -> write_sent[k] = 0; lay(k); laid[k] = intent[k]; check(); skip }         \
    :: d_step { write_sent[k] && MEETS_ROW(k) ->                                                   \
        write_sent[k] = 0; refuse_insert(); check(); skip }                                        \
    :: d_step { write_sent[k] && MEETS_ROW(k) && state == RUNNING && !replay_sent[k] ->            \
        write_sent[k] = 0; refuse_insert(); tell(ABORTED, 0); skip }                               \
    :: d_step { state == RUNNING && laid[k] == 0 && !replay_sent[k] -> replay_sent[k] = 1; skip }  \
    :: d_step { replay_sent[k] && !MEETS_ROW(k) && REPLAY_LANDS(k) -> lay(k); check(); skip }      \
    :: d_step { replay_sent[k] && !MEETS_ROW(k) && REPLAY_GOOD(k) && state == RUNNING &&           \
        laid[k] == 0 -> lay(k); laid[k] = intent[k]; check(); skip }                               \
    :: d_step { replay_sent[k] && MEETS_ROW(k) && state == RUNNING ->                              \
        refuse_insert(); tell(ABORTED, 0); skip }

/* The record's command is executed. */
#define STAGES(t)                                                                                  \
    :: d_step { stage_sent[t] -> stage_sent[t] = 0; stage(t, 0); check(); skip }              \
    :: d_step { stage_sent[t] && state == RUNNING && ask == t && !stage_replay_sent[t] ->          \
        stage_sent[t] = 0; stage(t, 0); stage_answered(); skip }                                  \
    :: d_step { stage_replay_sent[t] -> stage(t, 1); check(); skip }                          \
    :: d_step { stage_replay_sent[t] && state == RUNNING && ask == t && answer == NONE ->          \
        stage(t, 1); stage_answered(); skip }

/* A reader at r, of a key whose intent is not below it; what it does about one that is. */
#define CAN_PUSH (rec == PENDING || (rec == NONE && !OVER_BY_MARKERS))
#ifdef BUG_MOVES_HIGHER_THAN_PUSHED
#define MOVED(r) TS_MAX
#else
#define MOVED(r) ((r) + 1)
#endif
#define READERS(k, r)                                                                              \
    :: d_step { !(intent[k] != 0 && intent[k] <= r) && (version[k] == 0 || version[k] > r) &&      \
        missed[k] < r -> missed[k] = r; read[k] = MAX(read[k], r); check(); skip }                 \
    :: d_step { intent[k] != 0 && intent[k] <= r && CAN_PUSH && pushed < r ->                      \
        pushed = r; seen_pushed[r] = 1; check(); skip }                                            \
    :: d_step { seen_pushed[r] && intent[k] != 0 && intent[k] <= r ->                              \
        intent[k] = MOVED(r); check(); skip }

#ifdef BUG_SETTLES_BEFORE_RECORD
#define COMMIT_KNOWN (seen_committed != 0 || told == COMMITTED)
#else
#define COMMIT_KNOWN (seen_committed != 0)
#endif
#define SETTLES(k)                                                                                 \
    :: d_step { COMMIT_KNOWN && intent[k] != 0 ->                                                  \
        version[k] = decided; intent[k] = 0; check(); skip }                                       \
    :: d_step { (seen_aborted || seen_over) && intent[k] != 0 -> intent[k] = 0; check(); skip }

#define KEY_SETTLED(k) (version[k] != 0 && intent[k] == 0)
#define SETTLED                                                                                    \
    ((!ANCHOR_WRITTEN || KEY_SETTLED(0)) && KEY_SETTLED(1) && KEY_SETTLED(KEYS - 1))
#ifdef BUG_DELETES_BEFORE_SETTLED
#define MAY_DELETE (state == ENDED || state == DEAD)
#else
#ifdef BUG_DELETES_BEHIND_THE_COORDINATOR
#define MAY_DELETE SETTLED
#else
#define MAY_DELETE (SETTLED && (state == ENDED || state == DEAD))
#endif
#endif

inline lease_moves()
{
    leases_left--;
#ifdef BUG_LEASE_START_COVERS_READS_ONLY
    marker_floor = MAX(marker_floor, read[0]);
#else
    marker_floor = MAX(MAX(marker_floor, ASK), MAX(read[0], pushed));
#endif
    read[0] = MAX(read[0], marker_floor);
    finished = 0;
    pushed = 0;
    check();
}

proctype others()
{
end:
    do
    WRITES(1)
#if KEYS > 2
    WRITES(2)
#endif
    STAGES(1)
    STAGES(2)
#if TS_MAX > 2
    STAGES(3)
#endif
#if TS_MAX > 3
    STAGES(4)
#endif
    READERS(1, 1)
#if TS_MAX > 2
    READERS(1, 2)
#endif
#if ANCHOR_WRITTEN
    READERS(0, 1)
#if TS_MAX > 2
    READERS(0, 2)
#endif
    SETTLES(0)
#endif
#if KEYS > 2
    READERS(2, 1)
#if TS_MAX > 2
    READERS(2, 2)
#endif
    SETTLES(2)
#endif
    SETTLES(1)
    :: d_step { row -> delete_row(); check(); skip }
    :: d_step { heartbeat_sent && rec == NONE && MAY_CREATE -> rec = PENDING; check(); skip }
    /* Behind the commit: the record first. */
    :: d_step { told == COMMITTED && rec == STAGING ->
        rec = COMMITTED; seen_committed = rec_ts; check(); skip }
    :: d_step { told == COMMITTED && rec == COMMITTED && seen_committed == 0 ->
        seen_committed = rec_ts; check(); skip }
    :: d_step { told == COMMITTED && rec == NONE && MAY_CREATE ->
        rec = COMMITTED; rec_ts = told_ts; over = 0; check(); skip }
    /* Behind an abort. */
    :: d_step { told == ABORTED && (rec == PENDING || rec == STAGING) ->
        rec = ABORTED; finished = 1; seen_aborted = 1; check(); skip }
    :: d_step { told == ABORTED && rec == NONE && !finished ->
        finished = 1; seen_aborted = 1; check(); skip }
    :: d_step { rec == COMMITTED && MAY_DELETE ->
        rec = NONE; rec_ts = 0; finished = 1; over = 1; check(); skip }
    :: d_step { rec == ABORTED -> rec = NONE; rec_ts = 0; finished = 1; check(); skip }
    :: d_step { leases_left > 0 -> lease_moves(); skip }
    /* Somebody writes what the transaction has read. */
#if READS
    :: d_step { other_write == 0 && other_read + 1 <= TS_MAX -> other_write = other_read + 1; check(); skip }
    :: d_step { other_write == 0 && other_read + 2 <= TS_MAX -> other_write = other_read + 2; check(); skip }
#endif
    od
}

/* Things that must be possible: the search has to refute that they never happen. */
active proctype monitor()
{
end:
    do
#ifdef SEEK_COMMIT_IN_ONE_ROUND
    :: d_step { told == COMMITTED && told_ts == ASK && ask == ASK -> assert(false) }
#endif
#ifdef SEEK_COMMIT_AFTER_A_PUSH
    :: d_step { told == COMMITTED && told_ts > ASK && answer == STAGING -> assert(false) }
#endif
#ifdef SEEK_STAGED_HIGHER_AT_ONCE
    :: d_step { told == COMMITTED && answer == STAGING && ask == ASK && told_ts > ASK -> assert(false) }
#endif
#ifdef SEEK_DEAD_BUT_COMMITTED
    :: d_step { state == DEAD && told == 0 && over -> assert(false) }
#endif
#ifdef SEEK_DEAD_AND_ABORTED
    :: d_step { state == DEAD && told == 0 && rec == ABORTED && seen_aborted -> assert(false) }
#endif
#ifdef SEEK_RECOVERS_ITSELF_AS_COMMITTED
    :: d_step { told == COMMITTED && seen_committed != 0 && answer == NONE -> assert(false) }
#endif
#ifdef SEEK_RECOVERY_OVERTAKEN
    /* A key was prevented, and the transaction committed higher up. */
    :: d_step {
        missing[1] && step_of[1] == KEYS && told == COMMITTED && told_ts > attempt[1] ->
        assert(false) }
#endif
#ifdef SEEK_ORPHAN
    /* A late write leaves an intent behind a transaction that is over, and it goes away. */
    :: d_step { over && write_sent[1] == 0 && intent[1] > decided && seen_over -> assert(false) }
#endif
#ifdef SEEK_COMMIT_AFTER_LEASE_MOVED
    :: d_step {
        told == COMMITTED && answer == STAGING && marker_floor > 0 && decided > marker_floor ->
        assert(false) }
#endif
#ifdef SEEK_LARGE_COMMIT
    :: d_step { told == COMMITTED && told_ts > ASK && over -> assert(false) }
#endif
#ifdef SEEK_INSERT_AFTER_DELETE
    :: d_step { told == COMMITTED && row == 0 -> assert(false) }
#endif
    :: false
    od
}

init
{
    atomic {
        for (i : 1 .. KEYS - 1) {
            write_sent[i] = 1;
        }
        if
        :: !LARGE -> stage_sent[ASK] = 1;
        :: else
        fi;
        i = 0;
        run coordinator();
        run others();
        run recoverer(0);
#if RECOVERERS > 0
        run recoverer(1);
#endif
#if RECOVERERS > 1
        run recoverer(2);
#endif
    }
}
