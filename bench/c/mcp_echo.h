/* The MCP server behind stdio_echo and http_echo: two tools, both eras of the protocol.
 *
 * `echo {text}` answers with the same text. `stream {count, interval_us}` is for the transport to
 * play: `count` progress notifications, each with the time it was sent at, then a result. */
#ifndef MCP_ECHO_H
#define MCP_ECHO_H
#include "mini_json.h"

#define MODERN_REVISION "2026-07-28"
#define MODERN_KEY "io.modelcontextprotocol/protocolVersion"
#define SERVER_INFO "{\"name\":\"bench-echo\",\"version\":\"1.0.0\"}"
#define TOOLS                                                                                                          \
    "[{\"name\":\"echo\",\"description\":\"Answers with the text it was given.\",\"inputSchema\":{\"type\":"            \
    "\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"]}},"                            \
    "{\"name\":\"stream\",\"description\":\"Sends progress notifications, then a result.\",\"inputSchema\":{"           \
    "\"type\":\"object\",\"properties\":{\"count\":{\"type\":\"integer\"},\"interval_us\":{\"type\":\"integer\"}}}}]"

/* What `stream` was asked for. */
typedef struct {
    long left, sent, interval_us;
    char id[64], token[64];
    int modern;
} Stream;

typedef enum { NO_ANSWER, ANSWERED, STREAM } Answer;

/* Modern results say that they are complete; lists and discovery are cacheable. */
static inline const char *result_type(int modern) { return modern ? "\"resultType\":\"complete\"," : ""; }
static inline const char *cacheable(int modern) { return modern ? "\"ttlMs\":0,\"cacheScope\":\"private\"," : ""; }

/* Appends the answer to `message`, without a newline. For STREAM it appends nothing and fills `stream`. */
static inline Answer mcp_answer(Span message, Buffer *out, Stream *stream)
{
    Span id = json_member(message, "id");
    Span method = json_member(message, "method");
    if (!id.data || !method.data)
        return NO_ANSWER; /* a notification, or a client's answer */
    Span params = json_member(message, "params");
    Span meta = json_member(params, "_meta");
    int modern = json_member(meta, MODERN_KEY).data != NULL;

    if (json_is_string(method, "tools/call")) {
        Span name = json_member(params, "name");
        Span arguments = json_member(params, "arguments");
        if (json_is_string(name, "stream")) {
            stream->left = json_long(json_member(arguments, "count"), 10);
            stream->interval_us = json_long(json_member(arguments, "interval_us"), 0);
            stream->sent = 0;
            stream->modern = modern;
            span_copy(stream->id, sizeof stream->id, id, "0");
            span_copy(stream->token, sizeof stream->token, json_member(meta, "progressToken"), "0");
            return STREAM;
        }
        Span text = json_member(arguments, "text");
        buffer_reserve(out, id.length + text.length + 256);
        buffer_text(out, "{\"jsonrpc\":\"2.0\",\"id\":");
        buffer_append(out, id.data, id.length);
        buffer_text(out, ",\"result\":{");
        buffer_text(out, result_type(modern));
        buffer_text(out, "\"content\":[{\"type\":\"text\",\"text\":");
        if (text.data)
            buffer_append(out, text.data, text.length);
        else
            buffer_text(out, "\"\"");
        buffer_text(out, text.data ? "}],\"isError\":false}}" : "}],\"isError\":true}}");
        return ANSWERED;
    }

    buffer_text(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    buffer_append(out, id.data, id.length);
    if (json_is_string(method, "initialize")) {
        Span revision = json_member(params, "protocolVersion");
        buffer_text(out, ",\"result\":{\"protocolVersion\":");
        buffer_append(out, revision.data ? revision.data : "\"2025-06-18\"", revision.data ? revision.length : 12);
        buffer_text(out, ",\"capabilities\":{\"tools\":{}},\"serverInfo\":" SERVER_INFO "}}");
    } else if (json_is_string(method, "server/discover")) {
        buffer_text(out, ",\"result\":{\"resultType\":\"complete\",\"ttlMs\":0,\"cacheScope\":\"private\","
                         "\"supportedVersions\":[\"" MODERN_REVISION "\"],\"capabilities\":{\"tools\":{}},"
                         "\"_meta\":{\"io.modelcontextprotocol/serverInfo\":" SERVER_INFO "}}}");
    } else if (json_is_string(method, "tools/list")) {
        buffer_text(out, ",\"result\":{");
        buffer_text(out, result_type(modern));
        buffer_text(out, cacheable(modern));
        buffer_text(out, "\"tools\":" TOOLS "}}");
    } else if (json_is_string(method, "ping")) {
        buffer_text(out, ",\"result\":{}}");
    } else {
        buffer_text(out, ",\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}");
    }
    return ANSWERED;
}

/* The next progress notification of a stream: `ts=` is CLOCK_MONOTONIC in ns at the moment of sending. */
static inline void mcp_stream_event(Stream *stream, Buffer *out)
{
    buffer_format(out,
                  "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":%s,"
                  "\"progress\":%ld,\"message\":\"ts=%llu the quick brown fox jumps over the lazy dog\"}}",
                  stream->token, ++stream->sent, (unsigned long long)now_ns());
    stream->left--;
}

static inline void mcp_stream_result(const Stream *stream, Buffer *out)
{
    buffer_format(out,
                  "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{%s\"content\":[{\"type\":\"text\",\"text\":\"done\"}],"
                  "\"isError\":false}}",
                  stream->id, result_type(stream->modern));
}

#endif
