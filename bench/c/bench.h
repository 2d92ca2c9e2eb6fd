/* What every bench program needs: a clock, a growable buffer, CPU pinning, latency samples.
 *
 * Include it first: it asks for the GNU extensions (memmem, CPU sets, epoll_pwait2). */
#ifndef BENCH_H
#define BENCH_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline uint64_t seconds_to_ns(double seconds) { return (uint64_t)(seconds * 1e9); }

/* Stops the program with a message: a bench that cannot go on has no result. */
static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(3);
}

/* Runs this process and the children it starts on one CPU; a negative number leaves it free. */
static inline void pin_to_cpu(int cpu)
{
    if (cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        die("sched_setaffinity");
}

/* Instead of sleeping, let the other program on this CPU run. A sender then never has to wake us, which from
 * another CPU takes an interrupt; on a virtual machine that costs the sender more than the call does. */
static inline void give_way(void) { sched_yield(); }

/* ---- a growable byte buffer ---- */

typedef struct {
    char *data;
    size_t length, capacity;
} Buffer;

static inline void buffer_reserve(Buffer *buffer, size_t extra)
{
    if (buffer->capacity - buffer->length >= extra)
        return;
    size_t capacity = buffer->capacity ? buffer->capacity : 4096;
    while (capacity - buffer->length < extra)
        capacity *= 2;
    buffer->data = realloc(buffer->data, capacity);
    if (!buffer->data)
        die("realloc");
    buffer->capacity = capacity;
}

static inline void buffer_append(Buffer *buffer, const void *data, size_t length)
{
    buffer_reserve(buffer, length);
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

static inline void buffer_text(Buffer *buffer, const char *text) { buffer_append(buffer, text, strlen(text)); }

/* printf into the buffer; one call adds at most 4 KiB. */
__attribute__((format(printf, 2, 3))) static inline void buffer_format(Buffer *buffer, const char *format, ...)
{
    buffer_reserve(buffer, 4096);
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(buffer->data + buffer->length, 4096, format, arguments);
    va_end(arguments);
    if (written < 0 || written >= 4096) {
        fprintf(stderr, "buffer_format: more than 4 KiB\n");
        exit(3);
    }
    buffer->length += (size_t)written;
}

static inline void buffer_drop_front(Buffer *buffer, size_t length)
{
    buffer->length -= length;
    if (buffer->length)
        memmove(buffer->data, buffer->data + length, buffer->length);
}

/* Writes everything to a blocking descriptor. Returns 0, or -1 when the other side is gone. */
static inline int write_all(int descriptor, const char *data, size_t length)
{
    while (length) {
        ssize_t written = write(descriptor, data, length);
        if (written < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

/* ---- latency samples ---- */

enum { SAMPLE_LIMIT = 8000000 };

typedef struct {
    uint32_t *ns;
    size_t count;
} Samples;

static inline void samples_add(Samples *samples, uint64_t ns)
{
    if (!samples->ns && !(samples->ns = malloc(sizeof(uint32_t) * SAMPLE_LIMIT)))
        die("malloc");
    if (samples->count < SAMPLE_LIMIT)
        samples->ns[samples->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static inline int samples_compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* Sorts, then prints `"<prefix>p50":…` and the other percentiles in microseconds, as JSON members. */
static inline void samples_print(Samples *samples, const char *prefix)
{
    if (samples->count)
        qsort(samples->ns, samples->count, sizeof(uint32_t), samples_compare);
    static const struct {
        const char *name;
        double rank;
    } percentiles[] = {{"min", 0}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++) {
        size_t index = (size_t)((double)samples->count * percentiles[i].rank);
        double us = samples->count ? samples->ns[index] / 1e3 : 0;
        printf("\"%s%s\":%.2f,", prefix, percentiles[i].name, us);
    }
    printf("\"%ssamples\":%zu", prefix, samples->count);
}

/* The text that fills an argument up to the wanted size: plain words, so that no control has anything to say. */
static inline char *filler_text(size_t length)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog 0123456789 ";
    char *text = malloc(length + 1);
    if (!text)
        die("malloc");
    for (size_t i = 0; i < length; i++)
        text[i] = words[i % (sizeof words - 1)];
    text[length] = 0;
    return text;
}

#endif
