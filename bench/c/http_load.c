/* http_load [OPTIONS] - a closed-loop MCP client over Streamable HTTP: N connections, one call in flight on each.
 *
 * Handshake era: every connection opens its own session first. 2026-07-28: every call stands alone, with
 * its `_meta` and mirrored headers. Both list the tools before the first call, as clients do. Every answer is checked: status 200, no error, at least as long as
 * the argument was. With --stream it calls the tool `stream` and measures each event, from the server's
 * send to our receive (one clock, one machine). Prints one line of JSON; times in µs.
 *
 * Writes MEASURE and END lines to stderr, so that the harness can read the gateway's CPU time then. */
#include "http.h"
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#ifdef BENCH_TLS
#include <openssl/ssl.h>
#endif

enum { FIRST_CALL = 100000, STALL_S = 20, GRACE_S = 10 };

typedef struct {
    int port, connections, cpu, modern, tls;
    const char *path, *tool, *argument, *before, *revision;
    char headers[4096]; /* further request headers, each with its CRLF */
    size_t size;
    double seconds, warmup;
    long calls;         /* stop after so many calls; 0: by time */
    long progress;
    long events, interval_us; /* of --stream; 0 events: call `echo` */
    int polling;        /* never sleep (see give_way in bench.h) */
    int stateless;      /* no handshake and no session, though not modern */
} Options;

typedef enum { INITIALIZE, INITIALIZED, LIST, CALL } Phase;

typedef struct {
    int socket;
    Phase phase;
    Buffer in, out;
    size_t sent;          /* bytes of `out` already written */
    size_t event_search;  /* bytes of `in` searched for events */
    int writing;
    char session[256];
    uint64_t asked;       /* when the request in flight was sent */
    long calls;
#ifdef BENCH_TLS
    SSL *tls;
#endif
} Connection;

static Options options = {.port = 8484, .connections = 1, .cpu = -1, .path = "/mcp", .tool = "echo", .argument = "text",
                          .before = "", .size = 200, .seconds = 1, .warmup = 0.3};
static int epoll;
static char *text;
static size_t text_length;
static long next_id = FIRST_CALL;
#ifdef BENCH_TLS
static SSL_CTX *tls_context;
#endif

static struct {
    Samples calls, events;
    long done, failed, reconnects, events_seen, events_before;
    int measuring, stopping;
    uint64_t started, stopped;
} run;

/* ---- the socket, with or without TLS ---- */

static ssize_t transport_send(Connection *connection, const char *data, size_t length)
{
#ifdef BENCH_TLS
    if (connection->tls) {
        int count = SSL_write(connection->tls, data, (int)length);
        if (count <= 0) {
            int error = SSL_get_error(connection->tls, count);
            errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
            return -1;
        }
        return count;
    }
#endif
    return send(connection->socket, data, length, MSG_NOSIGNAL);
}

static ssize_t transport_receive(Connection *connection, char *data, size_t length)
{
#ifdef BENCH_TLS
    if (connection->tls) {
        int count = SSL_read(connection->tls, data, (int)length);
        if (count <= 0) {
            int error = SSL_get_error(connection->tls, count);
            if (error == SSL_ERROR_ZERO_RETURN)
                return 0;
            errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
            return -1;
        }
        return count;
    }
#endif
    return recv(connection->socket, data, length, 0);
}

static void open_transport(Connection *connection)
{
    for (int attempt = 0; (connection->socket = connect_to(options.port)) < 0; attempt++) {
        if (attempt > 50)
            die("connect");
        usleep(100000);
    }
#ifdef BENCH_TLS
    if (options.tls) {
        connection->tls = SSL_new(tls_context);
        SSL_set_fd(connection->tls, connection->socket);
        if (SSL_connect(connection->tls) != 1) {
            fprintf(stderr, "the TLS handshake failed\n");
            exit(4);
        }
    }
#endif
    fcntl(connection->socket, F_SETFL, O_NONBLOCK);
    connection->in.length = connection->out.length = connection->sent = 0;
    connection->writing = 0;
    watch(epoll, EPOLL_CTL_ADD, connection->socket, connection, 0);
}

static void close_transport(Connection *connection)
{
#ifdef BENCH_TLS
    if (connection->tls)
        SSL_free(connection->tls);
    connection->tls = NULL;
#endif
    close(connection->socket);
}

static void flush_output(Connection *connection)
{
    int full = 0;
    while (connection->sent < connection->out.length && !full) {
        ssize_t count = transport_send(connection, connection->out.data + connection->sent,
                                       connection->out.length - connection->sent);
        if (count < 0 && errno != EAGAIN)
            return; /* the read side will see that the connection is gone */
        if (count < 0)
            full = 1;
        else
            connection->sent += (size_t)count;
    }
    if (!full)
        connection->out.length = connection->sent = 0;
    if (connection->writing != full) {
        connection->writing = full;
        watch(epoll, EPOLL_CTL_MOD, connection->socket, connection, full);
    }
}

/* ---- requests ---- */

static void append_meta(Buffer *body, long token)
{
    buffer_text(body, "\"_meta\":{");
    if (options.modern)
        buffer_format(body,
                      "\"io.modelcontextprotocol/protocolVersion\":\"%s\","
                      "\"io.modelcontextprotocol/clientCapabilities\":{},"
                      "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"http_load\",\"version\":\"1\"}%s",
                      options.revision, token ? "," : "");
    if (token)
        buffer_format(body, "\"progressToken\":%ld", token);
    buffer_text(body, "},");
}

static void append_list(Buffer *body)
{
    buffer_format(body, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"tools/list\",\"params\":{", next_id++);
    if (options.modern) {
        append_meta(body, 0);
        body->length--; /* the comma */
    }
    buffer_text(body, "}}");
}

static void append_call(Buffer *body)
{
    long id = next_id++;
    const char *tool = options.events ? "stream" : options.tool;
    buffer_format(body, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"tools/call\",\"params\":{\"name\":\"%s\",", id, tool);
    if (options.modern || options.events)
        append_meta(body, options.events ? id : 0);
    buffer_format(body, "\"arguments\":{%s", options.before);
    if (options.events) {
        buffer_format(body, "\"count\":%ld,\"interval_us\":%ld}}}", options.events, options.interval_us);
        return;
    }
    buffer_format(body, "\"%s\":\"", options.argument);
    if (!text) { /* the first call measures what surrounds the text */
        size_t fixed = body->length + strlen("\"}}}");
        text_length = options.size > fixed ? options.size - fixed : 1;
        text = filler_text(text_length);
    }
    buffer_append(body, text, text_length);
    buffer_text(body, "\"}}}");
}

static void send_next(Connection *connection)
{
    static Buffer body;
    body.length = 0;
    if (connection->phase == INITIALIZE)
        buffer_format(&body,
                      "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"%s\","
                      "\"capabilities\":{},\"clientInfo\":{\"name\":\"http_load\",\"version\":\"1\"}}}",
                      next_id++, options.revision);
    else if (connection->phase == INITIALIZED)
        buffer_text(&body, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
    else if (connection->phase == LIST)
        append_list(&body);
    else
        append_call(&body);

    Buffer *out = &connection->out;
    out->length = connection->sent = 0;
    buffer_format(out,
                  "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                  "Accept: application/json, text/event-stream\r\n",
                  options.path, options.port);
    if (connection->phase != INITIALIZE)
        buffer_format(out, "MCP-Protocol-Version: %s\r\n", options.revision);
    if (options.modern && connection->phase == LIST)
        buffer_text(out, "Mcp-Method: tools/list\r\n");
    else if (options.modern)
        buffer_format(out, "Mcp-Method: tools/call\r\nMcp-Name: %s\r\n", options.events ? "stream" : options.tool);
    if (connection->session[0])
        buffer_format(out, "Mcp-Session-Id: %s\r\n", connection->session);
    buffer_text(out, options.headers);
    buffer_format(out, "Content-Length: %zu\r\n\r\n", body.length);
    buffer_append(out, body.data, body.length);
    connection->in.length = connection->event_search = 0;
    connection->asked = now_ns();
    flush_output(connection);
}

/* ---- answers ---- */

/* Finds the `ts=` of each event that has arrived and takes its age. */
static void measure_events(Connection *connection)
{
    uint64_t now = now_ns();
    Buffer *in = &connection->in;
    char *stamp;
    while ((stamp = memmem(in->data + connection->event_search, in->length - connection->event_search, "ts=", 3))) {
        size_t at = (size_t)(stamp - in->data);
        if (at + 24 > in->length)
            return; /* the number may not be whole yet */
        uint64_t sent = strtoull(stamp + 3, NULL, 10);
        connection->event_search = at + 3;
        run.events_seen++;
        if (run.measuring && connection->asked >= run.started && now > sent)
            samples_add(&run.events, now - sent);
    }
}

typedef enum { INCOMPLETE, COMPLETE } Parsed;

/* Takes the answer apart. `closed`: the server closed, which also ends a body of unknown length. */
static Parsed parse_answer(Connection *connection, int closed, int *status, Head *head, Span *body)
{
    static Buffer joined;
    Buffer *in = &connection->in;
    if (in->length < 12 || !parse_head(in->data, in->length, head))
        return INCOMPLETE;
    *status = atoi(in->data + 9);
    if (*status < 200) { /* 100 Continue and the like */
        buffer_drop_front(in, head->head_length);
        return parse_answer(connection, closed, status, head, body);
    }
    if (options.events && connection->phase == CALL)
        measure_events(connection);
    const char *data = in->data + head->head_length;
    size_t length = in->length - head->head_length;
    *body = (Span){data, length};
    if (head->chunked) {
        if (length < 5 || memcmp(data + length - 5, "0\r\n\r\n", 5) || !join_chunks(data, length, &joined))
            return INCOMPLETE;
        *body = (Span){joined.data, joined.length};
        return COMPLETE;
    }
    if (head->content_length >= 0) {
        body->length = (size_t)head->content_length;
        return length >= body->length ? COMPLETE : INCOMPLETE;
    }
    if (*status == 202 || *status == 204)
        return COMPLETE;
    head->keep_alive = 0;
    return closed ? COMPLETE : INCOMPLETE;
}

static void report_failure(const char *what, int status, Span body)
{
    if (run.failed++ < 3)
        fprintf(stderr, "%s, status %d: %.*s\n", what, status, (int)(body.length > 500 ? 500 : body.length),
                body.data ? body.data : "");
}

/* Checks and counts a whole answer. */
static void account(Connection *connection, int status, Span body)
{
    uint64_t now = now_ns();
    if (status < 200 || status >= 300) {
        report_failure("refused", status, body);
        return;
    }
    if (connection->phase != CALL) {
        connection->phase++;
        return;
    }
    size_t looked = body.length > 4096 ? 4096 : body.length;
    if (!memmem(body.data, body.length, "\"result\"", 8) || memmem(body.data, looked, "\"isError\":true", 14) ||
        (!options.events && body.length < text_length)) {
        report_failure("wrong answer", status, body);
        return;
    }
    connection->calls++;
    if (!run.measuring || connection->asked < run.started)
        return;
    samples_add(&run.calls, now - connection->asked);
    if (!run.stopping && ++run.done && options.progress && run.done % options.progress == 0)
        fprintf(stderr, "progress %ld\n", run.done);
}

/* Starts measuring once every connection has had an answer, and stops it in time. */
static void keep_time(const Connection *connections, uint64_t warm_until)
{
    uint64_t now = now_ns();
    if (!run.measuring) {
        if (now < warm_until)
            return;
        for (int i = 0; i < options.connections; i++)
            if (connections[i].calls < 1)
                return;
        run.measuring = 1;
        run.started = now;
        run.events_before = run.events_seen;
        fprintf(stderr, "MEASURE\n");
    } else if (!run.stopping) {
        int over = options.calls ? run.done >= options.calls
                                 : now >= run.started + seconds_to_ns(options.seconds) && run.done >= 5;
        if (over) {
            run.stopping = 1;
            run.stopped = now;
            run.events_before = run.events_seen - run.events_before;
            fprintf(stderr, "END %ld\n", run.done);
        }
    }
}

/* Reads what there is. Returns 1 when the server closed. */
static int receive(Connection *connection)
{
    for (;;) {
        buffer_reserve(&connection->in, 65536);
        size_t room = connection->in.capacity - connection->in.length;
        ssize_t count = transport_receive(connection, connection->in.data + connection->in.length, room);
        if (count > 0) {
            connection->in.length += (size_t)count;
            if ((size_t)count < room && !options.tls)
                return 0;
            continue;
        }
        return count == 0 || errno != EAGAIN;
    }
}

static void reopen(Connection *connection)
{
    run.reconnects++;
    close_transport(connection);
    open_transport(connection);
}

/* Returns 1 when the connection has made its last call. */
static int handle_input(Connection *connection, const Connection *all, uint64_t warm_until)
{
    int status = 0, closed = receive(connection);
    Head head;
    Span body = {NULL, 0};
    if (parse_answer(connection, closed, &status, &head, &body) == INCOMPLETE) {
        if (!closed)
            return 0;
        report_failure("connection closed", status, body);
        head.keep_alive = 0;
    } else {
        if (connection->phase == INITIALIZE && head.session.data)
            span_copy(connection->session, sizeof connection->session, head.session, "");
        account(connection, status, body);
    }
    keep_time(all, warm_until);
    if (run.stopping) {
        close_transport(connection);
        return 1;
    }
    if (closed || !head.keep_alive)
        reopen(connection);
    send_next(connection);
    return 0;
}

static void print_result(void)
{
    double seconds = run.stopped > run.started ? (double)(run.stopped - run.started) / 1e9 : 0;
    int ok = run.failed == 0 && run.done > 0 && run.stopping;
    printf("{\"ok\":%s,\"connections\":%d,\"size\":%zu,\"calls\":%ld,\"failed\":%ld,\"reconnects\":%ld,\"rate\":%.1f,",
           ok ? "true" : "false", options.connections, options.size, run.done, run.failed, run.reconnects,
           seconds > 0 ? (double)run.done / seconds : 0);
    samples_print(&run.calls, "");
    if (options.events) {
        printf(",");
        samples_print(&run.events, "event_");
        printf(",\"event_rate\":%.1f", seconds > 0 ? (double)run.events_before / seconds : 0);
    }
    printf("}\n");
}

static int parse_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, NULL, 'p'},     {"path", 1, NULL, 'P'},       {"connections", 1, NULL, 'c'},
        {"size", 1, NULL, 's'},     {"seconds", 1, NULL, 'd'},    {"warmup", 1, NULL, 'u'},
        {"calls", 1, NULL, 'n'},    {"progress", 1, NULL, 'g'},   {"tool", 1, NULL, 't'},
        {"argument", 1, NULL, 'a'}, {"before", 1, NULL, 'b'},     {"header", 1, NULL, 'H'},
        {"modern", 0, NULL, 'm'},   {"stateless", 0, NULL, 'l'},  {"revision", 1, NULL, 'r'},
        {"stream", 1, NULL, 'S'},   {"client-cpu", 1, NULL, 'C'}, {"tls", 0, NULL, 'T'},
        {"poll", 0, NULL, 'w'},
        {NULL, 0, NULL, 0},
    };
    int name;
    size_t used = 0;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.path = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 's': options.size = (size_t)atol(optarg); break;
        case 'd': options.seconds = atof(optarg); break;
        case 'u': options.warmup = atof(optarg); break;
        case 'n': options.calls = atol(optarg); break;
        case 'g': options.progress = atol(optarg); break;
        case 't': options.tool = optarg; break;
        case 'a': options.argument = optarg; break;
        case 'b': options.before = optarg; break;
        case 'm': options.modern = 1; break;
        case 'l': options.stateless = 1; break;
        case 'r': options.revision = optarg; break;
        case 'C': options.cpu = atoi(optarg); break;
        case 'T': options.tls = 1; break;
        case 'w': options.polling = 1; break;
        case 'S':
            if (sscanf(optarg, "%ld,%ld", &options.events, &options.interval_us) != 2 || options.events < 1)
                return -1;
            break;
        case 'H':
            used += (size_t)snprintf(options.headers + used, sizeof options.headers - used, "%s\r\n", optarg);
            if (used >= sizeof options.headers)
                return -1;
            break;
        default: return -1;
        }
    }
    if (!options.revision)
        options.revision = options.modern ? "2026-07-28" : "2025-06-18";
    return optind == argc && options.connections > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    if (parse_options(argc, argv)) {
        fprintf(stderr, "usage: http_load [OPTIONS] (see the source)\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    pin_to_cpu(options.cpu);
    if (options.tls) {
#ifdef BENCH_TLS
        tls_context = SSL_CTX_new(TLS_client_method()); /* loopback, a certificate of our own: not verified */
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#else
        fprintf(stderr, "built without TLS\n");
        return 2;
#endif
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    Connection *connections = calloc((size_t)options.connections, sizeof *connections);
    if (!connections)
        die("calloc");
    uint64_t warm_until = now_ns() + seconds_to_ns(options.warmup), last = now_ns();
    for (int i = 0; i < options.connections; i++) {
        connections[i].phase = options.modern || options.stateless ? LIST : INITIALIZE;
        open_transport(&connections[i]);
        send_next(&connections[i]);
    }
    struct epoll_event events[256];
    for (int live = options.connections; live > 0;) {
        int count = epoll_wait(epoll, events, 256, options.polling ? 0 : 1000);
        uint64_t now = now_ns();
        if (options.polling && count == 0)
            give_way();
        if (count > 0)
            last = now;
        if (run.stopping && now > run.stopped + seconds_to_ns(GRACE_S))
            break; /* slow gateways: the last calls are not worth waiting for */
        if (now > last + seconds_to_ns(STALL_S) || run.failed > 1000) {
            fprintf(stderr, "given up: no answer for %d s, or too many failures\n", STALL_S);
            run.failed++;
            break;
        }
        for (int i = 0; i < count; i++) {
            Connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                flush_output(connection);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                live -= handle_input(connection, connections, warm_until);
        }
    }
    print_result();
    return !(run.failed == 0 && run.done > 0);
}
