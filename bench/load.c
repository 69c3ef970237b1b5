/* Load generator: keep-alive connections through a proxy (or direct), GETs one after the other on each.
 *
 * load PROXY_HOST PROXY_PORT SCHEME HOST PORT PATH FIRST COUNT CONNECTIONS SECONDS [new]
 *
 * With "new" each request has a connection (and CONNECT, and full TLS handshake) of its own; its time counts.
 * PROXY_HOST "-" goes direct. The n-th request asks for PATH followed by FIRST + n mod COUNT (COUNT 0: never the
 * same twice). Answers must be 200 with a Content-Length. Prints one JSON object; exit code 1 on any error.
 * Certificates are not verified: this measures, it does not test.
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
    double sent_at;
};

static const char *proxy_host, *scheme, *host, *port, *path;
static int proxy_port;
static long first, count, asked, done, failed, bytes;
static uint32_t *samples;
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
    while (filled < sizeof answer - 1) {
        if (read(fd, answer + filled, 1) != 1) die("CONNECT");
        answer[++filled] = 0;
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
    int sent = c->ssl ? SSL_write(c->ssl, text, size) : (int)write(c->fd, text, size);
    if (sent != size) die("send");
}

static void finished(struct connection *c) {
    if (done < SAMPLES) samples[done] = (uint32_t)((now() - c->sent_at) * 1e6);
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
    size_t part = c->filled < (size_t)c->body_left ? c->filled : (size_t)c->body_left;
    c->body_left -= part;
    c->filled -= part;
    bytes += part;
    memmove(c->buffer, c->buffer + part, c->filled);
    return c->body_left == 0;
}

static void readable(struct connection *c, int more) {
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
            if (!more) return;
            double began = fresh ? renew(c) : 0;
            ask(c);
            if (fresh) {
                c->sent_at = began;
                return;
            }
        }
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 11 && argc != 12) return 2;
    proxy_host = argv[1], proxy_port = atoi(argv[2]), scheme = argv[3], host = argv[4], port = argv[5], path = argv[6];
    first = atol(argv[7]), count = atol(argv[8]);
    int connections = atoi(argv[9]);
    double seconds = atof(argv[10]);
    tls = strcmp(scheme, "https") ? NULL : SSL_CTX_new(TLS_client_method());
    struct connection *all = calloc(connections, sizeof *all);
    struct epoll_event events[64];
    poll_fd = epoll_create1(0);
    fresh = argc == 12 && !strcmp(argv[11], "new");
    samples = malloc(SAMPLES * sizeof *samples);
    for (int i = 0; i < connections; i++) {
        open_connection(&all[i]);
        watch(&all[i]);
    }
    double began = now();
    for (int i = 0; i < connections; i++) ask(&all[i]);
    while (now() - began < seconds) {
        int ready = epoll_wait(poll_fd, events, 64, 100);
        for (int i = 0; i < ready; i++) readable(events[i].data.ptr, 1);
    }
    double took = now() - began;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    long kept = done < SAMPLES ? done : SAMPLES;
    qsort(samples, kept, sizeof *samples, ascending);
    printf("{\"requests\": %ld, \"seconds\": %.3f, \"per_second\": %.1f, \"bytes\": %ld, \"failed\": %ld, "
           "\"p50_us\": %u, \"p99_us\": %u, \"busy\": %.3f}\n",
           done, took, done / took, bytes, failed, kept ? samples[kept / 2] : 0, kept ? samples[kept * 99 / 100] : 0,
           cpu / took);
    return failed ? 1 : 0;
}
