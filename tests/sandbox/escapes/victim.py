"""Another program of the same user: it holds a secret in its environment, its memory and an open file."""

import ctypes
import json
import os
import signal
import sys


def main(secret: str, marker: str) -> None:
    held = ctypes.create_string_buffer(secret.encode())
    descriptor = os.memfd_create("secret")
    os.write(descriptor, secret.encode())

    def hit(number: int, frame: object) -> None:
        with open(marker, "w") as file:
            file.write("hit")

    signal.signal(signal.SIGUSR1, hit)
    print(json.dumps({"address": ctypes.addressof(held), "fd": descriptor}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(os.environ["VICTIM_SECRET"], sys.argv[1])
