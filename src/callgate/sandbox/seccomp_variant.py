"""Which of the filters a backend asks for: apart from the profile, so that a launch need not load its tables."""

from __future__ import annotations

from callgate.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Variant:
    """What a backend needs of the profile.

    `unix_sockets`: allow AF_UNIX beside the internet families. `alone`: there are no namespaces, so what they would
    hold is refused here: datagram and raw sockets, System V and POSIX queues, paths of others' metadata.
    `internet`: no internet socket at all where false. `truncate`: whether the call is held by Landlock (ABI 3).
    """

    unix_sockets: bool = False
    alone: bool = False
    internet: bool = True
    truncate: bool = True
