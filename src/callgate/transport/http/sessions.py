"""Handshake-era sessions of one route: which Channel an `Mcp-Session-Id` stands for, and whose it is.

A session belongs to the principal that opened it; anybody else is told what they would be told of a
session that never was. The table is bounded: the session unused for longest makes room, and only when
every one has a request or a stream in progress is a new one refused. What leaves the table is the
memory of this gate, not the server's: a request of a forgotten session gets a new Channel.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from callgate.gate.channel import Channel

IDLE_S = 3600.0
"""A session nobody used for this long is forgotten."""
ID_BYTES = 1024
"""Longest session id taken from either side."""
ASKED = 1024
"""Open server requests remembered per route for servers that give no session ids."""


def session_label(session_id: bytes) -> str:
    """How evidence names a session: a digest, for the id itself opens the session."""
    return "s-" + hashlib.sha256(session_id).hexdigest()[:16]


class Session:
    """One session. `busy` counts exchanges in progress; `replays` streams opened with Last-Event-ID."""

    __slots__ = ("busy", "channel", "principal", "replays", "used")

    def __init__(self, principal: str, channel: Channel, used: float) -> None:
        self.principal = principal
        self.channel = channel
        self.used = used
        self.busy = 0
        self.replays = 0


class SessionTable:
    """At most `limit` sessions; order is by last use."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._asked: OrderedDict[tuple[str, str | int], Channel] = OrderedDict()
        self._resumable: OrderedDict[tuple[str, bytes], Channel] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, session_id: bytes, principal: str, now: float) -> Session | bool:
        """The session; False if it is unknown here, True if it is somebody else's."""
        session = self._sessions.get(session_id)
        if session is None:
            return False
        if session.principal != principal:
            return True
        self.used(session_id, session, now)
        return session

    def peek(self, session_id: bytes, principal: str) -> Session | None:
        """The session, if it is known and this caller's; that somebody looked is no use of it."""
        session = self._sessions.get(session_id)
        return session if session is not None and session.principal == principal else None

    def used(self, session_id: bytes, session: Session, now: float) -> None:
        """The session is in use."""
        session.used = now
        self._sessions.move_to_end(session_id)

    def add(self, session_id: bytes, principal: str, channel: Channel, now: float) -> Session | None:
        """Remember a session; None when there is no room."""
        if len(session_id) > ID_BYTES:
            return None
        self.expire(now)
        if len(self._sessions) >= self.limit:
            for key, session in self._sessions.items():
                if not session.busy:
                    self.remove(key)
                    break
            else:
                return None
        session = Session(principal, channel, now)
        self._sessions[session_id] = session
        return session

    def opened(self, session_id: bytes, principal: str, channel: Channel, now: float) -> Session | None:
        """The server named this session in an answer to this caller: the caller's from now on, and in use.

        None where it is somebody else's, or there is no room.
        """
        found = self.find(session_id, principal, now)
        if found is True:
            return None
        session = found or None
        if session is None:
            channel.conversation.session = label = session_label(session_id)
            channel.scope.belongs_to(label)
            session = self.add(session_id, principal, channel, now)
        if session is not None:
            session.busy += 1
        return session

    def remove(self, session_id: bytes) -> None:
        """The session has ended."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.channel.close()

    def expire(self, now: float) -> None:
        """Forget what was idle for IDLE_S."""
        while self._sessions:
            key, session = next(iter(self._sessions.items()))
            if session.busy or now - session.used < IDLE_S:
                return
            self.remove(key)

    def sessions(self) -> list[Session]:
        """All of them, the least recently used first."""
        return list(self._sessions.values())

    # -- servers without sessions ----------------------------------------------------------------

    def ask(self, principal: str, channel: Channel) -> None:
        """Remember which Channel the server's open requests belong to, so that the answers find it."""
        for request_id in channel.asked:
            self._asked[principal, request_id] = channel
        while len(self._asked) > ASKED:
            self._asked.popitem(last=False)

    def asked(self, principal: str, request_id: str | int) -> Channel | None:
        """The Channel that waits for this answer."""
        return self._asked.pop((principal, request_id), None)

    def resumable(self, principal: str, event_id: bytes, channel: Channel) -> None:
        """A stream that ended before its answer, after `event_id`: the client may come back for the rest."""
        if len(event_id) <= ID_BYTES:
            self._resumable[principal, event_id] = channel
            if len(self._resumable) > ASKED:
                self._resumable.popitem(last=False)

    def resumed(self, principal: str, event_id: bytes) -> Channel | None:
        """The Channel of the stream that ended after `event_id`."""
        return self._resumable.get((principal, event_id))

    def clear(self) -> None:
        """The route closes."""
        for key in tuple(self._sessions):
            self.remove(key)
        self._asked.clear()
        self._resumable.clear()
