/* stdio_load [OPTIONS] -- COMMAND ARGS… - a closed-loop MCP client over stdio.
 *
 * Starts COMMAND, opens the conversation, lists the tools, then calls one tool with a fixed number of
 * calls in flight. Every answer is checked: right id, no error, at least as long as the argument was.
 * Prints one line of JSON; times in µs unless the name says otherwise. */
#include "mini_json.h"
#include "process_tree.h"
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

enum { FIRST_CALL = 100000, IN_FLIGHT_LIMIT = 65536, ANSWER_TIMEOUT_S = 30 };

typedef struct {
    size_t size;                   /* bytes of a request, newline excluded */
    double seconds, warmup;        /* of measuring, and before it */
    long calls;                    /* stop after so many calls instead of `seconds`; 0: by time */
    long progress;                 /* report on stderr after each so many calls; 0: never */
    int window;                    /* calls in flight */
    int client_cpu, child_cpu;     /* -1: anywhere */
    int modern;                    /* 2026-07-28 instead of the handshake era */
    int first_answer_only;         /* measure the start, make no calls */
    int polling;                   /* never sleep (see give_way in bench.h) */
    int settle_ms;                 /* pause after the handshake, for gateways that connect lazily */
    const char *tool, *argument;   /* the tool and the argument that carries the text */
    const char *before, *after;    /* raw JSON before the argument's name and after its value */
    const char *revision;
} Options;

typedef struct {
    int to, from; /* the server's stdin and stdout, non-blocking */
    Buffer out, in;
    size_t sent;     /* bytes of `out` already written */
    size_t consumed; /* bytes of `in` already handled */
    size_t searched; /* bytes of `in` known to hold no unhandled newline */
    long errors;
    int polling;
} Connection;

typedef struct {
    long id;
    int failed;
    size_t length;
} Reply;

typedef enum { GOT_REPLY, TIMED_OUT, CLOSED } Outcome;

static void flush_output(Connection *connection)
{
    Buffer *out = &connection->out;
    while (connection->sent < out->length) {
        ssize_t count = write(connection->to, out->data + connection->sent, out->length - connection->sent);
        if (count < 0) {
            if (errno == EAGAIN) {
                if (connection->sent > 1 << 20) { /* never quite empty: keep the buffer from growing */
                    buffer_drop_front(out, connection->sent);
                    connection->sent = 0;
                }
                return;
            }
            if (errno == EINTR)
                continue;
            die("write to the server");
        }
        connection->sent += (size_t)count;
    }
    out->length = connection->sent = 0;
}

/* A server may ask the client; refuse politely, so that a gateway which asks for roots goes on. */
static void answer_server_request(Connection *connection, Span id, Span method)
{
    buffer_text(&connection->out, "{\"jsonrpc\":\"2.0\",\"id\":");
    buffer_append(&connection->out, id.data, id.length);
    if (json_is_string(method, "roots/list"))
        buffer_text(&connection->out, ",\"result\":{\"roots\":[]}}\n");
    else if (json_is_string(method, "ping"))
        buffer_text(&connection->out, ",\"result\":{}}\n");
    else
        buffer_text(&connection->out, ",\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}\n");
    flush_output(connection);
}

/* Reads one line. Returns 1 when it was a reply to us. */
static int handle_line(Connection *connection, Span line, Reply *reply)
{
    Span id = json_member(line, "id");
    Span method = json_member(line, "method");
    if (!id.data)
        return 0; /* a notification */
    if (method.data) {
        answer_server_request(connection, id, method);
        return 0;
    }
    reply->id = json_long(id, -1);
    reply->length = line.length;
    reply->failed =
        json_member(line, "error").data != NULL || json_is_true(json_member(json_member(line, "result"), "isError"));
    if (reply->failed && connection->errors++ < 3)
        fprintf(stderr, "error answer: %.*s\n", (int)(line.length > 600 ? 600 : line.length), line.data);
    return 1;
}

static Outcome next_reply(Connection *connection, double timeout_s, Reply *reply)
{
    Buffer *in = &connection->in;
    uint64_t deadline = now_ns() + seconds_to_ns(timeout_s);
    for (;;) {
        char *newline;
        while ((newline = memchr(in->data + connection->searched, '\n', in->length - connection->searched))) {
            size_t end = (size_t)(newline - in->data);
            Span line = {in->data + connection->consumed, end - connection->consumed};
            connection->consumed = connection->searched = end + 1;
            if (handle_line(connection, line, reply))
                return GOT_REPLY;
        }
        buffer_drop_front(in, connection->consumed);
        connection->consumed = 0;
        connection->searched = in->length;
        buffer_reserve(in, 1 << 17);

        ssize_t count = read(connection->from, in->data + in->length, in->capacity - in->length);
        if (count > 0) {
            in->length += (size_t)count;
            continue;
        }
        if (count == 0)
            return CLOSED;
        if (errno != EAGAIN && errno != EINTR)
            die("read from the server");
        int writing = connection->sent < connection->out.length;
        struct pollfd wait[2] = {{connection->from, POLLIN, 0}, {connection->to, POLLOUT, 0}};
        int64_t left = (int64_t)(deadline - now_ns());
        if (left <= 0)
            return TIMED_OUT;
        if (connection->polling)
            give_way();
        else
            poll(wait, writing ? 2 : 1, (int)(left / 1000000) + 1);
        if (writing)
            flush_output(connection);
    }
}

static pid_t start_server(Connection *connection, char **command, int cpu)
{
    int to_child[2], from_child[2];
    if (pipe2(to_child, O_CLOEXEC) || pipe2(from_child, O_CLOEXEC))
        die("pipe");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        setpgid(0, 0);
        pin_to_cpu(cpu);
        dup2(to_child[0], STDIN_FILENO);
        dup2(from_child[1], STDOUT_FILENO);
        execvp(command[0], command);
        _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    connection->to = to_child[1];
    connection->from = from_child[0];
    fcntl(connection->to, F_SETFL, O_NONBLOCK);
    fcntl(connection->from, F_SETFL, O_NONBLOCK);
    buffer_reserve(&connection->in, 1 << 22);
    return child;
}

/* The `_meta` of a modern request, or nothing. */
static void append_meta(Buffer *out, const Options *options)
{
    if (options->modern)
        buffer_format(out,
                      "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"%s\","
                      "\"io.modelcontextprotocol/clientCapabilities\":{},"
                      "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"stdio_load\",\"version\":\"1\"}}",
                      options->revision);
}

/* Sends the first request, and after its answer whatever the era asks for. */
static void send_opening(Connection *connection, const Options *options)
{
    if (options->modern) {
        buffer_text(&connection->out, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server/discover\",\"params\":{");
        append_meta(&connection->out, options);
        buffer_text(&connection->out, "}}\n");
    } else {
        buffer_format(&connection->out,
                      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"%s\","
                      "\"capabilities\":{},\"clientInfo\":{\"name\":\"stdio_load\",\"version\":\"1\"}}}\n",
                      options->revision);
    }
    flush_output(connection);
}

static void send_list(Connection *connection, const Options *options)
{
    if (!options->modern)
        buffer_text(&connection->out, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
    flush_output(connection);
    if (options->settle_ms)
        usleep((useconds_t)options->settle_ms * 1000);
    buffer_text(&connection->out, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/list\",\"params\":{");
    append_meta(&connection->out, options);
    buffer_text(&connection->out, "}}\n");
    flush_output(connection);
}

/* A call is: the id, `head`, the text, `tail`. Only the id differs from call to call. */
typedef struct {
    Buffer head, tail;
    char *text;
    size_t text_length;
    long next_id;
    uint64_t sent_at[IN_FLIGHT_LIMIT];
} Caller;

static void caller_prepare(Caller *caller, const Options *options)
{
    Buffer *head = &caller->head;
    buffer_format(head, ",\"method\":\"tools/call\",\"params\":{\"name\":\"%s\",", options->tool);
    append_meta(head, options);
    buffer_format(head, "%s\"arguments\":{%s\"%s\":\"", options->modern ? "," : "", options->before, options->argument);
    buffer_format(&caller->tail, "\"%s}}}\n", options->after);
    size_t fixed = strlen("{\"jsonrpc\":\"2.0\",\"id\":100000") + head->length + caller->tail.length - 1;
    caller->text_length = options->size > fixed ? options->size - fixed : 1;
    caller->text = filler_text(caller->text_length);
    caller->next_id = FIRST_CALL;
}

static void call(Connection *connection, Caller *caller)
{
    Buffer *out = &connection->out;
    caller->sent_at[caller->next_id % IN_FLIGHT_LIMIT] = now_ns();
    buffer_format(out, "{\"jsonrpc\":\"2.0\",\"id\":%ld", caller->next_id++);
    buffer_append(out, caller->head.data, caller->head.length);
    buffer_append(out, caller->text, caller->text_length);
    buffer_append(out, caller->tail.data, caller->tail.length);
    flush_output(connection);
}

typedef struct {
    Samples latency;
    long done, failed;
    double seconds;
    Usage cpu; /* used while measuring */
} Result;

static void run_calls(Connection *connection, const Options *options, pid_t child, Result *result)
{
    static Caller caller;
    caller_prepare(&caller, options);
    ProcessTree tree;
    Usage before = {0};
    Reply reply;
    int in_flight = 0, measuring = 0, stopping = 0;
    long warmed = 0;
    uint64_t warm_until = now_ns() + seconds_to_ns(options->warmup), started = 0;

    for (; in_flight < options->window; in_flight++)
        call(connection, &caller);
    while (in_flight > 0) {
        if (next_reply(connection, ANSWER_TIMEOUT_S, &reply) != GOT_REPLY) {
            fprintf(stderr, "lost an answer; %d calls in flight\n", in_flight);
            result->failed++;
            return;
        }
        if (reply.id < FIRST_CALL)
            continue;
        uint64_t now = now_ns(), sent = caller.sent_at[reply.id % IN_FLIGHT_LIMIT];
        in_flight--;
        if (reply.failed || reply.length < caller.text_length)
            result->failed++;
        if (!measuring) {
            if (now >= warm_until && ++warmed >= 3) {
                measuring = 1;
                tree_walk(&tree, child);
                before = tree_cpu(&tree, options->child_cpu, options->client_cpu);
                started = now_ns();
            }
        } else if (!stopping) {
            result->done++;
            if (sent >= started)
                samples_add(&result->latency, now - sent);
            if (options->progress && result->done % options->progress == 0)
                fprintf(stderr, "progress %ld\n", result->done);
            stopping = options->calls ? result->done >= options->calls
                                      : now - started >= seconds_to_ns(options->seconds) && result->done >= 10;
            if (stopping) {
                result->seconds = (double)(now - started) / 1e9;
                Usage after = tree_cpu(&tree, options->child_cpu, options->client_cpu);
                result->cpu.gateway_ns = after.gateway_ns - before.gateway_ns;
                result->cpu.server_ns = after.server_ns - before.server_ns;
            }
        }
        if (!stopping) {
            call(connection, &caller);
            in_flight++;
        }
    }
}

static void stop_server(Connection *connection, pid_t child)
{
    close(connection->to);
    close(connection->from);
    for (int i = 0; i < 200; i++) {
        if (waitpid(child, NULL, WNOHANG) == child)
            return;
        usleep(10000);
        if (i == 100)
            kill(-child, SIGTERM);
    }
    kill(-child, SIGKILL);
    waitpid(child, NULL, 0);
}

static int parse_options(int argc, char **argv, Options *options)
{
    static const struct option names[] = {
        {"size", 1, NULL, 's'},     {"seconds", 1, NULL, 'd'},    {"warmup", 1, NULL, 'u'},
        {"calls", 1, NULL, 'n'},    {"progress", 1, NULL, 'p'},   {"window", 1, NULL, 'w'},
        {"tool", 1, NULL, 't'},     {"argument", 1, NULL, 'a'},   {"before", 1, NULL, 'b'},
        {"after", 1, NULL, 'e'},    {"client-cpu", 1, NULL, 'c'}, {"child-cpu", 1, NULL, 'C'},
        {"modern", 0, NULL, 'm'},   {"revision", 1, NULL, 'r'},   {"settle-ms", 1, NULL, 'l'},
        {"first-answer", 0, NULL, 'f'}, {"poll", 0, NULL, 'P'}, {NULL, 0, NULL, 0},
    };
    *options = (Options){.size = 200, .seconds = 1, .warmup = 0.3, .window = 1, .client_cpu = -1, .child_cpu = -1,
                         .tool = "echo", .argument = "text", .before = "", .after = ""};
    int name;
    while ((name = getopt_long(argc, argv, "+", names, NULL)) != -1) {
        switch (name) {
        case 's': options->size = (size_t)atol(optarg); break;
        case 'd': options->seconds = atof(optarg); break;
        case 'u': options->warmup = atof(optarg); break;
        case 'n': options->calls = atol(optarg); break;
        case 'p': options->progress = atol(optarg); break;
        case 'w': options->window = atoi(optarg); break;
        case 't': options->tool = optarg; break;
        case 'a': options->argument = optarg; break;
        case 'b': options->before = optarg; break;
        case 'e': options->after = optarg; break;
        case 'c': options->client_cpu = atoi(optarg); break;
        case 'C': options->child_cpu = atoi(optarg); break;
        case 'm': options->modern = 1; break;
        case 'r': options->revision = optarg; break;
        case 'l': options->settle_ms = atoi(optarg); break;
        case 'P': options->polling = 1; break;
        case 'f': options->first_answer_only = 1; break;
        default: return -1;
        }
    }
    if (!options->revision)
        options->revision = options->modern ? "2026-07-28" : "2025-06-18";
    return optind < argc && options->window > 0 && options->window < IN_FLIGHT_LIMIT ? 0 : -1;
}

int main(int argc, char **argv)
{
    Options options;
    if (parse_options(argc, argv, &options)) {
        fprintf(stderr, "usage: stdio_load [OPTIONS] -- COMMAND ARGS… (options: see the source)\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    Connection connection = {.polling = options.polling};
    Reply reply;
    uint64_t spawned = now_ns();
    pid_t child = start_server(&connection, argv + optind, options.child_cpu);
    pin_to_cpu(options.client_cpu);

    send_opening(&connection, &options);
    Outcome opened = next_reply(&connection, 60, &reply);
    double first_ms = (double)(now_ns() - spawned) / 1e6;
    double list_ms = 0;
    if (opened == GOT_REPLY && !reply.failed) {
        uint64_t asked = now_ns();
        send_list(&connection, &options);
        opened = next_reply(&connection, 60, &reply);
        list_ms = (double)(now_ns() - asked) / 1e6;
    }
    Result result = {0};
    if (opened != GOT_REPLY || reply.failed) {
        fprintf(stderr, "the conversation did not open\n");
        result.failed = 1;
    } else if (!options.first_answer_only) {
        run_calls(&connection, &options, child, &result);
    }
    ProcessTree tree;
    tree_walk(&tree, child);
    Usage memory = tree_memory(&tree);
    double per_call = result.done ? 1e-3 / (double)result.done : 0;
    int ok = !result.failed && (result.done > 0 || options.first_answer_only);
    printf("{\"ok\":%s,\"size\":%zu,\"window\":%d,\"calls\":%ld,\"failed\":%ld,\"rate\":%.1f,", ok ? "true" : "false",
           options.size, options.window, result.done, result.failed,
           result.seconds > 0 ? (double)result.done / result.seconds : 0);
    samples_print(&result.latency, "");
    printf(",\"first_ms\":%.2f,\"list_ms\":%.2f,\"rss_kb\":%ld,\"pss_kb\":%ld,\"processes\":%d,"
           "\"cpu_us\":%.2f,\"server_cpu_us\":%.2f}\n",
           first_ms, list_ms, memory.rss_kb, memory.pss_kb, memory.processes,
           (double)result.cpu.gateway_ns * per_call, (double)result.cpu.server_ns * per_call);
    fflush(stdout);
    stop_server(&connection, child);
    return !ok;
}
