/* l4_pump PORT SERVER_PORT - the kernel's floor for any user-space proxy: recv and send, no look at HTTP.
 *
 * One upstream connection for each client connection, one thread. */
#include "http.h"
#include <signal.h>

typedef struct Side {
    int socket, closed;
    struct Side *other;
    Buffer waiting; /* bytes this side's socket did not take yet */
} Side;

static int epoll;
static char chunk[262144];

static void set_events(Side *side, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = side};
    epoll_ctl(epoll, EPOLL_CTL_MOD, side->socket, &event);
}

static void close_side(Side *side)
{
    if (!side->closed)
        close(side->socket);
    side->closed = 1;
}

/* The memory stays until the process ends: an event of this round may still point at it. */
static void close_both(Side *side)
{
    close_side(side);
    close_side(side->other);
}

static void accept_all(int listener, int server_port)
{
    int client;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int server = connect_to(server_port);
        if (server < 0) {
            close(client);
            continue;
        }
        send_at_once(client);
        Side *sides = calloc(2, sizeof *sides);
        if (!sides)
            die("calloc");
        sides[0] = (Side){.socket = client, .other = &sides[1]};
        sides[1] = (Side){.socket = server, .other = &sides[0]};
        watch(epoll, EPOLL_CTL_ADD, client, &sides[0], 0);
        watch(epoll, EPOLL_CTL_ADD, server, &sides[1], 0);
    }
}

static void relay(Side *side)
{
    Side *other = side->other;
    if (other->waiting.length)
        return;
    ssize_t count = recv(side->socket, chunk, sizeof chunk, MSG_DONTWAIT);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN)
            close_both(side);
        return;
    }
    ssize_t sent = send(other->socket, chunk, (size_t)count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0)
        sent = 0;
    if (sent < count) { /* stop reading here until the other side has taken the rest */
        buffer_append(&other->waiting, chunk + sent, (size_t)(count - sent));
        set_events(other, EPOLLOUT);
        set_events(side, 0);
    }
}

static void send_waiting(Side *side)
{
    ssize_t sent = send(side->socket, side->waiting.data, side->waiting.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (errno != EAGAIN)
            close_both(side);
        return;
    }
    buffer_drop_front(&side->waiting, (size_t)sent);
    if (!side->waiting.length) {
        set_events(side, EPOLLIN);
        set_events(side->other, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: l4_pump PORT SERVER_PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(atoi(argv[1])), server_port = atoi(argv[2]);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, EPOLL_CTL_ADD, listener, NULL, 0);
    struct epoll_event events[256];
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            Side *side = events[i].data.ptr;
            if (!side) {
                accept_all(listener, server_port);
                continue;
            }
            if (!side->closed && events[i].events & EPOLLOUT)
                send_waiting(side);
            if (!side->closed && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                relay(side);
        }
    }
}
