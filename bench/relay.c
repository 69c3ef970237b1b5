/* Opens a CONNECT tunnel for each client: for load generators that know no proxy.
 *
 * relay LISTEN_PORT PROXY_PORT HOST PORT
 *
 * Whoever connects to LISTEN_PORT on loopback gets a tunnel to HOST:PORT through the proxy at PROXY_PORT on loopback.
 * One thread, epoll; writes block, so it suits peers that read all they get. Runs until it is killed.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, FILES = 4096 };

static int other[FILES], poll_fd;
static char buffer[BUFFER];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int tunnel(int port, const char *host, const char *to) {
    struct sockaddr_in address = loopback(port);
    char text[512];
    size_t filled = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int size = snprintf(text, sizeof text, "CONNECT %s:%s HTTP/1.1\r\nHost: %s:%s\r\n\r\n", host, to, host, to);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    if (write(fd, text, size) != size) die("write");
    while (filled < sizeof text - 1 && read(fd, text + filled, 1) == 1) {
        text[++filled] = 0;
        if (strstr(text, "\r\n\r\n")) return fd;
    }
    die("CONNECT");
    return -1;
}

static void watch(int fd, int peer) {
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
    int on = 1;
    if (fd >= FILES) die("too many connections");
    other[fd] = peer;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &wanted);
}

static void move(int fd) {
    int to = other[fd];
    if (to < 0) return; /* closed earlier in this round */
    long size = read(fd, buffer, BUFFER);
    for (long sent = 0, part; sent < size; sent += part)
        if ((part = write(to, buffer + sent, size - sent)) <= 0) size = 0;
    if (size > 0) return;
    other[fd] = other[to] = -1;
    close(fd);
    close(to);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    struct sockaddr_in address = loopback(atoi(argv[1]));
    struct epoll_event events[64];
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) die("listen");
    poll_fd = epoll_create1(0);
    watch(listener, 0);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                move(fd);
                continue;
            }
            int client = accept(listener, NULL, NULL);
            if (client < 0) die("accept");
            int proxy = tunnel(atoi(argv[2]), argv[3], argv[4]);
            watch(client, proxy);
            watch(proxy, client);
        }
    }
}
