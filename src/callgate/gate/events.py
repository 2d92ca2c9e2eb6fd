"""What a control is asked about.

A hook name says when, an Event says what. Events are read-only; a control that wants a message
changed returns edits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from callgate.frozen import dataclass
from callgate.protocol.message import Direction, Message

if TYPE_CHECKING:
    from callgate.gate.conversation import Conversation
    from callgate.gate.pending import Pending
    from callgate.protocol.surfaces import Surface

Hook: TypeAlias = Literal["launch", "connect", "catalog", "call", "content", "server_request"]
HOOKS: tuple[Hook, ...] = ("launch", "connect", "catalog", "call", "content", "server_request")


MOST_PLACES = 32_000_000
"""Characters of all pointers of one message. An ordinary one has a hundred for each of the places it is hit in; one
with a very long member name above very many of them would fill the memory."""


class TooManyPlaces(Exception):
    """The places of a message take more room than MOST_PLACES: the control fails, and so the message is denied."""


@dataclass(frozen=True, slots=True)
class LaunchEvent:
    """A server process is about to start (hook `launch`). Environment by name only."""

    server: str
    command: tuple[str, ...]
    cwd: str
    environment: tuple[str, ...]


class Event:
    """One message at one hook.

    - `connect`: a client's `initialize` or `server/discover` request.
    - `catalog`: an answer to those (identity, instructions) or to a list request: what the server says
      it offers. Removing an element withholds it.
    - `call`: any other request or notification of a client.
    - `content`: any other answer, error or notification of a server.
    - `server_request`: a request of a server (sampling, elicitation, roots), a client's answer to one,
      and, since 2026-07-28, a result with `resultType: input_required`.

    `request` is the client request that `message` answers (None when it answers none). `name` is
    the tool, prompt or resource URI of the request concerned, or ''.
    On error the engine denies: a control that raises, hangs or returns rubbish refuses the message.
    """

    __slots__ = ("_room", "_surfaces", "conversation", "direction", "hook", "message", "method", "name", "request")

    def __init__(
        self,
        hook: Hook,
        direction: Direction,
        message: Message,
        conversation: Conversation,
        method: str,
        name: str = "",
        request: Pending | None = None,
    ) -> None:
        self.hook = hook
        self.direction = direction
        self.message = message
        self.conversation = conversation
        self.method = method
        self.name = name
        self.request = request
        self._surfaces: list[Surface] | None = None
        self._room = MOST_PLACES

    def surfaces(self) -> list[Surface]:
        """All strings of the message with pointer and role, located once and kept."""
        if self._surfaces is None:
            from callgate.protocol.surfaces import surfaces

            self._surfaces = surfaces(self.message.body, self.direction, self.method)
        return self._surfaces

    def pointer(self, surface: Surface) -> str:
        """Where one of them stands; each time it is asked for counts. Raises TooManyPlaces."""
        found = surface.pointer
        self._room -= len(found)
        if self._room < 0:
            raise TooManyPlaces
        return found
