/* Memory and CPU time of a gateway: its process and all descendants, without the echo server. */
#ifndef PROCESS_TREE_H
#define PROCESS_TREE_H
#include "bench.h"
#include <dirent.h>

enum { TREE_LIMIT = 128 };
#define SERVER_NAME "stdio_echo" /* as in /proc/PID/comm, at most 15 characters */

typedef struct {
    int pids[TREE_LIMIT];
    int count;
} ProcessTree;

typedef struct {
    long rss_kb, pss_kb;
    uint64_t gateway_ns, server_ns; /* CPU time used so far */
    int processes;
} Usage;

static inline int is_server(int pid)
{
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fgets(name, sizeof name, file))
        name[strcspn(name, "\n")] = 0;
    fclose(file);
    return !strcmp(name, SERVER_NAME);
}

static inline void tree_walk(ProcessTree *tree, int root)
{
    tree->count = 0;
    tree->pids[tree->count++] = root;
    for (int i = 0; i < tree->count; i++) {
        char tasks[64];
        snprintf(tasks, sizeof tasks, "/proc/%d/task", tree->pids[i]);
        DIR *directory = opendir(tasks);
        if (!directory)
            continue;
        struct dirent *entry;
        while ((entry = readdir(directory))) {
            char path[128];
            snprintf(path, sizeof path, "%s/%.20s/children", tasks, entry->d_name);
            FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
            if (!file)
                continue;
            int child;
            while (tree->count < TREE_LIMIT && fscanf(file, "%d", &child) == 1)
                tree->pids[tree->count++] = child;
            fclose(file);
        }
        closedir(directory);
    }
}

/* CPU time of all threads in ns. The kernel brings it up to date when a process is interrupted; one that never
 * sleeps may have a CPU without ticks to itself. */
static inline uint64_t cpu_time_ns(int pid)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &used))
        return 0;
    return (uint64_t)used.tv_sec * 1000000000ull + (uint64_t)used.tv_nsec;
}

static inline void add_memory(int pid, Usage *usage)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        if (!strncmp(line, "Rss:", 4))
            usage->rss_kb += strtol(line + 4, NULL, 10);
        else if (!strncmp(line, "Pss:", 4))
            usage->pss_kb += strtol(line + 4, NULL, 10);
    }
    fclose(file);
}

/* CPU time only, read from the gateway's own CPU (-1: any), which interrupts it. Returns to `home` afterwards. */
static inline Usage tree_cpu(const ProcessTree *tree, int cpu, int home)
{
    Usage usage = {0};
    pin_to_cpu(cpu);
    for (int i = 0; i < tree->count; i++)
        *(is_server(tree->pids[i]) ? &usage.server_ns : &usage.gateway_ns) += cpu_time_ns(tree->pids[i]);
    pin_to_cpu(home);
    return usage;
}

static inline Usage tree_memory(const ProcessTree *tree)
{
    Usage usage = {0};
    for (int i = 0; i < tree->count; i++) {
        if (is_server(tree->pids[i]))
            continue;
        usage.processes++;
        add_memory(tree->pids[i], &usage);
    }
    return usage;
}

#endif
