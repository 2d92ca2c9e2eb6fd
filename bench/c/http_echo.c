/* http_echo PORT [poll] - a Streamable HTTP MCP server on 127.0.0.1, one thread, keep-alive (see mcp_echo.h).
 *
 * `echo` answers application/json; `stream` answers text/event-stream, one chunk an event. With `poll` it never
 * sleeps (see give_way in bench.h). */
#include "http.h"
#include "mcp_echo.h"
#include <signal.h>

typedef struct Connection {
    int socket;
    Buffer in, out;
    size_t sent;      /* bytes of `out` already written */
    int writing;      /* waiting for room to write */
    int streaming;    /* `stream` is being played; further requests wait */
    uint64_t next_event;
    Stream stream;
    struct Connection *next, *previous; /* in the list of streaming connections */
} Connection;

static int epoll;
static Connection *streaming;

static void want_write(Connection *connection, int writing)
{
    if (connection->writing == writing)
        return;
    connection->writing = writing;
    watch(epoll, EPOLL_CTL_MOD, connection->socket, connection, writing);
}

/* 1: all written, 0: the socket is full, -1: the client is gone. */
static int flush_output(Connection *connection)
{
    Buffer *out = &connection->out;
    while (connection->sent < out->length) {
        ssize_t count =
            send(connection->socket, out->data + connection->sent, out->length - connection->sent, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                return -1;
            want_write(connection, 1);
            return 0;
        }
        connection->sent += (size_t)count;
    }
    out->length = connection->sent = 0;
    want_write(connection, 0);
    return 1;
}

static void stream_begin(Connection *connection)
{
    connection->streaming = 1;
    connection->next_event = now_ns() + (uint64_t)connection->stream.interval_us * 1000;
    connection->previous = NULL;
    connection->next = streaming;
    if (streaming)
        streaming->previous = connection;
    streaming = connection;
}

static void stream_leave(Connection *connection)
{
    if (!connection->streaming)
        return;
    connection->streaming = 0;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        streaming = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
}

static void add_event(Connection *connection, void (*fill)(Connection *, Buffer *))
{
    static Buffer event;
    event.length = 0;
    buffer_text(&event, "event: message\r\ndata: ");
    fill(connection, &event);
    buffer_text(&event, "\r\n\r\n");
    buffer_format(&connection->out, "%zx\r\n", event.length);
    buffer_append(&connection->out, event.data, event.length);
    buffer_text(&connection->out, "\r\n");
}

static void fill_progress(Connection *connection, Buffer *event) { mcp_stream_event(&connection->stream, event); }
static void fill_result(Connection *connection, Buffer *event) { mcp_stream_result(&connection->stream, event); }

/* Sends what is due; without an interval, as much as the socket takes. Returns as flush_output. */
static int stream_step(Connection *connection)
{
    Stream *stream = &connection->stream;
    for (;;) {
        if (stream->interval_us && now_ns() < connection->next_event)
            return 1;
        if (stream->left > 0) {
            add_event(connection, fill_progress);
            connection->next_event += (uint64_t)stream->interval_us * 1000;
        } else {
            add_event(connection, fill_result);
            buffer_text(&connection->out, "0\r\n\r\n");
            stream_leave(connection);
            return flush_output(connection);
        }
        int flushed = flush_output(connection);
        if (flushed <= 0)
            return flushed;
    }
}

static void drop(Connection *connection)
{
    stream_leave(connection);
    close(connection->socket);
    free(connection->in.data);
    free(connection->out.data);
    free(connection);
}

static void answer_post(Connection *connection, Span body)
{
    static Buffer answer;
    answer.length = 0;
    Buffer *out = &connection->out;
    switch (mcp_answer(body, &answer, &connection->stream)) {
    case NO_ANSWER:
        buffer_text(out, "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
        return;
    case ANSWERED: {
        int opening = json_is_string(json_member(body, "method"), "initialize");
        buffer_format(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n",
                      opening ? "mcp-session-id: 0123456789abcdef0123456789abcdef\r\n" : "", answer.length);
        buffer_append(out, answer.data, answer.length);
        return;
    }
    case STREAM:
        buffer_text(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
                         "transfer-encoding: chunked\r\n\r\n");
        stream_begin(connection);
        return;
    }
}

/* Answers every whole request in the buffer. Returns as flush_output. */
static int handle_requests(Connection *connection)
{
    static Buffer joined;
    Buffer *in = &connection->in;
    Head head;
    while (!connection->streaming && in->length && parse_head(in->data, in->length, &head)) {
        size_t total;
        Span body;
        if (head.chunked) {
            size_t taken = join_chunks(in->data + head.head_length, in->length - head.head_length, &joined);
            if (!taken)
                break;
            body = (Span){joined.data, joined.length};
            total = head.head_length + taken;
        } else {
            size_t length = head.content_length > 0 ? (size_t)head.content_length : 0;
            total = head.head_length + length;
            if (in->length < total)
                break;
            body = (Span){in->data + head.head_length, length};
        }
        if (!strncmp(in->data, "POST", 4))
            answer_post(connection, body);
        else if (!strncmp(in->data, "DELETE", 6))
            buffer_text(&connection->out, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        else
            buffer_text(&connection->out, "HTTP/1.1 405 Method Not Allowed\r\nallow: POST, DELETE\r\n"
                                          "content-length: 0\r\n\r\n");
        buffer_drop_front(in, total);
        if (connection->streaming && !connection->stream.interval_us)
            return stream_step(connection);
    }
    return flush_output(connection);
}

/* Reads all there is. Returns -1 when the client closed. */
static int receive(Connection *connection)
{
    for (;;) {
        buffer_reserve(&connection->in, 1 << 16);
        size_t room = connection->in.capacity - connection->in.length;
        ssize_t count = recv(connection->socket, connection->in.data + connection->in.length, room, 0);
        if (count > 0) {
            connection->in.length += (size_t)count;
            if ((size_t)count < room)
                return 0;
            continue;
        }
        return count < 0 && errno == EAGAIN ? 0 : -1;
    }
}

static void accept_all(int listener)
{
    int client;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        Connection *connection = calloc(1, sizeof *connection);
        if (!connection)
            die("calloc");
        connection->socket = client;
        send_at_once(client);
        watch(epoll, EPOLL_CTL_ADD, client, connection, 0);
    }
}

static void handle_event(Connection *connection, uint32_t events)
{
    if (events & EPOLLOUT) {
        int flushed = flush_output(connection);
        if (flushed == 1 && connection->streaming && !connection->stream.interval_us)
            flushed = stream_step(connection);
        if (flushed == 1 && !connection->streaming)
            flushed = handle_requests(connection);
        if (flushed < 0) {
            drop(connection);
            return;
        }
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        if (receive(connection) < 0 || handle_requests(connection) < 0)
            drop(connection);
}

static void play_streams(void)
{
    for (Connection *connection = streaming, *next; connection; connection = next) {
        next = connection->next;
        if (!connection->stream.interval_us || connection->writing)
            continue;
        int flushed = stream_step(connection);
        if (flushed == 1 && !connection->streaming)
            flushed = handle_requests(connection);
        if (flushed < 0)
            drop(connection);
    }
}

/* Until the next event of a paced stream is due; NULL: for ever. */
static struct timespec *until_next_event(struct timespec *wait)
{
    int64_t soonest = -1, now = (int64_t)now_ns();
    for (Connection *connection = streaming; connection; connection = connection->next) {
        if (!connection->stream.interval_us || connection->writing)
            continue;
        int64_t left = (int64_t)connection->next_event - now;
        if (left < 0)
            left = 0;
        if (soonest < 0 || left < soonest)
            soonest = left;
    }
    if (soonest < 0)
        return NULL;
    *wait = (struct timespec){soonest / 1000000000, soonest % 1000000000};
    return wait;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: http_echo PORT [poll]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(atoi(argv[1]));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, EPOLL_CTL_ADD, listener, NULL, 0);
    struct epoll_event events[256];
    int polling = argc > 2;
    for (;;) {
        struct timespec wait = {0};
        int count = epoll_pwait2(epoll, events, 256, polling ? &wait : until_next_event(&wait), NULL);
        if (polling && count == 0)
            give_way();
        if (count < 0 && errno != EINTR)
            die("epoll_pwait2");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                handle_event(events[i].data.ptr, events[i].events);
            else
                accept_all(listener);
        }
        play_streams();
    }
}
