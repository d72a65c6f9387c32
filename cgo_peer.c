/* Reads the properties of a connection: cipher, group, certificates, exporters. */
#include "cgo_internal.h"

#include <time.h>

/*
 * Returns the TLS number of the key exchange group, or 0. OpenSSL returns a NID if it has one, and otherwise the
 * number of the group with TLSEXT_nid_unknown added. name is OpenSSL's name of the group, or NULL.
 */
static int group_number(const fssl_conn *c, const char **name)
{
    long group = SSL_get0_session(c->ssl) != NULL ? fssl_negotiated_group(c->ssl) : 0; /* 3.0 would crash without a session */

    *name = group != 0 ? fssl_group_name(c->ssl, (int)group) : NULL;
    switch (group) {
    case NID_X9_62_prime256v1:
        return 23;
    case NID_secp384r1:
        return 24;
    case NID_secp521r1:
        return 25;
    case NID_X25519:
        return 29;
    case NID_X448:
        return 30;
    default:
        return (group & 0x1000000) != 0 ? (int)(group & 0xffff) : 0; /* TLSEXT_nid_unknown */
    }
}

/* The signature algorithms of the handshake (RFC 8446 section 4.2.3) and their parts, as OpenSSL reports them. */
static const struct {
    int scheme;
    const char *name;
    int type, digest, key; /* NIDs of the signature, the digest and the key */
} signatures[] = {
    {0x0201, "rsa_pkcs1_sha1", EVP_PKEY_RSA, NID_sha1, EVP_PKEY_RSA},
    {0x0301, "rsa_pkcs1_sha224", EVP_PKEY_RSA, NID_sha224, EVP_PKEY_RSA},
    {0x0401, "rsa_pkcs1_sha256", EVP_PKEY_RSA, NID_sha256, EVP_PKEY_RSA},
    {0x0501, "rsa_pkcs1_sha384", EVP_PKEY_RSA, NID_sha384, EVP_PKEY_RSA},
    {0x0601, "rsa_pkcs1_sha512", EVP_PKEY_RSA, NID_sha512, EVP_PKEY_RSA},
    {0x0202, "dsa_sha1", EVP_PKEY_DSA, NID_sha1, EVP_PKEY_DSA},
    {0x0302, "dsa_sha224", EVP_PKEY_DSA, NID_sha224, EVP_PKEY_DSA},
    {0x0402, "dsa_sha256", EVP_PKEY_DSA, NID_sha256, EVP_PKEY_DSA},
    {0x0502, "dsa_sha384", EVP_PKEY_DSA, NID_sha384, EVP_PKEY_DSA},
    {0x0602, "dsa_sha512", EVP_PKEY_DSA, NID_sha512, EVP_PKEY_DSA},
    {0x0203, "ecdsa_sha1", EVP_PKEY_EC, NID_sha1, EVP_PKEY_EC},
    {0x0303, "ecdsa_sha224", EVP_PKEY_EC, NID_sha224, EVP_PKEY_EC},
    {0x0403, "ecdsa_secp256r1_sha256", EVP_PKEY_EC, NID_sha256, EVP_PKEY_EC},
    {0x0503, "ecdsa_secp384r1_sha384", EVP_PKEY_EC, NID_sha384, EVP_PKEY_EC},
    {0x0603, "ecdsa_secp521r1_sha512", EVP_PKEY_EC, NID_sha512, EVP_PKEY_EC},
    {0x0804, "rsa_pss_rsae_sha256", EVP_PKEY_RSA_PSS, NID_sha256, EVP_PKEY_RSA},
    {0x0805, "rsa_pss_rsae_sha384", EVP_PKEY_RSA_PSS, NID_sha384, EVP_PKEY_RSA},
    {0x0806, "rsa_pss_rsae_sha512", EVP_PKEY_RSA_PSS, NID_sha512, EVP_PKEY_RSA},
    {0x0807, "ed25519", EVP_PKEY_ED25519, NID_undef, EVP_PKEY_ED25519},
    {0x0808, "ed448", EVP_PKEY_ED448, NID_undef, EVP_PKEY_ED448},
    {0x0809, "rsa_pss_pss_sha256", EVP_PKEY_RSA_PSS, NID_sha256, EVP_PKEY_RSA_PSS},
    {0x080a, "rsa_pss_pss_sha384", EVP_PKEY_RSA_PSS, NID_sha384, EVP_PKEY_RSA_PSS},
    {0x080b, "rsa_pss_pss_sha512", EVP_PKEY_RSA_PSS, NID_sha512, EVP_PKEY_RSA_PSS},
    /* These are only found by their names. */
    {0x081a, "ecdsa_brainpoolP256r1tls13_sha256", -1, 0, 0},
    {0x081b, "ecdsa_brainpoolP384r1tls13_sha384", -1, 0, 0},
    {0x081c, "ecdsa_brainpoolP512r1tls13_sha512", -1, 0, 0},
    {0x0904, "mldsa44", -1, 0, 0},
    {0x0905, "mldsa65", -1, 0, 0},
    {0x0906, "mldsa87", -1, 0, 0},
};

/* Sets the algorithm with which this side or the peer has signed the last handshake, if it has signed one. */
static void set_signature(const fssl_conn *c, fssl_facts *facts, const SSL_CIPHER *cipher, int own)
{
    const SSL_SESSION *session = SSL_get0_session(c->ssl);
    int type = NID_undef, digest = NID_undef, of_peer = !own, known;
    const char *name = NULL;
    EVP_PKEY *key = NULL;
    X509 *cert;
    size_t i;

    if (own == !c->client ? SSL_CIPHER_get_kx_nid(cipher) == NID_kx_rsa || SSL_CIPHER_get_auth_nid(cipher) == NID_auth_null
                          : own ? facts->shown < 0 : !facts->requested)
        return; /* a server that signs nothing, or a client that is not asked for a certificate */
    known = fssl_signature_name(c->ssl, own, &name) == 1 && name != NULL;
    if (!known) {
        if ((own ? SSL_get_signature_type_nid(c->ssl, &type) : SSL_get_peer_signature_type_nid(c->ssl, &type)) != 1)
            return;
        if ((own ? SSL_get_signature_nid(c->ssl, &digest) : SSL_get_peer_signature_nid(c->ssl, &digest)) != 1)
            digest = NID_undef;
        cert = own ? SSL_get_certificate(c->ssl) : c->server_sessions.leaf;
        if (cert == NULL && !own && session != NULL)
            cert = SSL_SESSION_get0_peer((SSL_SESSION *)session);
        key = cert != NULL ? X509_get0_pubkey(cert) : NULL;
    }
    facts->signature[of_peer].name = name;
    for (i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++)
        if (known ? strcmp(signatures[i].name, name) == 0
                  : signatures[i].type == type && signatures[i].digest == digest && key != NULL && signatures[i].key == EVP_PKEY_base_id(key)) {
            facts->signature[of_peer].name = signatures[i].name;
            facts->signature[of_peer].scheme = signatures[i].scheme;
            return;
        }
}

/* Returns the size of the prime that the server has chosen for DHE, or 0. A server does not know it any more. */
static int dh_bits(const fssl_conn *c)
{
    EVP_PKEY *key = NULL;
    int bits = 0;

    if (c->client && SSL_get_peer_tmp_key(c->ssl, &key) == 1 && EVP_PKEY_base_id(key) == EVP_PKEY_DH)
        bits = EVP_PKEY_bits(key);
    EVP_PKEY_free(key);
    return bits;
}

/* Reports whether the server has asked the client for a certificate in the last handshake. */
static int requested(const fssl_conn *c, const SSL_CIPHER *cipher)
{
    int auth = SSL_CIPHER_get_auth_nid(cipher);

    if (SSL_session_reused(c->ssl))
        return 0;
    if (c->client)
        return c->request.asked && c->request.round == SSL_total_renegotiations(c->ssl);
    return (SSL_get_verify_mode(c->ssl) & SSL_VERIFY_PEER) != 0 && auth != NID_auth_null && auth != NID_auth_psk;
}

/* Sets the facts about the last handshake, which is complete. */
static void set_handshake_facts(const fssl_conn *c, fssl_facts *facts, const SSL_CIPHER *cipher)
{
    const SSL_SESSION *session = SSL_get0_session(c->ssl);

    facts->requested = requested(c, cipher);
    if (!facts->resumed && facts->version >= TLS1_2_VERSION) { /* earlier versions sign with fixed algorithms */
        set_signature(c, facts, cipher, 1);
        set_signature(c, facts, cipher, 0);
    }
    if (SSL_CIPHER_get_kx_nid(cipher) == NID_kx_dhe && !facts->resumed)
        facts->dh_bits = dh_bits(c);
    if (session == NULL)
        return;
    facts->session_timeout = (int64_t)SSL_SESSION_get_timeout(session);
    facts->ticket = c->client && SSL_SESSION_has_ticket(session);
    if (facts->ticket)
        facts->ticket_lifetime = SSL_SESSION_get_ticket_lifetime_hint(session);
}

void fssl_conn_facts(const fssl_conn *c, fssl_facts *facts)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);

    memset(facts, 0, sizeof(*facts));
    facts->version = SSL_version(c->ssl);
    if (cipher != NULL) {
        facts->cipher = SSL_CIPHER_get_name(cipher);
        facts->suite = SSL_CIPHER_get_protocol_id(cipher);
        facts->bits = SSL_CIPHER_get_bits(cipher, NULL);
    }
    facts->group = group_number(c, &facts->group_name);
    SSL_get0_alpn_selected(c->ssl, &facts->alpn, &facts->alpn_len);
    facts->server_name = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
    facts->resumed = SSL_session_reused(c->ssl);
    facts->not_resumed = facts->resumed ? FSSL_RESUMABLE : c->server_sessions.not_resumed;
    /* In TLS 1.3 the master secret is always bound to its handshake. */
    facts->extended_secret = facts->version >= TLS1_3_VERSION || SSL_get_extms_support(c->ssl) == 1;
    facts->shown = fssl_shown(c);
    facts->renegotiations = SSL_total_renegotiations(c->ssl);
    facts->secure_renegotiation = facts->version >= TLS1_3_VERSION || SSL_get_secure_renegotiation_support(c->ssl) == 1;
    facts->received = BIO_number_read(SSL_get_rbio(c->ssl));
    facts->sent = c->wire.discard ? c->wire.made : BIO_number_written(SSL_get_wbio(c->ssl));
    clear_errors();
    if (cipher != NULL && c->handshaken)
        set_handshake_facts(c, facts, cipher);
    clear_errors();
}

/* Returns the size of the stapled OCSP response that a client received. The response belongs to the SSL. */
size_t fssl_conn_ocsp(const fssl_conn *c, const unsigned char **response)
{
    const fssl_resume *r = fssl_resumption(c);
    long n;

    if (r != NULL) {
        *response = r->ocsp;
        return r->ocsp_len;
    }
    n = SSL_get_tlsext_status_ocsp_resp(c->ssl, response);
    return n > 0 && *response != NULL ? (size_t)n : 0;
}

/* Copies the Finished message of one side, for tls-unique (RFC 5929), and returns its full size. */
size_t fssl_conn_finished(const fssl_conn *c, int of_peer, unsigned char *buf, size_t cap)
{
    return of_peer ? SSL_get_peer_finished(c->ssl, buf, cap) : SSL_get_finished(c->ssl, buf, cap);
}

int fssl_conn_export(fssl_conn *c, unsigned char *out, size_t len, const char *label, size_t label_len, const unsigned char *context,
                     size_t context_len, int use_context, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_export_keying_material(c->ssl, out, len, label, label_len, context, context_len, use_context) == 1, errs);
}

/* Returns the suites that the client offered to this server. The caller frees them with OPENSSL_free. */
char *fssl_conn_offered(fssl_conn *c)
{
    return fssl_join_names(SSL_get_client_ciphers(c->ssl));
}

/* Returns the number of certificates in the chain that OpenSSL built, leaf first. The chain belongs to the SSL. */
int fssl_conn_chain(const fssl_conn *c, STACK_OF(X509) **chain)
{
    const fssl_resume *r = fssl_resumption(c);

    *chain = r != NULL ? r->built : SSL_get0_verified_chain(c->ssl);
    return *chain != NULL ? sk_X509_num(*chain) : 0;
}

/*
 * Returns the certificates that the peer sent, or -1 if there was no memory to keep them. On a server that accepted
 * them, chain does not have the client's own certificate, and own is a reference to it.
 */
int fssl_conn_sent(const fssl_conn *c, STACK_OF(X509) **chain, X509 **own)
{
    const fssl_resume *r = fssl_resumption(c);

    if (c->verdict.refused != 0) {
        *chain = c->verdict.shown;
        *own = NULL;
        return *chain != NULL ? sk_X509_num(*chain) : -1;
    }
    *chain = r != NULL ? r->sent : SSL_get_peer_cert_chain(c->ssl);
    *own = c->client || r != NULL ? NULL : fssl_own_certificate(c);
    return *chain != NULL ? sk_X509_num(*chain) : 0;
}

X509 *fssl_chain_cert(STACK_OF(X509) *chain, int i)
{
    return sk_X509_value(chain, i);
}

/*
 * Returns X509_NAME_oneline of the subject or issuer, or NULL if memory is short. OpenSSL then can leave out a part of
 * an attribute's type and return the rest of the name. The caller frees the result with OPENSSL_free.
 */
char *fssl_cert_name(const X509 *cert, int issuer)
{
    const X509_NAME *name = issuer ? X509_get_issuer_name(cert) : X509_get_subject_name(cert);
    fssl_errors errs;
    int i;

    for (i = 0; i < 2; i++) {
        char *text;

        clear_errors();
        text = X509_NAME_oneline(name, NULL, 0);
        if (!fssl_starved(0, &errs) && text != NULL)
            return text;
        OPENSSL_free(text);
    }
    return NULL;
}

/*
 * Writes a name to text, a memory BIO, in the form of RFC 2253. Returns 1, 0 if OpenSSL cannot print the name, or -1 if
 * memory is short. OpenSSL does not always report that, and then can leave out a part of an attribute's type.
 */
int fssl_print_name(BIO *text, const X509_NAME *name)
{
    fssl_errors errs;
    int i, starved = 0;

    for (i = 0; i < 2; i++) {
        int n;

        clear_errors();
        (void)BIO_reset(text);
        n = X509_NAME_print_ex(text, name, 0, XN_FLAG_RFC2253);
        starved = fssl_starved(0, &errs);
        if (n >= 0 && !starved)
            return 1;
    }
    return starved ? -1 : 0;
}

/* Returns the serial's magnitude, big endian, as the original returns it. It belongs to cert. */
const unsigned char *fssl_cert_serial(const X509 *cert, int *len, int *negative)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);

    *len = ASN1_STRING_length(serial);
    *negative = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
    return ASN1_STRING_get0_data(serial);
}

/* Converts a date to seconds since 1970. Returns 0 if when is NULL or OpenSSL cannot read it. */
int fssl_seconds(int64_t *seconds, const ASN1_TIME *when)
{
    struct tm tm;

    if (when == NULL || ASN1_TIME_to_tm(when, &tm) != 1) /* for NULL it would return the current time */
        return 0;
    *seconds = (int64_t)timegm(&tm);
    return 1;
}

/* Returns the validity dates of cert in seconds since 1970. Fails if one cannot be read. */
int fssl_cert_dates(const X509 *cert, int64_t *not_before, int64_t *not_after)
{
    int ok;

    clear_errors();
    ok = fssl_seconds(not_before, X509_get0_notBefore(cert)) && fssl_seconds(not_after, X509_get0_notAfter(cert));
    clear_errors();
    return ok;
}

/* A list of names, which grows. */
typedef struct names {
    unsigned char *list;
    size_t len, cap;
    int starved;
} names;

/* Appends a name: its type, four bytes of length, big endian, and its bytes. */
static void put_name(names *names, int type, const void *value, size_t n)
{
    unsigned char *p;

    if (names->starved)
        return;
    if (names->list == NULL || names->cap - names->len < 5 + n) {
        size_t cap = 2 * names->cap + 5 + n;

        p = OPENSSL_realloc(names->list, cap);
        if (p == NULL) {
            names->starved = 1;
            return;
        }
        names->list = p;
        names->cap = cap;
    }
    p = names->list + names->len;
    p[0] = (unsigned char)type;
    p[1] = (unsigned char)(n >> 24), p[2] = (unsigned char)(n >> 16), p[3] = (unsigned char)(n >> 8), p[4] = (unsigned char)n;
    if (n > 0)
        memcpy(p + 5, value, n);
    names->len += 5 + n;
}

/* Ends an operation that failed: notes whether memory was short. */
static void note_failure(names *names)
{
    fssl_errors errs;

    if (fssl_starved(0, &errs))
        names->starved = 1;
}

/* Ends an operation on one name that failed: the name becomes an empty one, unless memory is short. */
static void put_unreadable(names *names, int type)
{
    note_failure(names);
    put_name(names, type, NULL, 0);
}

/* Appends a distinguished name in the form of RFC 2253. */
static void put_dn(names *names, int type, const X509_NAME *dn)
{
    BIO *text = BIO_new(BIO_s_mem());
    int printed = text != NULL ? fssl_print_name(text, dn) : -1;
    char *p = NULL;

    if (printed < 0) {
        names->starved = 1;
    } else if (!printed) {
        put_name(names, type, NULL, 0);
    } else {
        long n = BIO_get_mem_data(text, &p);

        put_name(names, type, p, (size_t)n);
    }
    BIO_free(text);
}

/* Appends the common names of a distinguished name in UTF-8. */
static void put_common_names(names *names, const X509_NAME *dn)
{
    int i;

    for (i = 0; i < X509_NAME_entry_count(dn); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(dn, i);
        unsigned char *text = NULL;
        int n = -1, j;

        if (OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)) != NID_commonName)
            continue;
        for (j = 0; j < 2 && n < 0; j++) /* a lack of memory is not always reported */
            n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
        if (n < 0)
            put_unreadable(names, FSSL_COMMON_NAME);
        else
            put_name(names, FSSL_COMMON_NAME, text, (size_t)n);
        OPENSSL_free(text);
    }
}

/*
 * Returns the names of cert: subject, issuer, the subject's common names, and the DNS names, mail addresses, URIs and
 * IP addresses in its subjectAltName, as put_name writes them. The caller frees the result with OPENSSL_free. It is
 * NULL if memory is short.
 */
unsigned char *fssl_cert_names(const X509 *cert, size_t *len, int *found)
{
    GENERAL_NAMES *alt = NULL;
    names names = {NULL, 0, 0, 0};
    int i, critical = 0;

    clear_errors();
    put_dn(&names, FSSL_SUBJECT, X509_get_subject_name(cert));
    put_dn(&names, FSSL_ISSUER, X509_get_issuer_name(cert));
    put_common_names(&names, X509_get_subject_name(cert));
    for (i = 0; i < 2 && alt == NULL && critical != -1; i++) /* a lack of memory is not always reported */
        alt = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    *found = alt != NULL ? FSSL_ALT_NAMES : critical == -1 ? FSSL_NO_ALT_NAMES : FSSL_BAD_ALT_NAMES;
    if (*found == FSSL_BAD_ALT_NAMES)
        note_failure(&names);
    for (i = 0; i < sk_GENERAL_NAME_num(alt); i++) {
        int type;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(alt, i), &type);

        if (type == GEN_DNS || type == GEN_IPADD || type == GEN_EMAIL || type == GEN_URI)
            put_name(&names, type, ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    }
    GENERAL_NAMES_free(alt);
    clear_errors();
    if (names.starved) {
        OPENSSL_free(names.list);
        return NULL;
    }
    *len = names.len;
    return names.list;
}
