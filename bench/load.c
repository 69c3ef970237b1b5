/* Load generator: keep-alive connections through a proxy (or direct), GETs one after the other on each.
 *
 * load PROXY_HOST PROXY_PORT SCHEME HOST PORT PATH FIRST COUNT CONNECTIONS SECONDS [new] [limit=N]
 *
 * With "new" each request has a connection (and CONNECT, and full TLS handshake) of its own; its time counts.
 * With "limit=N" it ends after N answers, if not SECONDS end it before.
 * PROXY_HOST "-" goes direct. The n-th request asks for PATH followed by FIRST + n mod COUNT (COUNT 0: never the
 * same twice). Answers must be 200 with a Content-Length. Prints one JSON object; exit code 1 on any error.
 * "first_us" is the median time to the first byte of an answer's content, "busy" the share of a core that this program
 * used after all connections stood. Certificates are not verified: this measures, it does not test.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, SAMPLES = 1 << 22 };

struct connection {
    int fd;
    SSL *ssl;
    char buffer[BUFFER];
    size_t filled;
    long body_left; /* -1: still reading a head */
    double sent_at, first_at;
};

static const char *proxy_host, *scheme, *host, *port, *path;
static int proxy_port;
static long first, count, limit, asked, done, failed, bytes;
static uint32_t *samples, *first_samples;
static int fresh, poll_fd;
static SSL_CTX *tls;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int dial(const char *to, int number) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(number)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    inet_pton(AF_INET, to, &address.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void tunnel(int fd) {
    char text[512], answer[4096];
    size_t filled = 0;
    int size = snprintf(text, sizeof text, "CONNECT %s:%s HTTP/1.1\r\nHost: %s:%s\r\n\r\n", host, port, host, port);
    if (write(fd, text, size) != size) die("write");
    while (filled < sizeof answer - 1) { /* nothing follows the head until the client speaks */
        long got = read(fd, answer + filled, sizeof answer - 1 - filled);
        if (got <= 0) die("CONNECT");
        answer[filled += got] = 0;
        if (strstr(answer, "\r\n\r\n")) return;
    }
    die("CONNECT answer");
}

static void open_connection(struct connection *c) {
    int direct = !strcmp(proxy_host, "-");
    c->fd = direct ? dial(host, atoi(port)) : dial(proxy_host, proxy_port);
    c->filled = 0;
    c->body_left = -1;
    if (tls) {
        if (!direct) tunnel(c->fd);
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, c->fd);
        if (SSL_connect(c->ssl) != 1) die("TLS handshake");
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static void watch(struct connection *c) {
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &wanted);
}

/* A connection in place of the old one. Returns when it was begun. */
static double renew(struct connection *c) {
    double began = now();
    if (c->ssl) SSL_free(c->ssl);
    close(c->fd);
    open_connection(c);
    watch(c);
    return began;
}

static void ask(struct connection *c) {
    char text[2048], base[512] = "";
    long number = first + (count ? asked % count : asked);
    asked++;
    if (!c->ssl && strcmp(proxy_host, "-")) snprintf(base, sizeof base, "http://%s:%s", host, port);
    int size = snprintf(text, sizeof text, "GET %s%s%ld HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n",
                        base, path, number, host, port);
    c->sent_at = now();
    c->first_at = 0;
    int sent = c->ssl ? SSL_write(c->ssl, text, size) : (int)write(c->fd, text, size);
    if (sent != size) die("send");
}

static void finished(struct connection *c) {
    if (done < SAMPLES) {
        samples[done] = (uint32_t)((now() - c->sent_at) * 1e6);
        first_samples[done] = (uint32_t)((c->first_at - c->sent_at) * 1e6);
    }
    done++;
    c->body_left = -1;
}

/* Takes what lies in the buffer; true when an answer is complete. */
static int take(struct connection *c) {
    if (c->body_left < 0) {
        char *end = memmem(c->buffer, c->filled, "\r\n\r\n", 4);
        if (!end) return 0;
        *end = 0;
        char *length = strcasestr(c->buffer, "\r\ncontent-length:");
        if (strncmp(c->buffer + 9, "200", 3) || !length) {
            if (failed++ == 0) fprintf(stderr, "%.300s\n", c->buffer);
        }
        c->body_left = length ? atol(length + 17) : 0;
        c->filled -= end + 4 - c->buffer;
        memmove(c->buffer, end + 4, c->filled);
    }
    if (!c->first_at && (c->filled || !c->body_left)) c->first_at = now();
    size_t part = c->filled < (size_t)c->body_left ? c->filled : (size_t)c->body_left;
    c->body_left -= part;
    c->filled -= part;
    bytes += part;
    memmove(c->buffer, c->buffer + part, c->filled);
    return c->body_left == 0;
}

static void next_request(struct connection *c) {
    if (limit && asked >= limit) return;
    double began = fresh ? renew(c) : 0;
    ask(c);
    if (fresh) c->sent_at = began;
}

static void readable(struct connection *c) {
    for (;;) {
        char *to = c->buffer + c->filled;
        size_t room = BUFFER - 1 - c->filled;
        long got = c->ssl ? SSL_read(c->ssl, to, room) : read(c->fd, to, room);
        if (got <= 0) {
            int again = c->ssl ? SSL_get_error(c->ssl, got) == SSL_ERROR_WANT_READ : got < 0 && errno == EAGAIN;
            if (again) return;
            fprintf(stderr, "the connection ended\n");
            exit(1);
        }
        c->filled += got;
        c->buffer[c->filled] = 0;
        if (take(c)) {
            finished(c);
            next_request(c);
            return; /* its answer cannot be there yet: reading again would be a call in vain */
        }
    }
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int accept_all(X509_STORE_CTX *store, void *unused) {
    (void)store, (void)unused;
    return 1;
}

/* The cheapest client there is: no chain is built, no tickets are kept, X25519, one read for a record. */
static SSL_CTX *client_context(void) {
    SSL_CTX *made = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_cert_verify_callback(made, accept_all, NULL);
    SSL_CTX_set1_groups_list(made, "X25519:P-256");
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(made, 1);
    return made;
}

static uint32_t quantile(uint32_t *of, long kept, long percent) {
    return kept ? of[kept * percent / 100] : 0;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 11) return 2;
    proxy_host = argv[1], proxy_port = atoi(argv[2]), scheme = argv[3], host = argv[4], port = argv[5], path = argv[6];
    first = atol(argv[7]), count = atol(argv[8]);
    int connections = atoi(argv[9]);
    double seconds = atof(argv[10]);
    for (int i = 11; i < argc; i++) {
        if (!strcmp(argv[i], "new")) fresh = 1;
        else if (!strncmp(argv[i], "limit=", 6)) limit = atol(argv[i] + 6);
        else return 2;
    }
    tls = strcmp(scheme, "https") ? NULL : client_context();
    struct connection *all = calloc(connections, sizeof *all);
    struct epoll_event events[64];
    poll_fd = epoll_create1(0);
    samples = malloc(SAMPLES * sizeof *samples);
    first_samples = malloc(SAMPLES * sizeof *first_samples);
    for (int i = 0; i < connections; i++) {
        open_connection(&all[i]);
        watch(&all[i]);
    }
    double began = now(), cpu_before = cpu_seconds();
    for (int i = 0; i < connections && (!limit || i < limit); i++) ask(&all[i]);
    while (now() - began < seconds && (!limit || done < limit)) {
        int ready = epoll_wait(poll_fd, events, 64, 100);
        for (int i = 0; i < ready; i++) readable(events[i].data.ptr);
    }
    double took = now() - began, cpu = cpu_seconds() - cpu_before;
    long kept = done < SAMPLES ? done : SAMPLES;
    qsort(samples, kept, sizeof *samples, ascending);
    qsort(first_samples, kept, sizeof *first_samples, ascending);
    printf("{\"requests\": %ld, \"seconds\": %.3f, \"per_second\": %.1f, \"bytes\": %ld, \"failed\": %ld, "
           "\"p50_us\": %u, \"p99_us\": %u, \"first_us\": %u, \"busy\": %.3f}\n",
           done, took, done / took, bytes, failed, quantile(samples, kept, 50), quantile(samples, kept, 99),
           quantile(first_samples, kept, 50), cpu / took);
    return failed ? 1 : 0;
}
