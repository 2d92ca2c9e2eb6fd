/* As much HTTP/1.1 as a bench needs: heads, Content-Length and chunked bodies, non-blocking sockets on loopback. */
#ifndef HTTP_H
#define HTTP_H
#include "mini_json.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static inline struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Without it Nagle's algorithm holds small events back for milliseconds. */
static inline void send_at_once(int socket)
{
    int one = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline int listen_on(int port)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        die("listen");
    return listener;
}

/* Blocking connect, for it is on loopback; returns -1 when nobody listens. */
static inline int connect_to(int port)
{
    int connected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(port);
    if (connect(connected, (struct sockaddr *)&address, sizeof address)) {
        close(connected);
        return -1;
    }
    send_at_once(connected);
    return connected;
}

/* The parts of a head that matter here. */
typedef struct {
    size_t head_length; /* blank line included */
    long content_length; /* -1: not said */
    int chunked, keep_alive;
    Span session; /* Mcp-Session-Id */
    Span accept;
} Head;

/* The value of the header at `line` when it has this name, trimmed. */
static inline Span header_value(const char *line, const char *end, const char *name)
{
    Span none = {NULL, 0};
    size_t length = strlen(name);
    if ((size_t)(end - line) <= length || line[length] != ':' || strncasecmp(line, name, length))
        return none;
    const char *from = line + length + 1;
    while (from < end && *from == ' ')
        from++;
    while (end > from && (end[-1] == '\r' || end[-1] == ' '))
        end--;
    return (Span){from, (size_t)(end - from)};
}

/* Returns 0 when the head is not complete yet. */
static inline int parse_head(const char *data, size_t length, Head *head)
{
    const char *blank = memmem(data, length, "\r\n\r\n", 4);
    if (!blank)
        return 0;
    *head = (Head){.head_length = (size_t)(blank - data) + 4, .content_length = -1, .keep_alive = 1};
    const char *line = (const char *)memchr(data, '\n', length) + 1;
    while (line < blank + 2) {
        const char *end = memchr(line, '\n', (size_t)(blank + 4 - line));
        Span value;
        if ((value = header_value(line, end, "content-length")).data)
            head->content_length = json_long(value, -1);
        else if (header_value(line, end, "transfer-encoding").data)
            head->chunked = 1;
        else if ((value = header_value(line, end, "connection")).data)
            head->keep_alive = value.length < 5 || strncasecmp(value.data, "close", 5);
        else if ((value = header_value(line, end, "mcp-session-id")).data)
            head->session = value;
        line = end + 1;
    }
    return 1;
}

/* Joins the chunks of a whole chunked body into `out`. Returns the bytes it took, 0 when it is not complete. */
static inline size_t join_chunks(const char *data, size_t length, Buffer *out)
{
    out->length = 0;
    size_t at = 0;
    while (at < length) {
        const char *line_end = memmem(data + at, length - at, "\r\n", 2);
        if (!line_end)
            return 0;
        size_t size = strtoul(data + at, NULL, 16);
        size_t from = (size_t)(line_end - data) + 2;
        if (length - from < size + 2)
            return 0;
        if (size == 0)
            return from + 2;
        buffer_append(out, data + from, size);
        at = from + size + 2;
    }
    return 0;
}

/* Watches `socket` for input, and for room to write when `writing`. */
static inline void watch(int epoll, int operation, int socket, void *owner, int writing)
{
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0u), .data.ptr = owner};
    if (epoll_ctl(epoll, operation, socket, &event))
        die("epoll_ctl");
}

#endif
