/* stdio_echo [CPU [poll]] - a stdio MCP server that answers at once (see mcp_echo.h).
 *
 * The optional CPU moves it away from the gateway that started it, whose pinning it inherits. With `poll` it
 * never sleeps (see give_way in bench.h). */
#include "mcp_echo.h"
#include <fcntl.h>

/* Answers one line, without its newline. Returns -1 when the client is gone. */
static int answer_line(Span line, Buffer *out)
{
    Stream stream;
    switch (mcp_answer(line, out, &stream)) {
    case NO_ANSWER:
        return 0;
    case ANSWERED:
        buffer_text(out, "\n");
        return 0;
    case STREAM:
        while (stream.left > 0) {
            if (stream.interval_us)
                usleep((useconds_t)stream.interval_us);
            mcp_stream_event(&stream, out);
            buffer_text(out, "\n");
            if (write_all(STDOUT_FILENO, out->data, out->length))
                return -1;
            out->length = 0;
        }
        mcp_stream_result(&stream, out);
        buffer_text(out, "\n");
        return 0;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        pin_to_cpu(atoi(argv[1]));
    if (argc > 2)
        fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    Buffer in = {0}, out = {0};
    size_t searched = 0; /* bytes of `in` known to hold no newline */
    for (;;) {
        buffer_reserve(&in, 1 << 16);
        ssize_t count = read(STDIN_FILENO, in.data + in.length, in.capacity - in.length);
        if (count < 0 && errno == EAGAIN) {
            give_way();
            continue;
        }
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0;
        in.length += (size_t)count;

        size_t start = 0;
        char *newline;
        while ((newline = memchr(in.data + searched, '\n', in.length - searched))) {
            size_t end = (size_t)(newline - in.data);
            if (answer_line((Span){in.data + start, end - start}, &out))
                return 0;
            start = searched = end + 1;
        }
        searched = in.length - start;
        buffer_drop_front(&in, start);
        if (out.length && write_all(STDOUT_FILENO, out.data, out.length))
            return 0;
        out.length = 0;
    }
}
