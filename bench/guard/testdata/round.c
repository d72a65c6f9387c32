/*
 * The same round trips three times, under callgrind: through the C side of the
 * library, in C over BIO_s_mem, and in C over plain buffers. Before each part
 * the counters are cleared, and after it they are dumped under its name.
 *
 *	round PKI-FOLDER
 *
 * No Go takes part: the library's cgo_*.c are linked, and the C files of cend are compiled in.
 */
#include "cgo_helpers.h"

#include "system.c"

#include "flat.c"

#include "cend.c"

#include "cipher.c"

#include <stdio.h>
#include <valgrind/callgrind.h>

enum { ROUNDS = 50, SHAKES = 5 };

static char path[8][512];

static const char *in_pki(int slot, const char *dir, const char *name)
{
    snprintf(path[slot], sizeof(path[slot]), "%s/%s", dir, name);
    return path[slot];
}

static void fail(const char *what)
{
    fprintf(stderr, "round: %s\n", what);
    exit(1);
}

/* begin and finish enclose a part. */
static void begin(void)
{
    CALLGRIND_ZERO_STATS;
}

static void finish(const char *name, size_t size, int n)
{
    char text[64];

    snprintf(text, sizeof(text), "%s %zu %d", name, size, n);
    CALLGRIND_DUMP_STATS_AT(text);
}

typedef struct half {
    fssl_conn *c;
    unsigned char wire[1 << 20];
    size_t len;
} half;

/* Does what Filter.Outgoing and Filter.Receive call. */
static void outgoing(half *h, const unsigned char *plain, size_t len)
{
    if (len > 0) {
        fssl_send((uintptr_t)h->c, h->wire, sizeof(h->wire), plain, len);
        if (h->c->status != FSSL_OK)
            fail("fssl_send");
        h->len = h->c->wire_len;
    } else {
        h->len = fssl_fetch(h->c, h->wire, sizeof(h->wire));
    }
}

static void receive(half *to, const half *from, unsigned char *plain, size_t cap)
{
    fssl_receive((uintptr_t)to->c, plain, cap, from->wire, from->len);
    if (to->c->status != FSSL_OK)
        fail("fssl_receive");
}

static void connect_halves(half *client, half *server, SSL_CTX *client_ctx, SSL_CTX *server_ctx)
{
    static unsigned char plain[1 << 16];
    int i;

    client->c = fssl_conn_new(client_ctx, NULL, 1, SSL_VERIFY_PEER, FSSL_ENFORCE, NULL, 0, NULL);
    server->c = fssl_conn_new(server_ctx, NULL, 0, SSL_VERIFY_NONE, FSSL_RECORD, NULL, 0, NULL);
    if (client->c == NULL || server->c == NULL || fssl_conn_set_name(client->c, "localhost", "localhost", NULL, NULL) != 1)
        fail("fssl_conn_new");
    server->len = 0;
    receive(client, server, plain, sizeof(plain)); /* starts the handshake */
    for (i = 0; i < 4 && !(client->c->handshaken && server->c->handshaken); i++) {
        outgoing(client, NULL, 0);
        receive(server, client, plain, sizeof(plain));
        outgoing(server, NULL, 0);
        receive(client, server, plain, sizeof(plain));
    }
    if (!client->c->handshaken || !server->c->handshaken)
        fail("no handshake");
}

static void through_library(cend *c)
{
    static half client, server;
    static unsigned char message[1 << 18], plain[1 << 19];
    static const size_t sizes[] = {64, 1024, 16384};
    size_t i;
    int j;

    connect_halves(&client, &server, c->client, c->server);
    for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        for (j = 0; j < ROUNDS + 2; j++) {
            if (j == 2) /* the first two let the buffers grow */
                begin();
            outgoing(&client, message, sizes[i]);
            receive(&server, &client, plain, sizeof(plain));
            if (server.c->plain_len != sizes[i])
                fail("bytes are missing");
        }
        finish("library", sizes[i], ROUNDS);
    }
    fssl_conn_free(client.c);
    fssl_conn_free(server.c);
    begin();
    for (j = 0; j < SHAKES; j++) {
        connect_halves(&client, &server, c->client, c->server);
        fssl_conn_free(client.c);
        fssl_conn_free(server.c);
    }
    finish("library", 0, SHAKES);
}

static void in_c(cend *c, const char *name)
{
    static const size_t sizes[] = {64, 1024, 16384};
    size_t i;
    int j;

    for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        ends e;

        cend_room(c, sizes[i]);
        if (!cend_shake(c, &e, NULL))
            fail("no handshake in C");
        for (j = 0; j < ROUNDS + 2; j++) {
            if (j == 2)
                begin();
            if (!cend_send_and_read(c, e.client, e.server, sizes[i], 1))
                fail("bytes are missing in C");
        }
        finish(name, sizes[i], ROUNDS);
        cend_close_ends(&e);
    }
    begin();
    if (cend_handshakes(c, SHAKES) < 0)
        fail("no handshake in C");
    finish(name, 0, SHAKES);
}

/* Makes a direct cipher that has the keys of the first record. */
static fssl_cipher *direct_cipher(int client, const unsigned char *header, size_t len, const unsigned char *salt)
{
    int refusal;
    fssl_errors errs = {0};
    fssl_cipher *c = fssl_cipher_new(&refusal, "AES-256-GCM", 1, client, &errs);

    if (c == NULL)
        fail("fssl_cipher_new");
    fssl_cipher_header(c, client, header, len, salt); /* the key of zeros does */
    return c;
}

static void cipher_through_library(void)
{
    static const unsigned char header[60], salt[FSSL_SEALED_SALT];
    static unsigned char message[1 << 15], wire[1 << 15], plain[1 << 15];
    static const size_t sizes[] = {64, 16384};
    fssl_cipher *client = direct_cipher(1, header, sizeof(header), salt), *server = direct_cipher(0, header, sizeof(header), salt);
    size_t i;
    int j;

    fssl_seal((uintptr_t)client, wire, sizeof(wire), message, 1, FSSL_SEALED_BEGIN);
    fssl_open((uintptr_t)server, plain, sizeof(plain), wire, client->out_len);
    for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        begin();
        for (j = 0; j < ROUNDS; j++) {
            fssl_seal((uintptr_t)client, wire, sizeof(wire), message, sizes[i], FSSL_SEALED_DATA);
            fssl_open((uintptr_t)server, plain, sizeof(plain), wire, client->out_len);
            if (client->status != FSSL_OK || server->status != FSSL_OK || server->out_len != sizes[i])
                fail("a record is missing");
        }
        finish("sealed", sizes[i], ROUNDS);
    }
    fssl_cipher_free(client);
    fssl_cipher_free(server);
}

static void cipher_in_c(void)
{
    static const size_t sizes[] = {64, 16384};
    size_t i;
    int j;

    for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        pair p = {0};

        if (!pair_new(&p, "AES-256-GCM", sizes[i], 1) || !record(&p, sizes[i], 1))
            fail("no cipher in C");
        begin();
        for (j = 0; j < ROUNDS; j++)
            if (!record(&p, sizes[i], (uint64_t)j + 2))
                fail("a record is missing in C");
        finish("EVP", sizes[i], ROUNDS);
        pair_free(&p);
    }
}

int main(int argc, char **argv)
{
    const char *dir = argc == 2 ? argv[1] : ".";
    cend *mem, *flat_ends;

    mem = cend_new(in_pki(0, dir, "server-ec.crt"), in_pki(1, dir, "server-ec.key"), in_pki(2, dir, "root.crt"), "", "", 0);
    flat_ends = cend_new(path[0], path[1], path[2], "", "", CEND_FLAT);
    if (mem == NULL || flat_ends == NULL)
        fail("the certificates cannot be loaded");
    cend_handshakes(mem, 1); /* does the work that OpenSSL does only once */
    through_library(mem);
    in_c(mem, "BIO_s_mem");
    in_c(flat_ends, "plain");
    cipher_through_library();
    cipher_in_c();
    cend_free(mem);
    cend_free(flat_ends);
    return 0;
}
