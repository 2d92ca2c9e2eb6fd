"""`file:///path`: a file that nobody but its owner can read, as containers and systemd hand secrets over."""

from __future__ import annotations

import os
import stat

from callgate.errors import SecretError
from callgate.vault.fields import MOST_DOCUMENT
from callgate.vault.providers.base import Document
from callgate.vault.reference import Reference


class FileProvider:
    """See the module. One line end at the end of the file does not belong to the secret."""

    def read(self, reference: Reference) -> Document:
        """The file's bytes. It must be a regular file of this user or root, mode 0600 or less."""
        data = read_private(reference.path, reference.text)
        return Document(data if reference.key else without_line_end(data))

    def close(self) -> None:
        """Nothing is held."""


def without_line_end(data: bytes) -> bytes:
    """`data` without one line end at its end."""
    return data.removesuffix(b"\n").removesuffix(b"\r") if data.endswith(b"\n") else data


def read_private(path: str, shown: str) -> bytes:
    """A file that other users cannot read. `shown` is what errors call it. Raises SecretError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = error.strerror
        descriptor = -1
    if descriptor < 0:
        raise SecretError(f"{shown} cannot be read: {reason}", next_step="check the path and who may read it")
    try:
        check_private(os.fstat(descriptor), path, shown)
        data = bytearray()
        while len(data) <= MOST_DOCUMENT:
            piece = os.read(descriptor, 65_536)
            if not piece:
                return bytes(data)
            data += piece
    finally:
        os.close(descriptor)
    raise SecretError(f"{shown} has more than {MOST_DOCUMENT} bytes", next_step="keep the secret in a file of its own")


def check_private(status: os.stat_result, path: str, shown: str) -> None:
    """Raises SecretError for anything but a regular file of this user or root that others cannot read or write."""
    from callgate.text import visible

    if not stat.S_ISREG(status.st_mode):
        raise SecretError(f"{shown} is no regular file", next_step="name the file that holds the secret")
    if status.st_mode & 0o077:
        raise SecretError(
            f"{shown} can be read or changed by other users (mode {stat.S_IMODE(status.st_mode):04o})",
            effect="it was not read: treat what stands in it as known to them",
            next_step=f"change the secret if others use this machine, then: chmod 600 {visible(path, 300)}",
        )
    if hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), 0):
        raise SecretError(f"{shown} belongs to another user (uid {status.st_uid})", next_step="use a file of your own")
