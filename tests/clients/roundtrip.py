"""Install and uninstall of one text, through the plans, with files but without syncing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from callgate.clients.machine import Found
from callgate.clients.plan import Plan, Wish, plan_install
from callgate.clients.plan_back import plan_uninstall
from callgate.clients.records import Records
from callgate.clients.table import BY_NAME, Place
from callgate.clients.tree import Node
from callgate.errors import SecretError

_FOLDER = tempfile.TemporaryDirectory(prefix="call gate ")
GATE = str(Path(_FOLDER.name) / "callgate")
"""A program that is there, so that what names it counts as whole."""
Path(GATE).touch(mode=0o755)


class Store:
    """A keeper that takes every value with MARK in it, and can lose what it took."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def offer(self, server: str, key: str, value: str) -> str | None:
        return f"keyring://callgate/{server}/{key}" if MARK in value else None

    def keep(self, reference: str, value: str) -> None:
        self.values[reference] = value

    def fetch(self, reference: str) -> str:
        if reference not in self.values:
            raise SecretError(f"{reference}: nothing is kept there", next_step="look for it")
        return self.values[reference]


MARK = "hunter2"


class Desk:
    """A client's one file and a state directory."""

    def __init__(self, folder: Path, client: str, place: Place | None = None) -> None:
        self.client = BY_NAME[client]
        self.place = place or self.client.places[0]
        self.file = folder / "file"
        self.state = folder / "state"
        self.state.mkdir()
        self.records = Records(self.state)
        self.store = Store()

    @property
    def text(self) -> str:
        return self.file.read_bytes().decode()

    def write(self, text: str) -> None:
        self.file.write_bytes(text.encode())

    def install(
        self,
        launcher: tuple[str, ...] = (GATE,),
        servers: tuple[str, ...] = (),
        *,
        moving: bool = False,
        places: Mapping[str, str] | None = None,
    ) -> Plan:
        found = Found(self.client, self.place, str(self.file), str(self.file.resolve()))
        wish = Wish(launcher, servers, keeper=self.store if moving else None, places=places or {})
        (plan,) = plan_install([found], self.records, wish)
        self._do(plan)
        return plan

    def uninstall(self, *, keep_edits: bool = False) -> Plan:
        plans = list(plan_uninstall(self.records, lambda _: True, keep_edits=keep_edits, fetch=self.store.fetch))
        for plan in plans:
            self._do(plan)
        return plans[0] if plans else Plan(str(self.file), self.client.name)

    def _do(self, plan: Plan) -> None:
        for part in (part for move in plan.moves for part in move.stored):
            self.store.keep(part.reference, part.value)
        if plan.content is not None and plan.text is not None:
            self.file.write_bytes(plan.content.encoded(plan.text))
        if plan.add or plan.drop:
            self.records._records = {r.key: r for r in self.records.all() if r not in plan.drop}
            self.records._records.update({r.key: r for r in plan.add})


class TemporaryDesk:
    """A Desk for one example of hypothesis."""

    def __init__(self, client: str, place: Place | None = None) -> None:
        self._arguments = client, place

    def __enter__(self) -> Desk:
        self._folder = tempfile.TemporaryDirectory()
        return Desk(Path(self._folder.name), *self._arguments)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def python(node: Node) -> object:
    """The value of a tree, strings as strings, all else as it is written."""
    if node.kind == "map":
        return {member.key: python(member.node) for member in node.members}
    if node.kind == "list":
        return [python(item) for item in node.items]
    return node.text
