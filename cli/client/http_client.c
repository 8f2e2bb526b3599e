/*
 * http_client.c -- libcurl's multi interface, from opening to closing within one call.
 *
 * Nothing is kept between calls: the tool asks a handful of questions per run, and on loopback a new
 * connection costs less than the bookkeeping.
 */
#include "cli/client/http_client.h"

#include <curl/curl.h>

#include "node/base/invariant.h"

#define WAIT_MS 1000

struct transfer {
    struct http_call *call;
    CURL *easy;
    struct curl_slist *headers; /* Of a POST. */
    struct buf body;
    char why[CURL_ERROR_SIZE];
};

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;

    return status_ok(buf_append(&t->body, data, size * count)) ? size * count : 0;
}

static bool set_up(struct transfer *t, uint32_t timeout_ms)
{
    CURL *e = t->easy;
    bool fine = true;

    fine = fine && curl_easy_setopt(e, CURLOPT_URL, t->call->url) == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout_ms) == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->why) == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_WRITEDATA, t) == CURLE_OK;
    fine = fine && curl_easy_setopt(e, CURLOPT_PRIVATE, t) == CURLE_OK;
    if (t->call->post) {
        t->headers = curl_slist_append(NULL, "x-dsql-admin: 1");
        fine = fine && t->headers != NULL;
        fine = fine && curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers) == CURLE_OK;
        fine = fine && curl_easy_setopt(e, CURLOPT_POSTFIELDS, "") == CURLE_OK;
    }
    return fine;
}

static struct status add(CURLM *multi, struct transfer *t, struct http_call *call,
                         uint32_t timeout_ms)
{
    call->code = 0;
    call->body = BYTES_EMPTY;
    call->reason = "no answer";
    t->call = call;
    buf_init(&t->body, HTTP_ANSWER_MAX);
    t->easy = curl_easy_init();
    if (t->easy == NULL || !set_up(t, timeout_ms) ||
        curl_multi_add_handle(multi, t->easy) != CURLM_OK) {
        return FAIL(STATUS_UNAVAILABLE, "the HTTP library could not be set up");
    }
    return OK;
}

static struct status finish(struct transfer *t, CURLcode result, struct arena *arena)
{
    long code = 0;

    if (result != CURLE_OK) {
        t->call->reason =
            arena_printf(arena, "%s", t->why[0] != '\0' ? t->why : curl_easy_strerror(result));
        return OK;
    }
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &code); /* 0 if it is not known. */
    t->call->code = (uint32_t)code;
    t->call->reason = NULL;
    return bytes_dup(arena, buf_bytes(&t->body), &t->call->body);
}

static struct status collect(CURLM *multi, struct arena *arena)
{
    for (;;) {
        int left = 0;
        char *mine = NULL;
        const CURLMsg *m = curl_multi_info_read(multi, &left);

        if (m == NULL) {
            return OK;
        }
        if (m->msg == CURLMSG_DONE &&
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &mine) == CURLE_OK) {
            TRY(finish((struct transfer *)(void *)mine, m->data.result, arena));
        }
    }
}

static struct status run(CURLM *multi, struct arena *arena)
{
    int running = 1;

    while (running > 0) {
        if (curl_multi_perform(multi, &running) != CURLM_OK ||
            (running > 0 && curl_multi_poll(multi, NULL, 0, WAIT_MS, NULL) != CURLM_OK)) {
            return FAIL(STATUS_UNAVAILABLE, "the HTTP library does not work");
        }
        TRY(collect(multi, arena));
    }
    return OK;
}

struct status http_calls(struct http_call *calls, uint32_t count, uint32_t timeout_ms,
                         struct arena *arena)
{
    struct transfer *transfers = ARENA_ARRAY(arena, struct transfer, (size_t)count + 1);
    CURLM *multi = curl_multi_init();
    struct status st = OK;

    INVARIANT(count <= HTTP_CALLS_MAX);
    if (transfers == NULL || multi == NULL) {
        st = FAIL(STATUS_MEMORY, "out of memory");
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        TRY_OUT(add(multi, &transfers[i], &calls[i], timeout_ms));
    }
    TRY_OUT(run(multi, arena));
out:
    for (uint32_t i = 0; transfers != NULL && i < count; i++) {
        if (transfers[i].easy != NULL) {
            (void)curl_multi_remove_handle(multi, transfers[i].easy); /* Not added: an error. */
            curl_easy_cleanup(transfers[i].easy);
            curl_slist_free_all(transfers[i].headers);
        }
        buf_deinit(&transfers[i].body);
    }
    (void)curl_multi_cleanup(multi); /* Nothing is left in it. */
    return st;
}
