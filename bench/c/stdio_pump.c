/* stdio_pump threads|splice COMMAND ARGS… - the floor for a stdio gateway: moves bytes, looks at nothing.
 *
 * threads: two blocking threads with a 64 KiB buffer. splice: the same, the kernel moves the pages. */
#include "bench.h"
#include <fcntl.h>
#include <pthread.h>

enum { CHUNK = 65536 };

typedef struct {
    int from, to;
} Pipe;

static void *copy(void *argument)
{
    Pipe *pipe = argument;
    char *chunk = malloc(CHUNK);
    ssize_t count;
    while ((count = read(pipe->from, chunk, CHUNK)) > 0)
        if (write_all(pipe->to, chunk, (size_t)count))
            break;
    close(pipe->to);
    return NULL;
}

static void *move(void *argument)
{
    Pipe *pipe = argument;
    while (splice(pipe->from, NULL, pipe->to, NULL, 1 << 20, 0) > 0)
        ;
    close(pipe->to);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: stdio_pump threads|splice COMMAND ARGS…\n");
        return 2;
    }
    void *(*pump)(void *) = strcmp(argv[1], "splice") ? copy : move;
    int to_child[2], from_child[2];
    if (pipe2(to_child, O_CLOEXEC) || pipe2(from_child, O_CLOEXEC))
        die("pipe");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        dup2(to_child[0], STDIN_FILENO);
        dup2(from_child[1], STDOUT_FILENO);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    Pipe up = {STDIN_FILENO, to_child[1]}, down = {from_child[0], STDOUT_FILENO};
    pthread_t thread;
    if (pthread_create(&thread, NULL, pump, &up))
        die("pthread_create");
    pump(&down); /* ends when the server does */
    return 0;
}
