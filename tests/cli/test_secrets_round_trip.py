"""`undo(move(file)) == file`, byte for byte, and between them nothing of the value: generated JSONC, TOML, YAML, .env."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from callgate.cli import secrets_files as files
from callgate.clients.entries import entries
from callgate.clients.formats import parse
from callgate.clients.table import BY_NAME, Place
from callgate.clients.tree import Node, canonical
from callgate.detect.credentials import judge
from callgate.vault import move_env
from callgate.vault.find import Fingerprints
from callgate.vault.move import StoreKeeper
from callgate.vault.stores import open_store
from tests.clients import documents

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FINGERPRINTS = Fingerprints(b"k" * 32)
ORDINARY = documents.MODELS
CREDENTIALS = st.sampled_from(
    ["cNry7x1Qz8Vn2xL0pTr6Wk1", "cNry7 with spaces 9", "cNry7\u00e9\u65e5\U0001f600x1Qz8", 'cNry7"q\'uo\\te1z9', "cNry7#x1y2z3", "cNry7\tx1y2z3a4"]
)  # fmt: skip


@contextmanager
def desk() -> Iterator[tuple[Path, files.Moves, StoreKeeper]]:
    """A folder with a state of its own and a real store."""
    with tempfile.TemporaryDirectory() as made:
        state = Path(made) / "state"
        state.mkdir()
        yield Path(made), files.Moves(state), StoreKeeper(open_store("age", state), state)


def there_and_back(format_: str, text: str, picks: Any) -> int:
    """How many values were moved, or refused with a reason."""
    with desk() as (folder, moves, keeper):
        path = folder / "file"
        path.write_bytes(text.encode())
        plan = files.plan_move(str(path), format_, picks, keeper, FINGERPRINTS)
        assert plan.problem is None
        files.carry_out_move(plan, moves, keeper)
        between = path.read_bytes().decode()
        for change in plan.changes:
            assert change.reference in between
        kept = "".join(one.read_text("utf-8", "replace") for one in (folder / "state").rglob("*.json"))
        assert "cNry7" not in kept
        if not plan.refused and format_ != "env":
            assert "cNry7" not in between
        again = files.plan_move(str(path), format_, picks, keeper, FINGERPRINTS)
        assert again.changes == []
        back = files.plan_undo(str(path), moves.all(), keeper, FINGERPRINTS) if moves.all() else None
        if back is not None:
            assert (back.problem, back.refused) == (None, [])
            files.carry_out_undo(back, moves)
        assert path.read_bytes() == text.encode()
        assert moves.all() == []
        return len(plan.changes) + len(plan.refused)


def picks_of(client: str, place: Place | None = None) -> Any:
    """Every variable of every server, as of an entry that was wrapped by hand."""
    known = BY_NAME[client]

    def picks(root: Node) -> Iterator[files.Pick]:
        for entry in entries(root, place or known.places[0], known.shape):
            member = entry.node.get(known.shape.env)
            for one in member.node.members if member and member.node.kind == "map" else ():
                yield files.Pick((*entry.where, known.shape.env, one.key), entry.name, one.key, one.node)

    return picks


@st.composite
def models(draw: st.DrawFn) -> documents.Model:
    """Servers of which each has a credential among its variables."""
    model = draw(ORDINARY)
    for value in model.values():
        value["env"] = {"TOKEN_PASSWORD": draw(CREDENTIALS), **value.get("env", {})}
    return model


@pytest.fixture(autouse=True, scope="module")
def _credentials() -> Iterator[None]:
    documents.MODELS = models()
    yield
    documents.MODELS = ORDINARY


@SETTINGS
@given(documents.jsonc())
def test_json_with_comments(drawn: tuple[documents.Model, str]) -> None:
    assert there_and_back("json", drawn[1], picks_of("cursor")) >= len(drawn[0])


@SETTINGS
@given(documents.toml())
def test_toml(drawn: tuple[documents.Model, str]) -> None:
    assert there_and_back("toml", drawn[1], picks_of("codex")) >= len(drawn[0])


@SETTINGS
@given(documents.yaml())
def test_yaml(drawn: tuple[documents.Model, str]) -> None:
    assert there_and_back("yaml", drawn[1], picks_of("goose")) >= len(drawn[0])


_NAMES = st.sampled_from(["A_TOKEN", "PASSWORD", "DEBUG", "DATABASE_URL", "x.y"])
_LINES = st.one_of(
    st.builds(
        lambda lead, name, gap, quote, value, tail: f"{lead}{name}{gap}={gap}{quote}{value}{quote}{tail}",
        st.sampled_from(["", "  ", "export ", "# "]),
        _NAMES,
        st.sampled_from(["", " "]),
        st.sampled_from(["", "'", '"', "`"]),
        st.one_of(CREDENTIALS.filter(lambda value: "\t" not in value), st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12)),
        st.sampled_from(["", " # c", "  "]),
    ),
    st.sampled_from(["", "# é", "no assignment"]),
)  # fmt: skip


@SETTINGS
@given(st.lists(_LINES, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_env_files(lines: list[str], newline: str) -> None:
    text = newline.join(lines)
    assume("\0" not in text)
    there_and_back("env", text, iter)


@SETTINGS
@given(st.lists(_LINES, max_size=6))
def test_places_of_env_files(lines: list[str]) -> None:
    text = "\n".join(lines)
    for place in move_env.places(text):
        literal = text[place.start : place.end]
        assert literal == place.quote + place.value + place.quote
        if place.clear and judge(place.value, place.name):
            assert move_env.literal(place.value, place.quote) == literal


@SETTINGS
@given(documents.jsonc())
def test_only_what_was_meant_changes(drawn: tuple[documents.Model, str]) -> None:
    text = drawn[1]
    with desk() as (folder, _, keeper):
        path = folder / "file"
        path.write_bytes(text.encode())
        plan = files.plan_move(str(path), "json", picks_of("cursor"), keeper, FINGERPRINTS)
        assert plan.text is not None
        old, new = canonical(parse("json", text)), canonical(parse("json", plan.text))
        for change in plan.changes:
            inner_old, inner_new = old, new
            for key in change.record.where[:-1]:
                inner_old, inner_new = inner_old[key], inner_new[key]
            inner_old[change.record.where[-1]] = inner_new[change.record.where[-1]] = ""
        assert old == new
