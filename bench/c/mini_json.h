/* Finds members of a JSON object without building anything.
 *
 * It trusts its input to be well-formed JSON: both ends of a bench are ours, and a gateway that sends
 * something else fails the run's own check of the answers. Values come back as the raw bytes of the
 * text, strings with their quotes and escapes. */
#ifndef MINI_JSON_H
#define MINI_JSON_H
#include "bench.h"

typedef struct {
    const char *data; /* NULL: not there */
    size_t length;
} Span;

static inline const char *json_skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

/* `at` is on the opening quote; returns the place after the closing one. */
static inline const char *json_skip_string(const char *at, const char *end)
{
    const char *from = at + 1;
    for (;;) {
        const char *quote = memchr(from, '"', (size_t)(end - from));
        if (!quote)
            return end;
        const char *backslash = quote;
        while (backslash > at + 1 && backslash[-1] == '\\')
            backslash--;
        if ((quote - backslash) % 2 == 0)
            return quote + 1;
        from = quote + 1;
    }
}

/* Returns the place after the value at `at`: a string, a container, or a number or word. */
static inline const char *json_skip_value(const char *at, const char *end)
{
    if (at < end && *at == '"')
        return json_skip_string(at, end);
    int depth = 0;
    while (at < end) {
        char c = *at;
        if (c == '"') {
            at = json_skip_string(at, end);
            continue;
        }
        if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                return at; /* the end of the container this number or word is in */
            if (--depth == 0)
                return at + 1;
        } else if (depth == 0 && (c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
            return at;
        }
        at++;
    }
    return end;
}

/* The value of one member of `object`, or an empty span. */
static inline Span json_member(Span object, const char *name)
{
    Span none = {NULL, 0};
    if (!object.data)
        return none;
    const char *end = object.data + object.length;
    const char *at = json_skip_space(object.data, end);
    size_t name_length = strlen(name);
    if (at >= end || *at != '{')
        return none;
    at = json_skip_space(at + 1, end);
    while (at < end && *at == '"') {
        const char *key = at + 1;
        at = json_skip_string(at, end);
        size_t key_length = (size_t)(at - key) - 1;
        at = json_skip_space(at, end);
        if (at >= end || *at != ':')
            return none;
        at = json_skip_space(at + 1, end);
        const char *value = at;
        at = json_skip_value(at, end);
        if (key_length == name_length && !memcmp(key, name, name_length))
            return (Span){value, (size_t)(at - value)};
        at = json_skip_space(at, end);
        if (at >= end || *at != ',')
            return none;
        at = json_skip_space(at + 1, end);
    }
    return none;
}

/* Whether the span is exactly this JSON string. */
static inline int json_is_string(Span value, const char *text)
{
    size_t length = strlen(text);
    return value.data && value.length == length + 2 && value.data[0] == '"' && !memcmp(value.data + 1, text, length);
}

static inline int json_is_true(Span value) { return value.data && value.length == 4 && !memcmp(value.data, "true", 4); }

/* A number, also when it is written as a string ("17"), as some gateways rewrite ids. */
static inline long json_long(Span value, long otherwise)
{
    if (!value.data || !value.length)
        return otherwise;
    char digits[24] = {0};
    const char *from = value.data + (value.data[0] == '"');
    size_t length = (size_t)(value.data + value.length - from);
    memcpy(digits, from, length < sizeof digits - 1 ? length : sizeof digits - 1);
    return strtol(digits, NULL, 10);
}

/* As a C string, or `otherwise` when it is not there or does not fit. */
static inline void span_copy(char *to, size_t capacity, Span from, const char *otherwise)
{
    if (from.data && from.length < capacity)
        snprintf(to, capacity, "%.*s", (int)from.length, from.data);
    else
        snprintf(to, capacity, "%s", otherwise);
}

#endif
