/*
 * state.c -- demo.json: written whole and renamed, read with suspicion.
 *
 * The file may be of an older version of this program, or have been edited. What is read is checked
 * as far as wrong values could hurt: pids that are signalled go through their start times, counts fit
 * the arrays, ids are what the rest of the program relies on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/client/json_read.h"
#include "cli/demo/demo.h"
#include "node/base/json.h"

#define VERSION       1u
#define FILE_MAX      ((size_t)1 << 20)
#define LOCK_WAIT_MS  15000u
#define LOCK_PAUSE_NS 20000000L
#define READ_SIZE     1024

/* ---- the directory ------------------------------------------------------------------------------- */

static struct status absolute(const char *path, struct arena *arena, const char **out)
{
    char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);

    if (path[0] != '/' && cwd == NULL) {
        return FAIL(STATUS_IO, "could not find out the current directory");
    }
    *out = path[0] == '/' ? path : arena_printf(arena, "%s/%s", cwd, path);
    free(cwd);
    return OK;
}

struct status demo_directory(const char *asked, struct arena *arena, const char **out)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");

    if (asked != NULL) {
        return absolute(asked, arena, out);
    }
    if (state != NULL && state[0] == '/') {
        *out = arena_printf(arena, "%s/dsql-demo", state);
        return OK;
    }
    if (home == NULL || home[0] != '/') {
        return FAIL(STATUS_INVALID, "HOME is not set: say where with --dir DIR");
    }
    *out = arena_printf(arena, "%s/.local/state/dsql-demo", home);
    return OK;
}

static struct status make_directories(const char *dir, struct arena *arena)
{
    char *path = arena_strdup(arena, dir);

    if (path == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    for (char *at = path + 1;; at++) {
        const char was = *at;

        if (was != '/' && was != '\0') {
            continue;
        }
        *at = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            return FAIL(STATUS_IO, arena_printf(arena, "could not create directory \"%s\": %s",
                                                path, strerror(errno)));
        }
        *at = was;
        if (was == '\0') {
            return OK;
        }
    }
}

struct status demo_lock(const char *dir, struct arena *msg_arena, int *fd_out)
{
    const uint64_t until = process_now_ms() + LOCK_WAIT_MS;
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    const char *path = arena_printf(msg_arena, "%s/lock", dir);
    int fd = -1;

    *fd_out = -1;
    TRY(make_directories(dir, msg_arena));
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return FAIL(STATUS_IO,
                    arena_printf(msg_arena, "could not open \"%s\": %s", path, strerror(errno)));
    }
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (process_now_ms() >= until) {
            (void)close(fd);
            return FAIL(STATUS_TIMEOUT,
                        arena_printf(msg_arena, "another dsqlctl is busy with \"%s\"", dir));
        }
        (void)nanosleep(&pause, NULL); /* Shorter is no harm. */
    }
    *fd_out = fd;
    return OK;
}

void demo_unlock(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* ---- to text ------------------------------------------------------------------------------------- */

static void put_node(struct json *j, const struct demo_node *n)
{
    json_object(j);
    json_kv_u64(j, "id", n->id);
    json_kv_str(j, "region", n->region);
    json_kv_str(j, "zone", n->zone);
    json_kv_u64(j, "sql_port", n->sql_port);
    json_kv_u64(j, "rpc_port", n->rpc_port);
    json_kv_u64(j, "http_port", n->http_port);
    json_kv_u64(j, "pid", (uint64_t)n->process.pid);
    json_kv_u64(j, "start_ticks", n->process.start_ticks);
    json_object_end(j);
}

static void put_cuts(struct json *j, const struct demo *d)
{
    json_key(j, "cuts");
    json_array(j);
    for (uint32_t i = 0; i < d->count; i++) {
        for (uint32_t k = 0; k < d->count; k++) {
            if (d->cut[i][k]) {
                json_object(j);
                json_kv_u64(j, "from", d->nodes[i].id);
                json_kv_u64(j, "to", d->nodes[k].id);
                json_object_end(j);
            }
        }
    }
    json_array_end(j);
}

struct status demo_encode(const struct demo *d, struct buf *out)
{
    char boot[PROCESS_BOOT_SIZE];
    struct json j;

    process_boot(boot);
    json_begin(&j, out);
    json_object(&j);
    json_kv_u64(&j, "version", VERSION);
    json_kv_str(&j, "boot", boot);
    json_kv_bool(&j, "rtt", d->rtt);
    json_kv_u64(&j, "joined", d->joined);
    json_key(&j, "nodes");
    json_array(&j);
    for (uint32_t i = 0; i < d->count; i++) {
        put_node(&j, &d->nodes[i]);
    }
    json_array_end(&j);
    put_cuts(&j, d);
    json_object_end(&j);
    TRY(json_end(&j));
    return buf_append_u8(out, '\n');
}

/* ---- from text ----------------------------------------------------------------------------------- */

static bool read_port(const struct json_value *v, const char *key, uint16_t *out)
{
    const uint64_t n = json_get_u64(v, key);

    *out = (uint16_t)n;
    return n > 0 && n <= UINT16_MAX;
}

static bool read_name(const struct json_value *v, const char *key, char *out, size_t size)
{
    const int n = snprintf(out, size, "%s", json_get_str(v, key));

    return n > 0 && (size_t)n < size;
}

static bool read_node(const struct json_value *v, bool same_boot, uint32_t index,
                      struct demo_node *out)
{
    const uint64_t pid = json_get_u64(v, "pid");

    *out = (struct demo_node){.id = index + 1};
    if (same_boot && pid > 1 && pid <= INT32_MAX) {
        out->process = (struct process_name){(int32_t)pid, json_get_u64(v, "start_ticks")};
    }
    return json_get_u64(v, "id") == out->id &&
           read_name(v, "region", out->region, sizeof(out->region)) &&
           read_name(v, "zone", out->zone, sizeof(out->zone)) &&
           read_port(v, "sql_port", &out->sql_port) && read_port(v, "rpc_port", &out->rpc_port) &&
           read_port(v, "http_port", &out->http_port);
}

static bool read_cut(const struct json_value *v, struct demo *d)
{
    const uint64_t from = json_get_u64(v, "from");
    const uint64_t to = json_get_u64(v, "to");

    if (from == 0 || to == 0 || from > d->count || to > d->count || from == to) {
        return false;
    }
    d->cut[from - 1][to - 1] = true;
    return true;
}

static bool read_all(const struct json_value *root, struct demo *d)
{
    char boot[PROCESS_BOOT_SIZE];
    bool same_boot = false;

    process_boot(boot);
    same_boot = strcmp(boot, json_get_str(root, "boot")) == 0;
    if (json_get_u64(root, "version") != VERSION) {
        return false;
    }
    d->rtt = json_get_bool(root, "rtt");
    for (const struct json_value *v = json_items(root, "nodes"); v != NULL; v = v->next) {
        if (d->count == DEMO_NODES_MAX || !read_node(v, same_boot, d->count, &d->nodes[d->count])) {
            return false;
        }
        d->count++;
    }
    for (const struct json_value *v = json_items(root, "cuts"); v != NULL; v = v->next) {
        if (!read_cut(v, d)) {
            return false;
        }
    }
    d->joined = (uint32_t)json_get_u64(root, "joined");
    return d->count > 0 && json_get_u64(root, "joined") <= d->count;
}

struct status demo_decode(struct bytes text, struct arena *arena, struct demo *out)
{
    const struct json_value *root = NULL;
    const char *dir = out->dir;

    memset(out, 0, sizeof(*out));
    out->dir = dir;
    TRY(json_read(text, arena, &root));
    return read_all(root, out) ? OK
                               : FAIL(STATUS_CORRUPT, "written by another version of dsqlctl, or "
                                                      "changed by hand");
}

/* ---- the file ------------------------------------------------------------------------------------ */

static struct status read_file(const char *path, struct arena *arena, struct buf *out)
{
    char chunk[READ_SIZE];
    FILE *f = fopen(path, "re");
    size_t n = 0;
    struct status st = OK;

    if (f == NULL) {
        return FAIL(errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                    arena_printf(arena, "could not open \"%s\": %s", path, strerror(errno)));
    }
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        TRY_OUT(buf_append(out, chunk, n));
    }
    if (ferror(f) != 0) {
        st = FAIL(STATUS_IO, arena_printf(arena, "could not read \"%s\"", path));
    }
out:
    (void)fclose(f); /* It was only read. */
    return st;
}

struct status demo_load(const char *dir, struct arena *arena, struct demo *out)
{
    const char *path = arena_printf(arena, "%s/demo.json", dir);
    struct buf text;
    struct status st = OK;

    buf_init(&text, FILE_MAX);
    out->dir = dir;
    st = read_file(path, arena, &text);
    if (st.code == STATUS_NOT_FOUND) {
        st = FAIL(STATUS_NOT_FOUND,
                  arena_printf(arena,
                               "there is no demo cluster in \"%s\": start one with dsqlctl "
                               "demo, or say where with --dir DIR",
                               dir));
        goto out;
    }
    TRY_OUT(st);
    st = demo_decode(buf_bytes(&text), arena, out);
    if (!status_ok(st)) {
        st = FAIL(STATUS_CORRUPT, arena_printf(arena, "\"%s\": %s", path, status_text(st)));
    }
out:
    buf_deinit(&text);
    return st;
}

static struct status write_file(const char *path, struct bytes text, struct arena *msg_arena)
{
    const char *fresh = arena_printf(msg_arena, "%s.new", path);
    FILE *f = fopen(fresh, "we");
    bool fine = f != NULL && fwrite(text.ptr, 1, text.len, f) == text.len;

    if (f != NULL) {
        fine = fclose(f) == 0 && fine;
    }
    if (!fine || rename(fresh, path) != 0) {
        return FAIL(STATUS_IO,
                    arena_printf(msg_arena, "could not write \"%s\": %s", path, strerror(errno)));
    }
    return OK;
}

struct status demo_save(const struct demo *d, struct arena *msg_arena)
{
    const char *path = arena_printf(msg_arena, "%s/demo.json", d->dir);
    struct buf text;
    struct status st = OK;

    buf_init(&text, FILE_MAX);
    TRY_OUT(demo_encode(d, &text));
    TRY_OUT(write_file(path, buf_bytes(&text), msg_arena));
out:
    buf_deinit(&text);
    return st;
}
