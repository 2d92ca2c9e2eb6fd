"""A head that was admitted once admits no other: what a request says of its caller is judged anew, on every way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callgate import native
from callgate.transport.http.fields import HOP_BY_HOP, NOT_FORWARDED, PROXY
from tests.transport.http.gated import post
from tests.transport.http.quick_sockets import Caller, Held, Site, initialize, plainly, tell, text

pytestmark = pytest.mark.skipif(native.core is None, reason="the native lane was not built for this platform")
TOKENS = {name: f"{name}-{name[0] * 32}" for name in ("alice", "bob")}
EVIL = "https://evil.example"
ERAS: tuple[Callable[..., bytes], ...] = (Caller.legacy, Caller.modern)


def bearer(name: str) -> str:
    return f"Authorization: Bearer {TOKENS.get(name, name)}"


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens"
    path.write_text("".join(f"{token}\n" for token in TOKENS.values()))
    return str(path)


def bodies(came: Any) -> bytes:
    return b"".join(body for *_, body in came["asked"])


def lines_at(data: bytes, line: str, place: int) -> bytes:
    """A request with one more header, behind the first line (0), before (-1) or behind (-2) its Content-Length."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    lines.insert({0: 1, -1: len(lines) - 1, -2: len(lines)}[place], line.encode())
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("place", [0, -1, -2])
def test_an_origin_that_comes_goes_and_changes(tmp_path: Path, era: Any, place: int) -> None:
    def story(site: Site) -> None:
        caller = site.ready()

        def asks(number: int, origin: str = "") -> int:
            data = era(caller, number, q="evil" if origin == EVIL else "good")
            return caller.ask(lines_at(data, f"Origin: {origin}", place) if origin else data).status

        before = site.taken
        for number in range(2, 6):
            assert [asks(number), asks(number)] == [200, 200]
            assert asks(number, EVIL) == 403
            assert [asks(number, "http://localhost:3000") for _ in range(3)] == [200, 200, 200]
            assert asks(number, EVIL) == 403
            assert asks(number, "null") == 403
            assert asks(number, "http://localhost:3000.evil.example") == 403
        if site.way == "quick":
            assert site.taken - before >= 4

    came = tell(tmp_path, story)
    assert b"evil" not in bodies(came)
    assert sum(kind == "http-refused" for kind, _ in came["notes"]) >= 4


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("place", [0, -1, -2])
def test_a_header_that_comes_a_second_time(tmp_path: Path, era: Any, place: int) -> None:
    names = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Last-Event-ID")

    def story(site: Site) -> None:
        caller = site.ready()
        before = site.taken
        for number, name in enumerate(names, 2):
            plain = era(caller, number, q="good")
            assert [caller.ask(plain).status for _ in range(3)] == [200, 200, 200]
            twice = lines_at(lines_at(era(caller, number, q="evil"), f"{name}: s-1", place), f"{name}: t", place)
            refused = caller.ask(twice)
            assert (refused.status, refused.json()["error"]["data"]["rule"]) == (400, "header-repeated")
            assert caller.ask(twice).status == 400
            assert caller.ask(plain).status == 200
        if site.way == "quick":
            assert site.taken - before >= 4

    came = tell(tmp_path, story)
    assert b"evil" not in bodies(came)
    assert [fields["rule"] for kind, fields in came["notes"] if kind == "http-refused"] == ["header-repeated"] * 10


@pytest.mark.parametrize("era", ERAS)
def test_a_credential_that_comes_goes_and_changes(tmp_path: Path, tokens: str, era: Any) -> None:
    def story(site: Site) -> None:
        caller = site.open()
        opened = caller.ask(post(initialize("1"), bearer("alice")))
        assert opened.headers["mcp-session-id"] == "s-1"

        def asks(*headers: str) -> int:
            session = ("s-1",) if era is Caller.legacy else ()
            return caller.ask(
                era(caller, 5, *session, *headers, q="ok" if "alice" in "".join(headers) else "no")
            ).status

        for _ in range(4):
            assert [asks(bearer("alice")) for _ in range(3)] == [200, 200, 200]
            assert [asks() for _ in range(2)] == [401, 401]
            assert asks(bearer("wrong" * 8)) == 401
            assert asks(bearer("alice"), bearer("wrong" * 8)) == 400, "twice"
            assert asks(bearer("alice").replace("Bearer", "Basic")) == 401
            assert asks(bearer("bob")) == (404 if era is Caller.legacy else 200)
        assert not site.server.site.known, "no head with a credential is kept"

    came = tell(tmp_path, story, token_file=tokens)
    calls = [body for _, _, headers, body in came["asked"] if b"tools/call" in body]
    assert len(calls) == (12 if era is Caller.legacy else 16)
    assert all("authorization" not in dict(headers) for _, _, headers, _ in came["asked"])


def test_a_token_asked_for_from_now_on(tmp_path: Path, tokens: str) -> None:
    """A head that was known while no token was asked for is worth nothing once one is, and the reverse."""

    def story(site: Site) -> None:
        caller = site.ready()
        before = site.taken
        assert caller.ask(caller.modern(5)).status == 200
        assert site.taken - before == (site.way == "quick")
        held = site.upstream.respond = Held()
        caller.send(caller.modern(6))
        held.wait(1)
        site.listen = replace(site.listen, token_file=tokens)
        site.reload()
        caller.send(caller.modern(7, q="too late"))  # behind the one under way, on the same connection
        held.asked[0][1].answer(text(6))
        assert caller.answer().status == 200, "it was let in under the old rules"
        site.upstream.respond = plainly
        assert caller.answer().status == 401
        for _ in range(3):
            assert caller.ask(caller.modern(8, q="too late")).status == 401
            assert caller.ask(caller.legacy(8, q="too late")).status == 401
            assert caller.ask(caller.modern(8, bearer("alice"))).status == 200
        site.listen = replace(site.listen, token_file="")
        site.reload()
        for _ in range(3):
            assert caller.ask(caller.modern(9)).status == 200
        assert site.taken - before == (3 if site.way == "quick" else 0)

    came = tell(tmp_path, story)
    assert b"too late" not in bodies(came)


def test_a_principal_that_another_worker_vouches_for_changes(tmp_path: Path) -> None:
    """Between workers the principal is a header: what is known of alice's heads is nothing to bob's."""

    def story(site: Site) -> None:
        caller = site.ready()
        alice = caller.headers
        before = site.taken
        for number in range(2, 6):
            caller.headers = alice
            assert [caller.ask(caller.legacy(number)).status for _ in range(2)] == [200, 200]
            caller.headers = ("X-Callgate-Principal: bob",)
            assert [caller.ask(caller.legacy(number, q="bob's")).status for _ in range(2)] == [404, 404]
            assert [caller.ask(caller.modern(number)).status for _ in range(3)] == [200, 200, 200]
        if site.way == "quick":
            assert site.taken - before > 8

    came = tell(tmp_path, story, over="unix")
    assert b"bob's" not in bodies(came)
    spoken = {(one["scope"]["principal"], one["scope"]["session"] != "") for one in came["evidence"] if "rpc_id" in one}
    assert spoken == {("alice", False), ("alice", True), ("bob", False)}


VALUES = {
    "connection": "keep-alive, mcp-session-id", "content-encoding": "gzip", "content-length": "1", "expect": "200-ok",
    "host": "evil.example", "origin": EVIL, "transfer-encoding": "chunked", "upgrade": "h2c",
}  # fmt: skip
NAMES = sorted({name.decode() for name in NOT_FORWARDED | HOP_BY_HOP | PROXY | {b"content-encoding"}})


REFUSED = ("content-encoding", "content-length", "expect", "host", "origin", "transfer-encoding")


@pytest.mark.parametrize("era", ERAS)
def test_one_more_header(tmp_path: Path, era: Any) -> None:
    """Each that the gate judges or drops, added to a head that is known: what it says counts."""

    def story(site: Site) -> None:
        site.ready()
        for name in NAMES:
            line = f"{name.title()}: {VALUES.get(name, 'x')}"
            for place in (0, -1, -2):
                caller = site.open()
                before = site.taken
                for _ in range(2):
                    assert caller.ask(era(caller, 5)).status == 200
                assert site.taken - before == (2 if site.way == "quick" else 0), name
                caller.send(lines_at(era(caller, 6, q=name), line, place))
                answer = caller.answer()
                assert (answer.status >= 400) == (name in REFUSED), name
                if "connection" not in answer.headers:
                    assert caller.ask(era(caller, 7)).status == 200, name

    came = tell(tmp_path, story)
    for name in NAMES:
        assert (f'"q":"{name}"'.encode() in bodies(came)) == (name not in REFUSED), name
        if name != "content-length":
            sent = VALUES.get(name, "x")
            assert all((name, sent) not in headers for _, _, headers, _ in came["asked"]), f"{name} went no further"
