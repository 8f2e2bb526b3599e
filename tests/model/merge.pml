/*
 * merge.pml -- merging and splitting ranges, and the index that follows (node/docs/0006).
 *
 * Question: can two ranges serve one key? Is there a key that the index does not lead to?
 *
 * There are three spans, [a,k), [k,m) and [m,b). LEFT holds the first two at the beginning and RIGHT the
 * last one, on the same three stores. LEFT may absorb RIGHT; it may be split at m when it has (NEW is what
 * then stands to the right), or at k when it has not (MIDDLE). Leaders are lost at any time and elected on
 * any store that still has a replica; whoever merges dies at any point and somebody tries again; stores
 * apply the logs in their own time; the index is written by leaders, and by late ones.
 *
 * What is simplified, and why that hides nothing:
 *   - A log is known by its effects. One change of a range at a time is under way; when its leader is lost
 *     first the change is committed by the next one, or gone. Leaders act upon everything before them.
 *   - Leases of one range are disjoint, and the next starts above what the last one may have served
 *     (`until`): lease.pml. Up to there all is read at once: the worst case.
 *   - What a store has applied stays: FREEZE is answered for when it is durable.
 *   - RIGHT elects and commits with two of three replicas; that its peers have gone is found out by
 *     nobody. MIDDLE and NEW have a leader from the moment that LEFT's has applied the split.
 *   - NEW and MIDDLE do not change again. Each is like LEFT or RIGHT at the beginning.
 *   - A write to the index is conditional on what was read before, and atomic.
 *
 * Properties, after every step:
 *   P1  at most one range serves a span;
 *   P2  who serves a span writes above all that was read there before, by anybody;
 *   P3  a store's LEFT takes over its RIGHT in the final state: frozen, everything applied;
 *   P4  the first entry of the index above a key is a descriptor that covers the key, of the range that
 *       holds it or of one whose next change gave it away;
 *   and when nothing is left to be done
 *   P5  nothing is frozen, everything is addressed, and the index says how things are.
 *
 * -DBUG_x leaves one rule out; each must then be caught. -DSEEK_x asserts that something desirable
 * never happens, and must be refuted: it shows that the good model does not just stand still.
 */

/* run.py gives the bounds: ATTEMPTS, LOSSES, SPLITS, READS, RIGHT_GENERATION, WRITERS. */
#define STORES 3

#define NOBODY 0
#define LEFT 1
#define RIGHT 2
#define NEW 3
#define MIDDLE 4
#define RANGES 5

/* Ends of spans, keys of the index; AT_A is where everything begins. */
#define AT_A 0
#define AT_K 1
#define AT_M 2
#define AT_B 3

/* Replicated state of ranges, as their leaders have it; 0: not there. */
byte generation[RANGES];
byte start[RANGES];
byte end_of[RANGES];
bit unaddressed[RANGES];

/* Changes under way. */
#define NONE 0
#define MERGE 1
#define CANCEL 2
#define SPLIT_M 3
#define SPLIT_K 4
#define FREEZE 5
#define UNFREEZE 6
byte left_change;
byte right_change;

bit frozen;              /* RIGHT, by its log. */
byte frozen_for;         /* LEFT's generation in FREEZE, present or under way. */
byte freeze_ts;
byte right_log = 1;      /* Entries. */
bit absorbed;            /* MERGE is in LEFT's log. */
bit merged_at[STORES];   /* Applied: RIGHT's replica is gone there. */
byte right_at[STORES] = 1; /* Applied entries of RIGHT. */

/* Leaders. `until` is what the lease may have served; `low` above what it writes. */
bit up[RANGES];
byte place[RANGES];      /* Store. */
byte low[RANGES];
byte until[RANGES];
bit freezing;            /* RIGHT's leader has appended FREEZE: it serves no more. */

/* Who merges, at LEFT's leader. */
#define IDLE 0
#define WAITS 1          /* FREEZE is on its way to all stores. */
#define READY 2
byte merging;
byte merging_for;        /* LEFT's generation when it began. */

bit refused[12];         /* LEFT's leader has said: no MERGE of that generation any more. */

/* The index: under the end of a range. */
byte index_range[4];
byte index_generation[4];
byte index_start[4];

/* Who writes to it: a leader, perhaps one who has been replaced. */
byte writer_step[WRITERS];
byte writer_range[WRITERS];
byte writer_generation[WRITERS];
byte writer_start[WRITERS];
byte writer_end[WRITERS];
byte writer_saw[WRITERS]; /* Generation of the entry that it is about to overwrite. */

/* Ghosts. */
byte read_m;             /* Highest timestamp read in [m,b). */
bit was_unfrozen;

byte attempts_left = ATTEMPTS;
byte losses_left = LOSSES;
byte splits_left = SPLITS;

hidden byte i, value, owner;

#define MAX(p, q) ((p) > (q) -> (p) : (q))
#define REMOVED (merged_at[0] + merged_at[1] + merged_at[2])
#define RIGHT_HAS_QUORUM (REMOVED <= 1)

#ifdef BUG_SERVES_UNTIL_FROZEN
#define RIGHT_STOPPED frozen
#else
#ifdef BUG_FREEZE_IS_NOT_INHERITED
#define RIGHT_STOPPED freezing
#else
#define RIGHT_STOPPED (frozen || freezing)
#endif
#endif
#define RIGHT_SERVES (up[RIGHT] && !RIGHT_STOPPED)
#define LEFT_SERVES_M (up[LEFT] && end_of[LEFT] == AT_B)
#define NEW_SERVES up[NEW]

/* ------------------------------------------------------------------ properties */

/* Of a key below `first` and not below the entry before it: who is named, and does it cover? */
inline lookup(first, key_start)
{
    value = first;
    do
    :: value < AT_B && index_range[value] == NOBODY -> value++;
    :: else -> break;
    od;
    assert(index_range[value] != NOBODY && index_start[value] <= key_start);
    value = index_range[value];
}

inline check_index()
{
    lookup(AT_K, AT_A);
    assert(value == LEFT);
    lookup(AT_M, AT_K);
    assert(value == LEFT || value == MIDDLE && generation[MIDDLE] != 0);
    lookup(AT_B, AT_M);
    owner = (generation[NEW] != 0 -> NEW : (absorbed -> LEFT : RIGHT));
    assert(value == owner || (value == RIGHT && owner == LEFT) || (value == LEFT && owner == NEW));
    value = 0;
    owner = 0;
}

inline check()
{
    assert(RIGHT_SERVES + LEFT_SERVES_M + NEW_SERVES <= 1);                       /* P1 */
    assert(!RIGHT_SERVES || low[RIGHT] >= read_m);                               /* P2 */
    assert(!LEFT_SERVES_M || low[LEFT] >= read_m);
    assert(!NEW_SERVES || low[NEW] >= read_m);
    check_index();                                                               /* P4 */
}

/* ------------------------------------------------------------------ stores */

/* LEFT's replica of store s takes over RIGHT's. */
inline take_over(s)
{
    assert(frozen && right_at[s] == right_log);                                  /* P3 */
    merged_at[s] = 1;
    if
    :: up[RIGHT] && place[RIGHT] == s -> up[RIGHT] = 0; freezing = 0;
    :: else
    fi;
}

/* ------------------------------------------------------------------ LEFT's log */

inline split(right, at_key, right_end)
{
    generation[LEFT]++;
    generation[right] = generation[LEFT];
    start[right] = at_key;
    end_of[right] = right_end;
    end_of[LEFT] = at_key;
    unaddressed[LEFT] = 1;
    unaddressed[right] = 1;
    up[right] = 1;
    until[right] = until[LEFT];
#ifndef BUG_SPLIT_FORGETS_READS
    low[right] = low[LEFT];
#endif
}

#ifdef BUG_MERGE_RAISES_ONLY_LEFT
#define MERGED_GENERATION (generation[LEFT] + 1)
#else
#define MERGED_GENERATION (MAX(generation[LEFT], generation[RIGHT]) + 1)
#endif

/* The change under way is committed, and applied by the leader. */
inline left_commits()
{
    if
    :: left_change == MERGE ->
        generation[LEFT] = MERGED_GENERATION;
        end_of[LEFT] = AT_B;
        unaddressed[LEFT] = 1;
        absorbed = 1;
        low[LEFT] = MAX(low[LEFT], freeze_ts);
        take_over(place[LEFT]);
    :: left_change == CANCEL ->
        refused[generation[LEFT]] = 1;
        generation[LEFT]++;
        unaddressed[LEFT] = 1;
    :: left_change == SPLIT_M -> split(NEW, AT_M, AT_B);
    :: left_change == SPLIT_K -> split(MIDDLE, AT_K, AT_M);
    fi;
    left_change = NONE;
}

/* RIGHT's leader asks whether the range will be merged. LEFT's answers when it has nothing undecided. */
inline ask()
{
    if
#ifdef BUG_UNFREEZES_WITHOUT_CANCEL
    :: generation[LEFT] == frozen_for -> refused[frozen_for] = 1;
#else
#ifdef BUG_ANSWERS_WHILE_UNDECIDED
    :: left_change == MERGE -> refused[frozen_for] = 1;
#endif
    :: generation[LEFT] == frozen_for && left_change == NONE -> left_change = CANCEL;
#endif
    :: else -> refused[frozen_for] = 1;
    fi;
}

#ifdef BUG_ANSWERS_WHILE_UNDECIDED
#define ANSWERS (left_change == NONE || left_change == MERGE)
#else
#define ANSWERS (left_change == NONE)
#endif
#ifdef BUG_CHANGES_UNADDRESSED
#define MAY_CHANGE (up[LEFT] && left_change == NONE)
#else
#define MAY_CHANGE (up[LEFT] && left_change == NONE && !unaddressed[LEFT])
#endif
#ifdef BUG_MERGES_WITHOUT_GENERATION
#define SAME_GENERATION true
#else
#define SAME_GENERATION (generation[LEFT] == merging_for)
#endif
#ifdef BUG_SUPPORT_ENDS_BEFORE_FREEZE
#define SUPPORTED true
#else
#define SUPPORTED (freeze_ts <= until[LEFT])
#endif
#define HAS_ALL(s) (right_at[s] == right_log)
#ifdef BUG_MERGES_BEFORE_ALL_HAVE_FROZEN
#define ALL_FROZEN (frozen && frozen_for == merging_for)
#else
#define ALL_FROZEN (frozen && frozen_for == merging_for && HAS_ALL(0) && HAS_ALL(1) && HAS_ALL(2))
#endif
/* Nothing will come of it. */
#define IN_VAIN                                                                                    \
    (generation[LEFT] != merging_for || (merging == WAITS && !frozen && right_change != FREEZE))

#define LEFT_ELECTS(s)                                                                             \
    :: d_step { !up[LEFT] -> up[LEFT] = 1; place[LEFT] = s; low[LEFT] = until[LEFT];               \
        if :: absorbed && !merged_at[s] -> take_over(s); :: else fi;                               \
        check(); skip }                                                                            \
    :: d_step { absorbed && !merged_at[s] -> take_over(s); check(); skip }

proctype left()
{
end:
    do
    :: d_step { up[LEFT] && left_change != NONE -> left_commits(); check(); skip }
    /* Merging. */
    :: d_step {
        merging == IDLE && attempts_left > 0 && MAY_CHANGE && end_of[LEFT] == AT_M && up[RIGHT] &&
        generation[NEW] == 0 && !frozen && right_change == NONE && place[LEFT] == place[RIGHT] ->
        attempts_left--;
        merging_for = generation[LEFT];
        freeze_ts = low[RIGHT];
#ifdef BUG_NO_FREEZE
        merging = READY;
#else
        merging = WAITS;
        right_change = FREEZE;
        frozen_for = merging_for;
        freezing = 1;
#endif
        check(); skip }
    :: d_step { merging == WAITS && ALL_FROZEN -> merging = READY; skip }
    :: d_step {
        merging == READY && up[LEFT] && left_change == NONE && SAME_GENERATION && SUPPORTED &&
        end_of[LEFT] == AT_M ->
        left_change = MERGE; merging = IDLE; merging_for = 0; skip }
    :: d_step { merging != IDLE && losses_left > 0 ->
        losses_left--; merging = IDLE; merging_for = 0; skip }
    :: d_step { merging != IDLE && IN_VAIN && !(merging == READY && SAME_GENERATION) ->
        merging = IDLE; merging_for = 0; skip }
    /* Splitting. */
    :: d_step { splits_left > 0 && MAY_CHANGE && end_of[LEFT] == AT_B ->
        splits_left--; left_change = SPLIT_M; skip }
    :: d_step { splits_left > 0 && MAY_CHANGE && end_of[LEFT] == AT_M && generation[NEW] == 0 ->
        splits_left--; left_change = SPLIT_K; skip }
    :: d_step {
        up[LEFT] && ANSWERS && end_of[LEFT] != AT_B && up[RIGHT] && frozen && right_change == NONE &&
        !refused[frozen_for] -> ask(); check(); skip }
    /* Leaders and leases. */
    :: d_step { up[LEFT] && losses_left > 0 -> losses_left--; up[LEFT] = 0; skip }
    :: d_step { !up[LEFT] && left_change != NONE -> left_change = NONE; skip }
    :: d_step { up[LEFT] && until[LEFT] < READS -> until[LEFT]++; skip }
    :: d_step { LEFT_SERVES_M && until[LEFT] > low[LEFT] ->
        low[LEFT] = until[LEFT]; read_m = MAX(read_m, low[LEFT]); check(); skip }
    :: d_step { NEW_SERVES && until[NEW] > low[NEW] ->
        low[NEW] = until[NEW]; read_m = MAX(read_m, low[NEW]); check(); skip }
    LEFT_ELECTS(0)
    LEFT_ELECTS(1)
    LEFT_ELECTS(2)
    od
}

/* ------------------------------------------------------------------ RIGHT's log */

inline right_commits()
{
    frozen = (right_change == FREEZE);
    was_unfrozen = was_unfrozen || !frozen;
    right_change = NONE;
    freezing = 0;
    right_log++;
    right_at[place[RIGHT]] = right_log;
    if
    :: !frozen -> frozen_for = 0; freeze_ts = (merging == IDLE -> 0 : freeze_ts);
    :: else
    fi;
}

#ifdef BUG_UNFREEZES_ON_SILENCE
#define MAY_UNFREEZE true
#else
#ifdef BUG_UNFREEZES_FOR_AN_OLD_ANSWER
#define MAY_UNFREEZE (refused[1] || refused[2] || refused[3])
#else
#define MAY_UNFREEZE refused[frozen_for]
#endif
#endif

#define RIGHT_ON(s)                                                                                \
    :: d_step { !up[RIGHT] && !merged_at[s] && RIGHT_HAS_QUORUM ->                                 \
        up[RIGHT] = 1; place[RIGHT] = s; right_at[s] = right_log; low[RIGHT] = until[RIGHT];       \
        freezing = (right_change == FREEZE); check(); skip }                                       \
    :: d_step { !merged_at[s] && right_at[s] < right_log -> right_at[s]++; skip }

proctype right()
{
end:
    do
    :: d_step { up[RIGHT] && right_change != NONE && RIGHT_HAS_QUORUM ->
        right_commits(); check(); skip }
    :: d_step { up[RIGHT] && frozen && right_change == NONE && MAY_UNFREEZE && RIGHT_HAS_QUORUM ->
        right_change = UNFREEZE; skip }
    :: d_step { up[RIGHT] && losses_left > 0 -> losses_left--; up[RIGHT] = 0; freezing = 0; skip }
    :: d_step { !up[RIGHT] && right_change != NONE ->
        frozen_for = (right_change == FREEZE -> 0 : frozen_for); right_change = NONE; skip }
    :: d_step { up[RIGHT] && until[RIGHT] < READS -> until[RIGHT]++; skip }
    :: d_step { RIGHT_SERVES && until[RIGHT] > low[RIGHT] ->
        low[RIGHT] = until[RIGHT]; read_m = MAX(read_m, low[RIGHT]); check(); skip }
    RIGHT_ON(0)
    RIGHT_ON(1)
    RIGHT_ON(2)
    od
}

/* ------------------------------------------------------------------ the index */

#define STEP_1 1 /* Is the left neighbour there? */
#define STEP_2 2 /* What stands under our end? */
#define PUT 3
#define STEP_3 4 /* What stands inside? */
#define DELETE 5
#define STEP_4 6
#ifdef BUG_INDEX_WITHOUT_STEP_1
#define NEIGHBOUR_IS_THERE(w) true
#else
#define NEIGHBOUR_IS_THERE(w) (writer_start[w] == AT_A || index_range[writer_start[w]] != NOBODY)
#endif
#ifdef BUG_INDEX_DELETES_FIRST
#define AFTER_STEP_1 STEP_3
#define AFTER_PUT STEP_4
#define AFTER_DELETE STEP_2
#else
#define AFTER_STEP_1 STEP_2
#define AFTER_PUT STEP_3
#define AFTER_DELETE STEP_4
#endif
/* Whose replicas it has absorbed must be gone for good, or they would come back beside NEW. */
#ifdef BUG_ADDRESSED_BEFORE_REMOVED
#define MAY_BE_ADDRESSED(w) true
#else
#define MAY_BE_ADDRESSED(w) (writer_range[w] != LEFT || !absorbed || REMOVED >= 2)
#endif
#define IS_PRESENT(w) (generation[writer_range[w]] == writer_generation[w])
/* Having read, and before it writes, it makes sure that it still leads and that nothing has changed. */
#ifdef BUG_INDEX_IS_WRITTEN_LATE
#define STILL_LEADS(w) true
#else
#define STILL_LEADS(w) (IS_PRESENT(w) && up[writer_range[w]])
#endif

inline begin(w, range)
{
    writer_step[w] = STEP_1;
    writer_range[w] = range;
    writer_generation[w] = generation[range];
    writer_start[w] = start[range];
    writer_end[w] = end_of[range];
}

inline stop(w)
{
    writer_step[w] = 0;
    writer_range[w] = 0;
    writer_generation[w] = 0;
    writer_start[w] = 0;
    writer_end[w] = 0;
    writer_saw[w] = 0;
}

/* The entry that [start, end) may have swallowed; LEFT absorbs nothing but [m,b). */
#define HAS_INSIDE(w) (writer_start[w] < AT_M && writer_end[w] > AT_M)

/* Reads the entry, and says what comes next. */
inline look(w, key, then, otherwise)
{
    if
    :: index_generation[key] < writer_generation[w] ->
        writer_saw[w] = index_generation[key];
        writer_step[w] = then;
    :: else -> writer_step[w] = otherwise;
    fi;
}

inline put(w)
{
    if
    :: index_generation[writer_end[w]] == writer_saw[w] ->
        index_range[writer_end[w]] = writer_range[w];
        index_generation[writer_end[w]] = writer_generation[w];
        index_start[writer_end[w]] = writer_start[w];
        writer_step[w] = AFTER_PUT;
    :: else -> writer_step[w] = STEP_2;
    fi;
    writer_saw[w] = 0;
}

inline delete(w)
{
    if
    :: index_generation[AT_M] == writer_saw[w] ->
        index_range[AT_M] = NOBODY;
        index_generation[AT_M] = 0;
        index_start[AT_M] = 0;
        writer_step[w] = AFTER_DELETE;
    :: else -> writer_step[w] = STEP_3;
    fi;
    writer_saw[w] = 0;
}

#define BEGINS(w, range)                                                                           \
    :: d_step { writer_step[w] == 0 && unaddressed[range] && up[range] -> begin(w, range); skip }

proctype writer(byte w)
{
end:
    do
    BEGINS(w, LEFT)
    BEGINS(w, NEW)
    BEGINS(w, MIDDLE)
    :: d_step { writer_step[w] == STEP_1 && NEIGHBOUR_IS_THERE(w) ->
        writer_step[w] = AFTER_STEP_1; skip }
    :: d_step { writer_step[w] == STEP_1 && !NEIGHBOUR_IS_THERE(w) -> stop(w); skip }
    :: d_step { writer_step[w] == STEP_2 && STILL_LEADS(w) ->
        look(w, writer_end[w], PUT, AFTER_PUT); skip }
    :: d_step { writer_step[w] == PUT -> put(w); check(); skip }
    :: d_step { writer_step[w] == STEP_3 && STILL_LEADS(w) && HAS_INSIDE(w) ->
        look(w, AT_M, DELETE, AFTER_DELETE); skip }
    :: d_step { writer_step[w] == STEP_3 && !HAS_INSIDE(w) -> writer_step[w] = AFTER_DELETE; skip }
    :: d_step { writer_step[w] == DELETE -> delete(w); check(); skip }
    :: d_step { writer_step[w] == STEP_4 && IS_PRESENT(w) && up[writer_range[w]] &&
        MAY_BE_ADDRESSED(w) -> unaddressed[writer_range[w]] = 0; stop(w); skip }
    :: d_step { writer_step[w] != 0 && !IS_PRESENT(w) -> stop(w); skip }
    od
}

/* ------------------------------------------------------------------ in the end */

#define STANDS(range)                                                                              \
    (generation[range] == 0 ||                                                                     \
     (!unaddressed[range] && index_range[end_of[range]] == range &&                                \
      index_generation[end_of[range]] == generation[range]))
#define ENTRIES ((index_range[AT_K] != 0) + (index_range[AT_M] != 0) + (index_range[AT_B] != 0))
#define HOLDERS (1 + !absorbed + (generation[NEW] != 0) + (generation[MIDDLE] != 0))

/* Things that must be possible: the search has to refute that they never happen. */
active proctype monitor()
{
end:
    do
    :: timeout ->
        assert((!frozen || absorbed) && !freezing);                              /* P5 */
        assert(STANDS(LEFT) && STANDS(NEW) && STANDS(MIDDLE) && (absorbed || STANDS(RIGHT)));
        assert(ENTRIES == HOLDERS);
        break
#ifdef SEEK_MERGED
    :: d_step {
        absorbed && REMOVED == STORES && !unaddressed[LEFT] && losses_left < LOSSES ->
        assert(false) }
#endif
#ifdef SEEK_UNFROZEN
    :: d_step { was_unfrozen && RIGHT_SERVES -> assert(false) }
#endif
#ifdef SEEK_MERGED_AT_THE_SECOND_ATTEMPT
    :: d_step { absorbed && was_unfrozen -> assert(false) }
#endif
#ifdef SEEK_SPLIT_AGAIN
    :: d_step { NEW_SERVES && !unaddressed[NEW] && !unaddressed[LEFT] -> assert(false) }
#endif
#ifdef SEEK_SPLIT_WHILE_FROZEN
    :: d_step { generation[MIDDLE] != 0 && was_unfrozen && !unaddressed[MIDDLE] -> assert(false) }
#endif
#ifdef SEEK_LATE_WRITER
    :: d_step { writer_step[0] == PUT && !IS_PRESENT(0) -> assert(false) }
#endif
#ifdef SEEK_FROZEN_MINORITY
    /* Merged and split again, while a store still holds a frozen replica. */
    :: d_step { NEW_SERVES && REMOVED == 2 -> assert(false) }
#endif
    od
}

init
{
    atomic {
        generation[LEFT] = 1;
        start[LEFT] = AT_A;
        end_of[LEFT] = AT_M;
        generation[RIGHT] = RIGHT_GENERATION;
        start[RIGHT] = AT_M;
        end_of[RIGHT] = AT_B;
        index_range[AT_M] = LEFT;
        index_generation[AT_M] = 1;
        index_start[AT_M] = AT_A;
        index_range[AT_B] = RIGHT;
        index_generation[AT_B] = RIGHT_GENERATION;
        index_start[AT_B] = AT_M;
        up[LEFT] = 1;
        up[RIGHT] = 1;
        until[LEFT] = 1;
        until[RIGHT] = 1;
        run left();
        run right();
        run writer(0);
#if WRITERS > 1
        run writer(1);
#endif
    }
}
