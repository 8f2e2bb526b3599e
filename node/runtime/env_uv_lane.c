/*
 * env_uv_lane.c -- threads for work that would stall the loop.
 *
 * A lane is a queue and its threads; the writer lane has one thread, which makes its order that of
 * submission. A job is owned by the lane until it is finished, then by the list `done`, from which
 * the loop takes everything at once: only the first job of such a batch wakes the loop.
 *
 * The queues are bounded by what is submitted: jobs are embedded in requests, whose number others
 * limit. Signals are blocked on these threads, so that they reach the loop.
 */
#include <signal.h>

#include "node/base/invariant.h"
#include "node/runtime/env_uv_internal.h"

static struct env_job *lane_next(struct env_uv_lane *l)
{
    struct list *it = NULL;

    INVARIANT(pthread_mutex_lock(&l->mutex) == 0);
    while ((it = list_pop_front(&l->jobs)) == NULL && !l->stop) {
        INVARIANT(pthread_cond_wait(&l->more, &l->mutex) == 0);
    }
    INVARIANT(pthread_mutex_unlock(&l->mutex) == 0);
    return it == NULL ? NULL : LIST_ENTRY(it, struct env_job, link);
}

static void lane_finish(struct env_uv *e, struct env_job *job)
{
    bool first = false;

    INVARIANT(pthread_mutex_lock(&e->done_mutex) == 0);
    first = list_empty(&e->done);
    list_push_back(&e->done, &job->link);
    /* Under the mutex: once the loop has seen the last job it may destroy the env. */
    if (first) {
        INVARIANT(uv_async_send(&e->async) == 0);
    }
    INVARIANT(pthread_mutex_unlock(&e->done_mutex) == 0);
}

static void *lane_main(void *arg)
{
    struct env_uv_lane *l = arg;
    struct env_job *job = NULL;

    while ((job = lane_next(l)) != NULL) {
        /* lint-allow(yields): a thread of its own, outside of any shard: nothing can yield */
        job->work(job);
        lane_finish(l->env, job);
    }
    return NULL;
}

struct status env_uv_lane_start(struct env_uv *e, struct env_uv_lane *l, uint32_t threads,
                                const char *name)
{
    sigset_t all;
    sigset_t before;
    int rc = 0;

    if (threads > ENV_UV_IO_THREADS_MAX) {
        return FAIL(STATUS_INVALID, "too many threads for a lane");
    }
    l->env = e;
    list_init(&l->jobs);
    INVARIANT(pthread_mutex_init(&l->mutex, NULL) == 0);
    INVARIANT(pthread_cond_init(&l->more, NULL) == 0);
    INVARIANT(sigfillset(&all) == 0);
    INVARIANT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    while (rc == 0 && l->thread_count < threads) {
        rc = pthread_create(&l->threads[l->thread_count], NULL, lane_main, l);
        if (rc == 0) {
            (void)pthread_setname_np(l->threads[l->thread_count], name); /* Only for people. */
            l->thread_count++;
        }
    }
    INVARIANT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (l->thread_count == 0) {
        INVARIANT(pthread_cond_destroy(&l->more) == 0);
        INVARIANT(pthread_mutex_destroy(&l->mutex) == 0);
    }
    return rc == 0 ? OK : FAIL(STATUS_MEMORY, "cannot start another thread");
}

void env_uv_lane_stop(struct env_uv_lane *l)
{
    if (l->thread_count == 0) {
        return;
    }
    INVARIANT(pthread_mutex_lock(&l->mutex) == 0);
    l->stop = true;
    INVARIANT(pthread_cond_broadcast(&l->more) == 0);
    INVARIANT(pthread_mutex_unlock(&l->mutex) == 0);
    while (l->thread_count > 0) {
        INVARIANT(pthread_join(l->threads[--l->thread_count], NULL) == 0);
    }
    INVARIANT(list_empty(&l->jobs));
    INVARIANT(pthread_cond_destroy(&l->more) == 0);
    INVARIANT(pthread_mutex_destroy(&l->mutex) == 0);
}

void env_uv_submit(struct env *env, enum env_lane lane, struct env_job *job)
{
    struct env_uv *e = env_uv_of(env);
    struct env_uv_lane *l = &e->lanes[lane];

    INVARIANT(lane < ENV_LANE_COUNT);
    e->jobs_live++;
    INVARIANT(pthread_mutex_lock(&l->mutex) == 0);
    list_push_back(&l->jobs, &job->link);
    INVARIANT(pthread_cond_signal(&l->more) == 0);
    INVARIANT(pthread_mutex_unlock(&l->mutex) == 0);
}

void env_uv_collect_done(struct env_uv *e)
{
    struct list batch;
    struct list *it = NULL;

    list_init(&batch);
    INVARIANT(pthread_mutex_lock(&e->done_mutex) == 0);
    if (!list_empty(&e->done)) {
        list_insert_before(e->done.next, &batch); /* Takes the place of the head. */
        list_remove(&e->done);
    }
    INVARIANT(pthread_mutex_unlock(&e->done_mutex) == 0);
    while ((it = list_pop_front(&batch)) != NULL) {
        struct env_job *job = LIST_ENTRY(it, struct env_job, link);

        e->jobs_live--;
        job->done(job); /* May free or submit it again. */
    }
}
