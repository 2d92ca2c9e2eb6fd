"""A secret is in no error, repr, log, notice, fact or traceback, whatever is wrong around it."""

from __future__ import annotations

import io
import logging
import os
import stat
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from callgate.config import SecretConfig
from callgate.errors import CallgateError
from callgate.vault.delivery import deliver, resolve_headers
from callgate.vault.redaction import Redactor
from callgate.vault.reference import parse
from callgate.vault.session import Session
from callgate.vault.stores import open_store, set_secret

VALUES = st.one_of(
    st.text(min_size=10, max_size=40).map(lambda text: "Canary7-" + text),
    st.sampled_from(("ghp_Canary7" + "aB3d" * 6, '{"Canary7-12": ["Canary7-value"]}', "Canary7-\nmulti\nline-value")),
)


@contextmanager
def everything_said() -> Iterator[io.StringIO]:
    """What goes to stdout, stderr and every log, with all that an error carries."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(said), redirect_stderr(said):
            try:
                yield said
            except CallgateError as error:
                said.write(f"{error!r} {error.diagnostics()} {error.args}")
                traceback.print_exc(file=said)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@given(
    value=VALUES,
    store=st.sampled_from(("file", "age", "env")),
    key=st.sampled_from(("", "#gone", "#a.b", "#0")),
    wish=st.sampled_from(("auto", "sentinel", "file", "environment")),
    gated=st.booleans(),
    mode=st.sampled_from((0o600, 0o640)),
    hosts=st.sampled_from(((), ("api.example.com",), ("*",))),
    prefix=st.sampled_from(("", "Bearer ")),
)
def test_nothing_ever_says_the_value(
    value: str, store: str, key: str, wish: str, gated: bool, mode: int, hosts: tuple[str, ...], prefix: str
) -> None:
    with tempfile.TemporaryDirectory() as directory, everything_said() as said:
        state = Path(directory)
        data = value.encode("utf-8", "surrogatepass")
        text = {"file": f"file://{state}/value", "age": "age://value", "env": "env://CG_CANARY"}[store]
        (state / "value").write_bytes(data)
        (state / "value").chmod(mode)
        os.environ["CG_CANARY"] = value.replace("\0", "").encode("utf-8", "replace").decode()
        if store == "age":
            set_secret(parse("age://value"), data, state)
        reference = text if store == "env" else text + key
        ref = f"{prefix}<{reference}>" if prefix else reference
        config = SecretConfig(ref, wish, hosts)  # type: ignore[arg-type]
        with Session(state) as session:
            print(session, repr(session))
            try:
                delivery = deliver({"OTHER": "x"}, {"TOKEN": config}, session, gated=gated)
                print(delivery, delivery.facts, delivery.notices, delivery.redactor, *delivery.secret_files)
                print([fact.record() for fact in delivery.facts], delivery.sentinels, delivery.renewed(session))
            finally:
                print(resolve_headers({"Authorization": f"Bearer <{reference}>"}, session))
    text = said.getvalue()
    assert "Canary7" not in text
    assert value not in text


@given(VALUES)
def test_storing_says_nothing_either(value: str) -> None:
    with tempfile.TemporaryDirectory() as directory, everything_said() as said:
        state = Path(directory)
        store = open_store("age", state)
        data = value.encode("utf-8", "surrogatepass")
        print(store.put("name", data), store)
        try:
            store.put("name", data + b"x")
        except CallgateError as error:
            print(error.diagnostics())
        (state / "secrets" / "name.age").write_bytes(b"age-encryption.org/v1\ngarbage" + data)
        store.get("name")
    assert "Canary7" not in said.getvalue()
    assert "holds another value" in said.getvalue()


def test_a_value_in_the_place_of_a_reference_is_not_repeated() -> None:
    for wrong in (
        "ghp_Canary7aB3daB3daB3daB3daB3d",
        "Canary7 is my password",
        "Bearer Canary7",
        "http://me:Canary7@x/",
    ):
        with everything_said() as said:
            parse(wrong)
        assert "Canary7" not in said.getvalue()
        with everything_said() as said, Session(Path("/nonexistent")) as session:
            deliver({}, {"T": SecretConfig(wrong)}, session, gated=True)
        assert "Canary7" not in said.getvalue()


def test_nothing_is_written_to_a_disk() -> None:
    """The redactor's automaton and the session leave no file behind, the value's own store aside."""
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        os.environ["CG_CANARY"] = "Canary7-0123456789"
        with Session(state) as session:
            delivery = deliver({"T": "env://CG_CANARY"}, {}, session, gated=False)
            assert delivery.redactor is not None
            assert delivery.redactor.redact(b"Canary7-0123456789") == b"[redacted:T]"
        assert not state.exists()


def test_the_automaton_is_not_in_any_cache(tmp_path: Path) -> None:
    redactor = Redactor([("T", b"Canary7-0123456789")])
    assert redactor.redact(b"<Canary7-0123456789>") == b"<[redacted:T]>"
    state = Path(os.environ["CALLGATE_STATE_DIR"])
    found = [path for path in (*state.rglob("*"), *tmp_path.rglob("*")) if stat.S_ISREG(path.stat().st_mode)]
    assert not any(b"Canary7" in path.read_bytes() for path in found)
