"""The floor for a stdio gateway in Python: one epoll loop that moves lines and looks at nothing.

    stdio_relay.py COMMAND ARGS…

Not a relay to use: it writes as if pipes never filled, which holds for one small call at a time.
"""

import os
import select
import sys

STDIN, STDOUT = 0, 1


def main(command: list[str]) -> None:
    child_in, to_child = os.pipe()
    from_child, child_out = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, child_in, STDIN), (os.POSIX_SPAWN_DUP2, child_out, STDOUT)]
    os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    os.close(child_in)
    os.close(child_out)
    onward = {STDIN: to_child, from_child: STDOUT}
    poller = select.epoll()
    for source in onward:
        poller.register(source, select.EPOLLIN)
    read, write, poll = os.read, os.write, poller.poll
    while True:
        for source, _ in poll():
            chunk = read(source, 65536)
            if not chunk:
                return
            write(onward[source], chunk)


main(sys.argv[1:])
