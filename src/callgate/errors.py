"""Every error callgate raises on purpose, as one tree.

    CallgateError
    ├── ConfigError            the configuration or the command line is wrong
    ├── ProtocolError          a message is not what MCP allows
    │   └── LimitExceeded      a message is allowed in form but too large in some respect
    ├── StoreError             the state database cannot be read or written
    ├── AuditError             the evidence log cannot be written or does not verify
    ├── LaunchError            a server cannot be started
    │   └── SandboxError       a server cannot be confined as it must be, so it is not started
    ├── TrustError             an artefact, lock, signature or catalogue is not what it must be
    ├── SecretError            a secret cannot be found, read, stored or used as asked
    └── UpstreamError          a server died, hung, or answered something that is not HTTP or MCP

Each carries what a person needs: what happened, what that did to the session, what to do next.
"""

from __future__ import annotations


class CallgateError(Exception):
    """Base of all deliberate errors.

    `what` is one sentence, safe to print (no secret, no raw control character); `effect` says what
    happened to the message or the session; `next_step` says what the reader can do.
    """

    effect = ""
    next_step = ""

    def __init__(self, what: str, *, effect: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        if effect:
            self.effect = effect
        if next_step:
            self.next_step = next_step

    def diagnostics(self) -> str:
        """The error as a person reads it: up to three lines."""
        lines = [self.what]
        if self.effect:
            lines.append(f"  effect: {self.effect}")
        if self.next_step:
            lines.append(f"  next:   {self.next_step}")
        return "\n".join(lines)


class ConfigError(CallgateError):
    """The configuration file or the command line cannot be used."""

    effect = "nothing was started"


class ProtocolError(CallgateError):
    """A message breaks JSON, JSON-RPC 2.0 or MCP in a way the gate refuses.

    `rule` is the stable id printed in errors, events and docs (docs/protocol-errors.md);
    `rpc_code` is the JSON-RPC code the sender gets: -32700 (not JSON) or -32600 (not a valid message).
    """

    effect = "the message was refused and not forwarded"

    def __init__(
        self,
        rule: str,
        what: str,
        *,
        rpc_code: int = -32600,
        next_step: str = "",
        request_id: str | int | None = None,
    ) -> None:
        super().__init__(what, next_step=next_step)
        self.rule = rule
        self.rpc_code = rpc_code
        self.request_id = request_id
        """The id of the refused message where it could be read, so that the error reaches its caller."""
        self.is_answer = False
        """Whether the refused message was an answer: then `request_id` names a request of the other side."""


class LimitExceeded(ProtocolError):
    """A message is larger than a documented limit; `next_step` names the setting that raises it."""


class StoreError(CallgateError):
    """The state database cannot be opened, migrated, read or written."""


class AuditError(CallgateError):
    """The evidence log cannot be written, or does not verify."""


class LaunchError(CallgateError):
    """A server process cannot be started."""

    effect = "the server was not started"


class SandboxError(LaunchError):
    """A server cannot be confined as its specification asks."""


class TrustError(CallgateError):
    """An artefact, a lock, a signature or a catalogue is missing, changed, or not from whom it must be."""

    effect = "nothing was taken or started"


class SecretError(CallgateError):
    """A secret cannot be resolved, stored or handed over. The message names the reference, never the value."""


class UpstreamError(CallgateError):
    """A server died, hung, closed early, or answered something that is not MCP."""
