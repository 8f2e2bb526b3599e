/*
 * lease.pml -- store liveness, fortification, leader leases and their transfer, on three stores.
 *
 * Question: can two leaders of one range both have served a timestamp that belongs to one of them?
 *
 * Each store holds one voter of one range. Store 0 starts as leader of term 1, its START committed
 * everywhere; everything after that is free: clocks run independently of each other, messages are
 * lost or late, stores restart, leadership is handed over, elections happen at any time that the
 * rules allow. All choices are explored, up to the bounds below.
 *
 * What is simplified, and why that hides nothing:
 *   - A log is known by the term and index of its last entry and by its newest marker (START or
 *     REVOKE): logs with equal last entries are equal. An append copies the whole log.
 *   - A heartbeat and the promise it gets are one step. A lost or late answer lets the leader believe
 *     less than was promised, and an epoch that was withdrawn never comes back.
 *   - Only leaders ask for support, only supporting followers withdraw it: other promises bind nobody.
 *   - A vote forwards the candidate's clock at once; counting the votes is a step of its own.
 *   - DeFortify and TimeoutNow wait until they are delivered, for ever if need be.
 *   - Pre-votes and "campaign only with support" serve liveness only and are left out. Each term sees
 *     one campaign, by any store: two candidates of one term are plain Raft, tested elsewhere.
 *   - A read is always served as far into the future as the lease allows: the worst case.
 *
 * Ghost variables (floor, served, promised, leader_of) are written by the model and read by asserts
 * and never by the protocol, but for leader_of, from which a follower knows whom it follows.
 *
 * Properties:
 *   P1  what a term has served is at or below the floor under which later terms do not write;
 *   P2  no vote is given while the voter's promise to the leader of an older term stands;
 *   P3  one leader per term (weak here, because a term sees one campaign).
 *
 * -DBUG_x leaves one rule out; each must then be caught. -DSEEK_x asserts that something desirable
 * never happens, and must be refuted: it shows that the good model does not just stand still.
 */

/* run.py gives the bounds: CLOCK_MAX, TERM_MAX, RESTARTS, TRANSFERS. */
#define SUPPORT 2 /* How long a promise is asked for. */
#define N 3
#define NONE 3

#define FOLLOWER 0
#define CANDIDATE 1
#define LEADER 2

#define START 0
#define REVOKE 1

/* Durable, per store. */
byte term[N];
byte log_term[N];
byte log_index[N];
bit log_kind[N];          /* Newest marker. */
byte log_value[N];        /* REVOKE: summary of reads. START: its part above start_ts. */
byte lead_epoch[N];       /* Epoch under which the leader of `term` is supported; 0: not. */
byte max_requested[N];    /* As requester. */
byte max_expiration[N];   /* As supporter. */
byte given_epoch[N * N];  /* As supporter, [me * N + requester]. */

/* Lost at restart. */
byte role[N];
byte wait_until[N];       /* After a restart: no Raft before the clock has passed it. 0: none. */
byte given_until[N * N];  /* As supporter: expiration; 0: withdrawn or never given. */
byte asked_epoch[N * N];  /* As requester, [me * N + supporter]; restart makes it a new one. */
byte held_until[N * N];   /* As requester: support known to be ours. */
byte fortified[N * N];    /* As leader: epoch under which the peer follows us; 0: not. */
byte granted[N];          /* As candidate: bit set of voters. As leader: who has our log. */
#ifdef BUG_START_BELOW_FORWARDED_CLOCKS
byte clock_before[N];     /* As candidate: own clock before any vote arrived. */
#endif
bit transfer_flag[N];     /* This campaign was asked for by TimeoutNow. */
bit serving[N];

byte clock_of[N];             /* Hybrid logical clocks; never go back, not even at a restart. */

/* The network. */
byte timeout_now[N];      /* Term of a TimeoutNow under way; 0: none. */
bit defortify[TERM_MAX + 1];
byte defortify_clock[TERM_MAX + 1];

/* Ghosts. */
byte leader_of[TERM_MAX + 1];
bit campaigned[TERM_MAX + 2];
byte floor[TERM_MAX + 1];
byte served[TERM_MAX + 1];
byte promised[N];         /* Until when this store has promised not to vote. */

byte restarts_left = RESTARTS;
byte transfers_left = TRANSFERS;

/* Scratch of one step, not part of the state. */
hidden byte older, newer, other, value;

#define MAX(p, q) ((p) > (q) -> (p) : (q))
#define AT(i, j) ((i) * N + (j))
#define BIT(i) (1 << (i))
#define IS_QUORUM(s) ((s) == 3 || (s) >= 5)
#define BLOCKED(i) (wait_until[i] != 0)

/* The envelope of every message carries its sender's clock. */
#ifdef BUG_NO_CLOCK_IN_ENVELOPE
#define FORWARD(i, clock) skip
#else
#define FORWARD(i, clock) clock_of[i] = MAX(clock_of[i], clock)
#endif

#define SUPPORTS_LEADER(i)                                                                         \
    (lead_epoch[i] != 0 && leader_of[term[i]] != NONE &&                                           \
     given_until[AT(i, leader_of[term[i]])] != 0 &&                                                \
     given_epoch[AT(i, leader_of[term[i]])] == lead_epoch[i])

#ifdef BUG_CANDIDATE_IGNORES_SUPPORT
#define MAY_CAMPAIGN(i) true
#else
#define MAY_CAMPAIGN(i) (!SUPPORTS_LEADER(i))
#endif

#ifdef BUG_VOTER_IGNORES_SUPPORT
#define MAY_VOTE(i, j) true
#else
#define MAY_VOTE(i, j)                                                                             \
    (!SUPPORTS_LEADER(i) || log_term[j] > term[i] ||                                               \
     (transfer_flag[j] && term[j] == term[i] + 1))
#endif

#define LOG_AT_LEAST(j, i)                                                                         \
    (log_term[j] > log_term[i] || (log_term[j] == log_term[i] && log_index[j] >= log_index[i]))

#ifdef BUG_TIMEOUT_NOW_BEFORE_COMMIT
#define REVOKE_SAFE(i, target) true
#else
#define REVOKE_SAFE(i, target) (IS_QUORUM(granted[i]) && (granted[i] & BIT(target)))
#endif

/* Without further restarts nobody reads these, until the store leads and asks again. */
inline forget_requests(i)
{
    if
    :: restarts_left == 0 -> max_requested[i] = 0; max_expiration[i] = 0;
    :: else
    fi;
}

/* What a leader of which nothing is left forgets, so that equal states look equal. */
inline leave_role(i)
{
    role[i] = FOLLOWER;
    granted[i] = 0;
    transfer_flag[i] = 0;
    serving[i] = 0;
    forget_requests(i);
    for (other : 0 .. N - 1) {
        fortified[AT(i, other)] = 0;
        held_until[AT(i, other)] = 0;
    }
}

inline follow_term(i, its_term)
{
    leave_role(i);
    term[i] = its_term;
    lead_epoch[i] = 0;
    timeout_now[i] = 0; /* Its term has passed. */
    promised[i] = 0; /* A quorum has moved on, or the vote was checked before. */
    /* Promises that bind nobody any more; a leader of the new term asks for its own. */
    for (other : 0 .. N - 1) {
        given_until[AT(i, other)] = 0;
    }
}

/* P1, after every change of served and floor. */
inline check_disjoint()
{
    for (older : 1 .. TERM_MAX) {
        for (newer : 1 .. TERM_MAX) {
            assert(!(older < newer && floor[newer] != 0 && served[older] > floor[newer]));
        }
    }
}

/* P2. Voters are free by a hand-over, for REVOKE then protects what was served, and when a leader of a
 * later term is proven to have existed, for its election waited already. */
inline check_promise(i, is_free)
{
    assert(is_free || clock_of[i] >= promised[i]);
}

/* --------------------------------------------------------------------------- serving */

/* Support of one voter for the leader `me`, its own durable promise included. */
#define HELD(me, p)                                                                                \
    ((p) == (me) -> max_requested[me]                                                              \
                 : (fortified[AT(me, p)] != 0 && fortified[AT(me, p)] == asked_epoch[AT(me, p)]    \
                        -> held_until[AT(me, p)]                                                   \
                        : 0))

/* The second largest of three: a quorum has promised until then. */
inline support_until(me)
{
    older = HELD(me, 0);
    newer = HELD(me, 1);
    other = HELD(me, 2);
    value = (older >= newer -> (other >= older -> older : (other >= newer -> other : newer)) : (other >= newer -> newer : (other >= older -> other : older)));
    older = 0;
    newer = 0;
    other = 0;
}

inline serve(me)
{
    support_until(me);
    if
    :: serving[me] && clock_of[me] < value && value - 1 > served[term[me]] ->
        served[term[me]] = value - 1;
        check_disjoint();
    :: else
    fi;
    value = 0;
}

/* --------------------------------------------------------------------------- store liveness */

/* me leads `term`; a peer that follows and supports it promises not to vote. */
inline fortify(me, peer)
{
    if
    :: role[peer] == FOLLOWER && !BLOCKED(peer) && term[peer] == term[me] &&
       given_until[AT(peer, me)] != 0 ->
        lead_epoch[peer] = given_epoch[AT(peer, me)];
        promised[peer] = given_until[AT(peer, me)];
        fortified[AT(me, peer)] = lead_epoch[peer];
    :: else
    fi;
}

/* me asks `peer` for support until now + SUPPORT, and to follow. */
inline heartbeat(me, peer)
{
    value = clock_of[me] + SUPPORT;
    max_requested[me] = MAX(max_requested[me], value);
    FORWARD(peer, clock_of[me]);
    if
    :: asked_epoch[AT(me, peer)] >= given_epoch[AT(peer, me)] ->
        if
        :: asked_epoch[AT(me, peer)] > given_epoch[AT(peer, me)] ->
            given_epoch[AT(peer, me)] = asked_epoch[AT(me, peer)];
            given_until[AT(peer, me)] = value;
        :: else ->
            given_until[AT(peer, me)] = MAX(given_until[AT(peer, me)], value);
        fi;
        max_expiration[peer] = (restarts_left > 0 -> MAX(max_expiration[peer], value) : 0);
        if
        :: lead_epoch[peer] == given_epoch[AT(peer, me)] && leader_of[term[peer]] == me ->
            promised[peer] = given_until[AT(peer, me)];
        :: else
        fi;
    :: else
    fi;
    if
    :: given_epoch[AT(peer, me)] == asked_epoch[AT(me, peer)] ->
        held_until[AT(me, peer)] =
            (given_until[AT(peer, me)] < max_requested[me] -> given_until[AT(peer, me)]
                                                           : max_requested[me]);
    :: given_epoch[AT(peer, me)] > asked_epoch[AT(me, peer)] ->
        asked_epoch[AT(me, peer)] = given_epoch[AT(peer, me)];
        held_until[AT(me, peer)] = 0;
    :: else
    fi;
    FORWARD(me, clock_of[peer]);
    value = 0;
    fortify(me, peer);
    serve(me);
}

inline withdraw(me, peer)
{
    given_epoch[AT(me, peer)] = given_epoch[AT(me, peer)] + 1;
    given_until[AT(me, peer)] = 0;
    check_promise(me, false);
    lead_epoch[me] = 0;
    promised[me] = 0;
}

/* --------------------------------------------------------------------------- the lease */

/* A marker, with `value` as its value, at the end of the leader's log; nobody else has it yet. */
inline append(me, mark)
{
    log_term[me] = term[me];
    log_index[me] = log_index[me] + 1;
    log_kind[me] = mark;
    log_value[me] = value;
    granted[me] = BIT(me);
    serving[me] = 0;
    value = 0;
}

/* START carries what an earlier summary says above its own beginning. */
inline start_again(me)
{
#ifdef BUG_FORGETS_FUTURE_PART
    value = 0;
#else
    value = (log_value[me] > clock_of[me] -> log_value[me] : 0);
#endif
    append(me, START);
}

inline become_leader(me)
{
    assert(leader_of[term[me]] == NONE); /* P3 */
    leave_role(me);
    role[me] = LEADER;
    leader_of[term[me]] = me;
#ifdef BUG_START_BELOW_FORWARDED_CLOCKS
    clock_of[me] = clock_before[me];
#endif
    floor[term[me]] = (log_kind[me] == REVOKE -> log_value[me] : MAX(clock_of[me], log_value[me]));
    start_again(me);
}

inline replicate(me, peer)
{
    if
    :: term[peer] < term[me] -> follow_term(peer, term[me]);
    :: role[peer] == CANDIDATE -> leave_role(peer);
    :: else
    fi;
    FORWARD(peer, clock_of[me]);
    log_term[peer] = log_term[me];
    log_index[peer] = log_index[me];
    log_kind[peer] = log_kind[me];
    log_value[peer] = log_value[me];
    granted[me] = granted[me] | BIT(peer);
    FORWARD(me, clock_of[peer]);
    if
    :: log_kind[me] == START && IS_QUORUM(granted[me]) ->
        serving[me] = 1;
        check_disjoint();
        serve(me);
    :: else
    fi;
}

inline revoke(me)
{
    transfers_left--;
    value = MAX(served[term[me]], floor[term[me]]);
    append(me, REVOKE);
}

inline stop_leading(me)
{
    defortify[term[me]] = 1;
    defortify_clock[term[me]] = clock_of[me];
    leave_role(me);
}

inline hand_over(me, target)
{
    timeout_now[target] = term[me];
    stop_leading(me);
}

/* --------------------------------------------------------------------------- elections */

inline campaign(me, by_transfer)
{
    check_promise(me, by_transfer);
    value = term[me] + 1;
    follow_term(me, value);
    value = 0;
    campaigned[term[me]] = 1;
    role[me] = CANDIDATE;
    granted[me] = BIT(me);
#ifdef BUG_START_BELOW_FORWARDED_CLOCKS
    clock_before[me] = clock_of[me];
#endif
    transfer_flag[me] = by_transfer;
}

inline grant(me, candidate)
{
    check_promise(me, transfer_flag[candidate] || log_term[candidate] > term[me]);
    FORWARD(me, clock_of[candidate]);
    follow_term(me, term[candidate]);
    granted[candidate] = granted[candidate] | BIT(me);
    FORWARD(candidate, clock_of[me]);
}

/* --------------------------------------------------------------------------- restarts */

inline restart(me)
{
#ifndef BUG_FORGETS_MAX_REQUESTED
    wait_until[me] = (clock_of[me] <= max_requested[me] -> max_requested[me] : 0);
#endif
    leave_role(me);
    restarts_left--;
    value = 0;
    for (other : 0 .. N - 1) {
        value = MAX(value, asked_epoch[AT(me, other)]);
    }
    for (other : 0 .. N - 1) {
        asked_epoch[AT(me, other)] = (other == me -> 0 : value + 1);
        if
        :: given_until[AT(me, other)] != 0 ->
#ifdef BUG_SUPPORTER_FORGETS_EPOCH
            given_epoch[AT(me, other)] = 0;
            given_until[AT(me, other)] = 0;
#else
#ifdef BUG_SUPPORTER_FORGETS_EXPIRATION
            given_until[AT(me, other)] = 1;
#else
            given_until[AT(me, other)] = max_expiration[me];
#endif
#endif
        :: else
        fi;
    }
    other = 0;
    value = 0;
}

inline tick(me)
{
    clock_of[me] = clock_of[me] + 1;
    if
    :: clock_of[me] > wait_until[me] -> wait_until[me] = 0;
    :: else
    fi;
}

/* What one store does towards one other. */
#define TOWARDS(me, peer)                                                                          \
    :: d_step {                                                                                    \
        role[me] == LEADER && clock_of[me] + SUPPORT > held_until[AT(me, peer)] -> heartbeat(me, peer); skip }                      \
    :: d_step {                                                                                    \
        SUPPORTS_LEADER(me) && leader_of[term[me]] == peer &&                                      \
        clock_of[me] >= given_until[AT(me, peer)] -> withdraw(me, peer); skip }                          \
    :: d_step {                                                                                    \
        role[me] == LEADER && !BLOCKED(peer) && term[peer] <= term[me] &&                          \
        !(granted[me] & BIT(peer)) -> replicate(me, peer); skip }                                        \
    :: d_step {                                                                                    \
        role[me] == LEADER && log_kind[me] == REVOKE && REVOKE_SAFE(me, peer) &&                   \
        timeout_now[peer] == 0 -> hand_over(me, peer); skip }                         \
    :: d_step {                                                                                    \
        role[peer] == CANDIDATE && role[me] != LEADER && !BLOCKED(me) &&                           \
        term[peer] > term[me] &&                                                                   \
        LOG_AT_LEAST(peer, me) && MAY_VOTE(me, peer) -> grant(me, peer); skip }

proctype store(byte me; byte next; byte last)
{
end:
    do
    :: d_step { clock_of[me] < CLOCK_MAX -> tick(me); skip }
    :: d_step { restarts_left > 0 && !BLOCKED(me) -> restart(me); skip }
    :: d_step {
        role[me] != LEADER && !BLOCKED(me) && term[me] < TERM_MAX && !campaigned[term[me] + 1] &&
        MAY_CAMPAIGN(me) ->
        campaign(me, 0); skip }
    :: d_step {
        role[me] == FOLLOWER && !BLOCKED(me) && timeout_now[me] == term[me] &&
        term[me] < TERM_MAX && !campaigned[term[me] + 1] -> timeout_now[me] = 0; campaign(me, 1); skip }
    :: d_step { role[me] == CANDIDATE && IS_QUORUM(granted[me]) -> become_leader(me); skip }
    :: d_step { serving[me] && transfers_left > 0 && term[me] < TERM_MAX -> revoke(me); skip }
    :: d_step {
        role[me] == LEADER && log_kind[me] == REVOKE ->
        start_again(me); skip }
    :: d_step { role[me] == LEADER && clock_of[me] > served[term[me]] -> stop_leading(me); skip }
    :: d_step {
        defortify[term[me]] && lead_epoch[me] != 0 ->
        FORWARD(me, defortify_clock[term[me]]); lead_epoch[me] = 0; promised[me] = 0; skip }
    TOWARDS(me, next)
    TOWARDS(me, last)
    od
}

/* Things that must be possible: the search has to refute that they never happen. */
active proctype monitor()
{
end:
    do
#ifdef SEEK_SECOND_LEASE
    :: d_step { served[2] > 0 -> assert(false) }
#endif
#ifdef SEEK_THIRD_LEASE
    :: d_step { served[1] > 0 && transfers_left == 0 && served[3] > 0 -> assert(false) }
#endif
#ifdef SEEK_TRANSFER_AHEAD_OF_TIME
    /* Handed over although the old lease reached into the future. */
    :: d_step { served[2] > 0 && served[1] > clock_of[0] && leader_of[2] != 0 -> assert(false) }
#endif
#ifdef SEEK_RESTARTED_LEADER_LEADS_AGAIN
    :: d_step {
        restarts_left == 0 && served[1] > 0 && leader_of[2] == 0 && served[2] > 0 &&
        asked_epoch[AT(0, 1)] > 1 -> assert(false) }
#endif
    :: false
    od
}

init
{
    atomic {
        for (older : 0 .. N - 1) {
            term[older] = 1;
            log_term[older] = 1;
            log_index[older] = 1;
            clock_of[older] = 1;
            for (newer : 0 .. N - 1) {
                asked_epoch[AT(older, newer)] = (older == newer -> 0 : 1);
            }
        }
        for (older : 1 .. TERM_MAX) {
            leader_of[older] = NONE;
        }
        leader_of[1] = 0;
        role[0] = LEADER;
        granted[0] = 7;
        serving[0] = 1;
        floor[1] = 1;
        older = 0;
        newer = 0;
        run store(0, 1, 2);
        run store(1, 2, 0);
        run store(2, 0, 1);
    }
}
