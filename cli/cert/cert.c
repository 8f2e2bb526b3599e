/*
 * cert.c -- X.509 with mbedTLS's writer.
 *
 * The library has no helpers for alternative names and extended key usage, so these two extensions
 * are written here, backwards as its ASN.1 writer wants it:
 *
 *     SubjectAltName   SEQUENCE { [2] dNSName | [7] iPAddress (4 or 16 bytes), ... }
 *     ExtKeyUsage      SEQUENCE { OID serverAuth?, OID clientAuth }
 *
 * A file is written under its name with ".new" and then renamed, so that no half of a key stays
 * behind; a file that exists is looked for first, and again by link(), which does not replace.
 */
#include "cli/cert/cert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/asn1write.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "node/base/bytes.h"

#define PEM_MAX         16384u
#define EXTENSION_MAX   8192u
#define DNS_NAME_MAX    253u
#define SERIAL_BYTES    16u
#define TIME_TEXT_BYTES 16u
#define SECONDS_PER_DAY 86400u
#define CLOCK_SKEW_S    3600u
#define TAG_DNS         (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2)
#define TAG_IP          (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7)
#define TAG_SEQUENCE    (MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE)
#define MODE_KEY        0600
#define MODE_CERT       0644
#define PERSONALISATION "dsql certificates"
#define CA_SUBJECT      "CN=dsql CA,O=dsql"
#define SUBJECT_MAX     128u

/* A buffer that is filled from its end. */
struct backwards {
    unsigned char bytes[EXTENSION_MAX];
    unsigned char *p;
    int rc; /* First error of the library, or 0. */
    size_t len;
};

/* Everything that one certificate takes. On the heap: it is some 40 KiB. */
struct work {
    const struct cert_options *o;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_pk_context key;    /* Of the new certificate. */
    mbedtls_pk_context ca_key; /* Of the signer; unused for the CA itself. */
    mbedtls_x509_crt ca;
    mbedtls_x509write_cert crt;
    mbedtls_mpi serial;
    struct backwards ext; /* Of the extension being written. */
};

enum kind {
    KIND_CA,
    KIND_NODE,
    KIND_CLIENT,
};

static NOYIELD struct status failed(const struct work *w, const char *what, int rc)
{
    char text[128] = "";

    mbedtls_strerror(rc, text, sizeof(text));
    return FAIL(STATUS_INVALID, arena_printf(w->o->msg_arena, "could not %s: %s", what, text));
}

static NOYIELD struct status file_failed(const struct work *w, const char *what, const char *path)
{
    return FAIL(STATUS_IO, arena_printf(w->o->msg_arena, "could not %s \"%s\": %s", what, path,
                                        strerror(errno)));
}

static NOYIELD const char *path_of(const struct work *w, const char *stem, const char *suffix)
{
    return arena_printf(w->o->msg_arena, "%s/%s%s", w->o->dir, stem, suffix);
}

/* --- Files --------------------------------------------------------------------------------- */

static NOYIELD struct status check_absent(const struct work *w, const char *path)
{
    if (!w->o->overwrite && access(path, F_OK) == 0) {
        return FAIL(STATUS_EXISTS, arena_printf(w->o->msg_arena, "\"%s\" exists already", path));
    }
    return OK;
}

static NOYIELD struct status write_all(const struct work *w, const char *path, int mode,
                                       const char *text)
{
    const size_t size = strlen(text);
    struct status st = OK;
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    if (fd < 0) {
        return file_failed(w, "create", path);
    }
    if (write(fd, text, size) != (ssize_t)size || fsync(fd) != 0) {
        st = file_failed(w, "write", path);
    }
    if (close(fd) != 0 && status_ok(st)) {
        st = file_failed(w, "write", path);
    }
    return st;
}

static NOYIELD struct status write_file(const struct work *w, const char *path, int mode,
                                        const char *text)
{
    const char *fresh = arena_printf(w->o->msg_arena, "%s.new", path);
    struct status st = OK;

    (void)unlink(fresh); /* Left by an attempt that was killed. */
    TRY_OUT(write_all(w, fresh, mode, text));
    if (w->o->overwrite) {
        if (rename(fresh, path) != 0) {
            st = file_failed(w, "create", path);
        }
    } else if (link(fresh, path) != 0) {
        st = errno == EEXIST ? check_absent(w, path) : file_failed(w, "create", path);
    }
out:
    (void)unlink(fresh); /* Renamed, linked, or half written. */
    return st;
}

/* --- Extensions ---------------------------------------------------------------------------- */

static NOYIELD void backwards_init(struct backwards *b)
{
    b->p = b->bytes + sizeof(b->bytes);
    b->rc = 0;
    b->len = 0;
}

static NOYIELD void backwards_add(struct backwards *b, int written)
{
    if (written < 0 && b->rc == 0) {
        b->rc = written;
    } else if (b->rc == 0) {
        b->len += (size_t)written;
    }
}

static NOYIELD void add_tagged(struct backwards *b, const void *data, size_t size, unsigned tag)
{
    if (b->rc == 0) {
        backwards_add(b, mbedtls_asn1_write_raw_buffer(&b->p, b->bytes, data, size));
    }
    if (b->rc == 0) {
        backwards_add(b, mbedtls_asn1_write_len(&b->p, b->bytes, size));
    }
    if (b->rc == 0) {
        backwards_add(b, mbedtls_asn1_write_tag(&b->p, b->bytes, (unsigned char)tag));
    }
}

static NOYIELD int set_sequence(struct work *w, struct backwards *b, const char *oid,
                                size_t oid_size)
{
    const size_t inside = b->len;

    if (b->rc == 0) {
        backwards_add(b, mbedtls_asn1_write_len(&b->p, b->bytes, inside));
    }
    if (b->rc == 0) {
        backwards_add(b, mbedtls_asn1_write_tag(&b->p, b->bytes, TAG_SEQUENCE));
    }
    return b->rc != 0
               ? b->rc
               : mbedtls_x509write_crt_set_extension(&w->crt, oid, oid_size, 0, b->p, b->len);
}

static NOYIELD int set_key_usages(struct work *w, enum kind kind)
{
    struct backwards *b = &w->ext;

    backwards_init(b);
    backwards_add(b, mbedtls_asn1_write_oid(&b->p, b->bytes, MBEDTLS_OID_CLIENT_AUTH,
                                            MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)));
    if (kind == KIND_NODE && b->rc == 0) {
        backwards_add(b, mbedtls_asn1_write_oid(&b->p, b->bytes, MBEDTLS_OID_SERVER_AUTH,
                                                MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)));
    }
    return set_sequence(w, b, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                        MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE));
}

static NOYIELD int set_names(struct work *w, const char *const *names, uint32_t count)
{
    struct backwards *b = &w->ext;

    backwards_init(b);
    for (uint32_t i = count; i-- > 0;) {
        unsigned char raw[16];

        if (inet_pton(AF_INET, names[i], raw) == 1) {
            add_tagged(b, raw, 4, TAG_IP);
        } else if (inet_pton(AF_INET6, names[i], raw) == 1) {
            add_tagged(b, raw, 16, TAG_IP);
        } else {
            add_tagged(b, names[i], strlen(names[i]), TAG_DNS);
        }
    }
    add_tagged(b, CERT_NODE_NAME, strlen(CERT_NODE_NAME), TAG_DNS);
    return set_sequence(w, b, MBEDTLS_OID_SUBJECT_ALT_NAME,
                        MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME));
}

/* --- Certificates -------------------------------------------------------------------------- */

static NOYIELD void work_init(struct work *w, const struct cert_options *o)
{
    w->o = o;
    mbedtls_entropy_init(&w->entropy);
    mbedtls_ctr_drbg_init(&w->random);
    mbedtls_pk_init(&w->key);
    mbedtls_pk_init(&w->ca_key);
    mbedtls_x509_crt_init(&w->ca);
    mbedtls_x509write_crt_init(&w->crt);
    mbedtls_mpi_init(&w->serial);
}

static NOYIELD void work_deinit(struct work *w)
{
    mbedtls_mpi_free(&w->serial);
    mbedtls_x509write_crt_free(&w->crt);
    mbedtls_x509_crt_free(&w->ca);
    mbedtls_pk_free(&w->ca_key);
    mbedtls_pk_free(&w->key);
    mbedtls_ctr_drbg_free(&w->random);
    mbedtls_entropy_free(&w->entropy);
}

static NOYIELD struct status make_key(struct work *w)
{
    int rc =
        mbedtls_ctr_drbg_seed(&w->random, mbedtls_entropy_func, &w->entropy,
                              (const unsigned char *)PERSONALISATION, sizeof(PERSONALISATION) - 1);

    if (rc == 0) {
        rc = mbedtls_pk_setup(&w->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    }
    if (rc == 0) {
        rc = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(w->key),
                                 mbedtls_ctr_drbg_random, &w->random);
    }
    return rc == 0 ? OK : failed(w, "make a key", rc);
}

static NOYIELD struct status load_ca(struct work *w)
{
    const char *crt = path_of(w, "ca", ".crt");
    const char *key = path_of(w, "ca", ".key");
    int rc = mbedtls_x509_crt_parse_file(&w->ca, crt);

    if (rc != 0) {
        return failed(w, arena_printf(w->o->msg_arena, "read \"%s\" (create the CA first)", crt),
                      rc);
    }
    rc = mbedtls_pk_parse_keyfile(&w->ca_key, key, NULL);
    if (rc != 0) {
        return failed(w, arena_printf(w->o->msg_arena, "read \"%s\"", key), rc);
    }
    rc = mbedtls_pk_check_pair(&w->ca.pk, &w->ca_key);
    return rc == 0 ? OK : failed(w, "use the CA: its certificate does not fit its key", rc);
}

static NOYIELD bool time_text(uint64_t unix_s, char out[TIME_TEXT_BYTES])
{
    const time_t t = (time_t)unix_s;
    struct tm parts;

    return gmtime_r(&t, &parts) != NULL &&
           strftime(out, TIME_TEXT_BYTES, "%Y%m%d%H%M%S", &parts) > 0;
}

static NOYIELD int set_validity(struct work *w, uint32_t days)
{
    const uint64_t now_s = w->o->now_unix_s != 0 ? w->o->now_unix_s : (uint64_t)time(NULL);
    char from[TIME_TEXT_BYTES];
    char to[TIME_TEXT_BYTES];

    if (!time_text(now_s - CLOCK_SKEW_S, from) ||
        !time_text(now_s + (uint64_t)days * SECONDS_PER_DAY, to)) {
        return MBEDTLS_ERR_X509_BAD_INPUT_DATA;
    }
    return mbedtls_x509write_crt_set_validity(&w->crt, from, to);
}

static NOYIELD int set_serial(struct work *w)
{
    unsigned char bytes[SERIAL_BYTES];
    int rc = mbedtls_ctr_drbg_random(&w->random, bytes, sizeof(bytes));

    bytes[0] = (unsigned char)((bytes[0] & 0x7F) | 0x40); /* Positive, and never shorter. */
    if (rc == 0) {
        rc = mbedtls_mpi_read_binary(&w->serial, bytes, sizeof(bytes));
    }
    return rc != 0 ? rc : mbedtls_x509write_crt_set_serial(&w->crt, &w->serial);
}

static NOYIELD int set_issuer(struct work *w, enum kind kind)
{
    char issuer[SUBJECT_MAX * 2] = CA_SUBJECT;

    mbedtls_x509write_crt_set_issuer_key(&w->crt, kind == KIND_CA ? &w->key : &w->ca_key);
    if (kind != KIND_CA) {
        const int n = mbedtls_x509_dn_gets(issuer, sizeof(issuer), &w->ca.subject);

        if (n < 0) {
            return n;
        }
    }
    return mbedtls_x509write_crt_set_issuer_name(&w->crt, issuer);
}

static NOYIELD int fill(struct work *w, enum kind kind, const char *subject, uint32_t days)
{
    const unsigned usage = kind == KIND_CA
                               ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
                               : MBEDTLS_X509_KU_DIGITAL_SIGNATURE;
    int rc = 0;

    mbedtls_x509write_crt_set_version(&w->crt, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w->crt, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w->crt, &w->key);
    rc = mbedtls_x509write_crt_set_subject_name(&w->crt, subject);
    if (rc == 0) {
        rc = set_issuer(w, kind);
    }
    if (rc == 0) {
        rc = set_serial(w);
    }
    if (rc == 0) {
        rc = set_validity(w, days);
    }
    if (rc == 0) {
        rc = mbedtls_x509write_crt_set_basic_constraints(&w->crt, kind == KIND_CA,
                                                         kind == KIND_CA ? 0 : -1);
    }
    if (rc == 0) {
        rc = mbedtls_x509write_crt_set_key_usage(&w->crt, usage);
    }
    if (rc == 0) {
        rc = mbedtls_x509write_crt_set_subject_key_identifier(&w->crt);
    }
    if (rc == 0) {
        rc = mbedtls_x509write_crt_set_authority_key_identifier(&w->crt);
    }
    return rc;
}

static NOYIELD struct status save(struct work *w, const char *crt_path, const char *key_path)
{
    char *pem = arena_alloc(w->o->msg_arena, PEM_MAX, 1);
    int rc = 0;
    struct status st = OK;

    if (pem == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    rc = mbedtls_pk_write_key_pem(&w->key, (unsigned char *)pem, PEM_MAX);
    if (rc != 0) {
        return failed(w, "write the key", rc);
    }
    st = write_file(w, key_path, MODE_KEY, pem);
    memset(pem, 0, PEM_MAX);
    TRY(st);
    rc = mbedtls_x509write_crt_pem(&w->crt, (unsigned char *)pem, PEM_MAX, mbedtls_ctr_drbg_random,
                                   &w->random);
    return rc == 0 ? write_file(w, crt_path, MODE_CERT, pem)
                   : failed(w, "write the certificate", rc);
}

static NOYIELD struct status create(struct work *w, enum kind kind, const char *stem,
                                    const char *subject, const char *const *names, uint32_t count)
{
    const uint32_t standard = kind == KIND_CA ? CERT_DAYS_CA_DEFAULT : CERT_DAYS_DEFAULT;
    const uint32_t days = w->o->days == 0 ? standard : w->o->days;
    const char *crt_path = path_of(w, stem, ".crt");
    const char *key_path = path_of(w, stem, ".key");
    int rc = 0;

    if (days > CERT_DAYS_MAX) {
        return FAIL(STATUS_INVALID, "a certificate cannot be valid for more than 36500 days");
    }
    TRY(check_absent(w, crt_path));
    TRY(check_absent(w, key_path));
    TRY(make_key(w));
    if (kind != KIND_CA) {
        TRY(load_ca(w));
    }
    rc = fill(w, kind, subject, days);
    if (rc == 0 && kind != KIND_CA) {
        rc = set_key_usages(w, kind);
    }
    if (rc == 0 && kind == KIND_NODE) {
        rc = set_names(w, names, count);
    }
    return rc == 0 ? save(w, crt_path, key_path) : failed(w, "make the certificate", rc);
}

static NOYIELD struct status run(const struct cert_options *o, enum kind kind, const char *stem,
                                 const char *subject, const char *const *names, uint32_t count)
{
    struct work *w = calloc(1, sizeof(*w));
    struct status st = OK;

    if (w == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    work_init(w, o);
    st = create(w, kind, stem, subject, names, count);
    work_deinit(w);
    free(w);
    return st;
}

struct status cert_create_ca(const struct cert_options *o)
{
    return run(o, KIND_CA, "ca", CA_SUBJECT, NULL, 0);
}

static NOYIELD bool only_of(const char *text, const char *marks)
{
    for (; *text != '\0'; text++) {
        const bool letter = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z');

        if (!letter && !(*text >= '0' && *text <= '9') && strchr(marks, *text) == NULL) {
            return false;
        }
    }
    return true;
}

struct status cert_create_node(const struct cert_options *o, const char *const *names,
                               uint32_t count)
{
    if (count > CERT_NAMES_MAX) {
        return FAIL(STATUS_INVALID, "a node has too many names");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (names[i][0] == '\0' || strlen(names[i]) > DNS_NAME_MAX || !only_of(names[i], "-._:*")) {
            return FAIL(STATUS_INVALID,
                        arena_printf(o->msg_arena, "\"%s\" is no host name or address", names[i]));
        }
    }
    return run(o, KIND_NODE, "node", "CN=" CERT_NODE_NAME ",O=dsql", names, count);
}

struct status cert_create_client(const struct cert_options *o, const char *user)
{
    /* The name goes into a file's name and into a comma-separated subject. */
    if (user[0] == '\0' || strlen(user) > CERT_USER_NAME_MAX || !only_of(user, "_.@-") ||
        user[0] == '.') {
        return FAIL(
            STATUS_INVALID,
            arena_printf(o->msg_arena, "\"%s\" is no name for a client's certificate", user));
    }
    return run(o, KIND_CLIENT, arena_printf(o->msg_arena, "client.%s", user),
               arena_printf(o->msg_arena, "CN=%s,O=dsql", user), NULL, 0);
}
