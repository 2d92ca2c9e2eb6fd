"""Trees in the store: what is listed, what is refused, what a listing tells apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply import artefacts
from callgate.supply.artefacts import Limits, building, key, listing, parse_listing, quick, seal, tree_digest, walk

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


@given(st.dictionaries(NAMES, st.binary(max_size=20), max_size=6))
@settings(max_examples=60)
def test_a_listing_names_every_file_once(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    top = tmp_path_factory.mktemp("tree")
    for name, data in files.items():
        (top / name).write_bytes(data)
    text = listing(top)
    assert len(parse_listing(text)) == len(files)
    if files:
        victim = top / next(iter(files))
        victim.write_bytes(victim.read_bytes() + b"x")
        assert tree_digest(listing(top)) != tree_digest(text)


def test_what_changes_a_tree_and_what_does_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "d").mkdir()
    first = listing(tmp_path)
    os.utime(tmp_path / "a", (1, 1))
    assert listing(tmp_path) == first
    (tmp_path / "a").chmod(0o755)
    assert listing(tmp_path) != first, "a program is not a text"
    (tmp_path / "a").chmod(0o644)
    (tmp_path / "l").symlink_to("a")
    second = listing(tmp_path)
    (tmp_path / "l").unlink()
    (tmp_path / "l").symlink_to("d")
    assert listing(tmp_path) not in (first, second)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(files=3), "more than 3 files"),
        (Limits(total_bytes=10), "more than 10 bytes"),
        (Limits(file_bytes=5), "a file of more than 5 bytes"),
    ],
)
def test_limits(tmp_path: Path, limits: Limits, says: str) -> None:
    for number in range(4):
        (tmp_path / str(number)).write_text("123456" if number == 3 else "12")
    with pytest.raises(TrustError, match=says):
        list(walk(tmp_path, limits))


def test_a_deep_tree_and_a_pipe_are_refused(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    for _ in range(artefacts.MAX_DEPTH + 2):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(TrustError, match="levels"):
        list(walk(tmp_path / "deep"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TrustError, match="neither a file nor a link"):
        list(walk(tmp_path))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "..", "loop/../../.."])
def test_a_link_that_leaves_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(TrustError, match="leaves it"), building(tmp_path) as folder:
        (folder / "tree" / "l").symlink_to(target)
        seal(tmp_path, folder, "npm/x")
    assert not (tmp_path / "artefacts" / "npm").exists()
    assert not list((tmp_path / "artefacts").glob(".new-*"))


@given(st.text(max_size=300), st.text(max_size=40))
def test_a_place_in_the_store_stays_in_it(name: str, version: str) -> None:
    place = key("npm", name, version, "0" * 64)
    assert place.count("/") == 1
    assert not place.partition("/")[2].startswith(".")
    assert len(place) < 200 and place.isascii()


def test_a_second_build_replaces_the_first(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with building(tmp_path) as folder:
            (folder / "tree" / "f").write_text(text)
            place, _ = seal(tmp_path, folder, "npm/x")
    assert (place / "tree" / "f").read_text() == "two"
    assert sorted(one.name for one in (tmp_path / "artefacts").iterdir()) == [".lock", "npm"]


@pytest.mark.parametrize("change", ["nothing", "content", "mode", "file", "platform"])
def test_the_same_again_stays_where_a_server_may_run_from_it(tmp_path: Path, change: str) -> None:
    """A sandbox has the directory itself: replaced, its files would be gone for a server that loads one later."""

    def build() -> Path:
        with building(tmp_path) as folder:
            (folder / "tree" / "f").write_text("one")
            (folder / "platform").write_text("here")
            return seal(tmp_path, folder, "npm/x", ".")[0]

    place = build()
    held = os.open(place / "tree", os.O_RDONLY)
    os.chmod(place / "tree", 0o755)
    if change == "content":
        os.chmod(place / "tree" / "f", 0o644)
        (place / "tree" / "f").write_text("two")
    elif change == "mode":
        os.chmod(place / "tree" / "f", 0o666)
    elif change == "file":
        (place / "tree" / "g").write_text("")
    elif change == "platform":
        (place / "platform").write_text("elsewhere")
    if change in ("nothing", "platform"):
        os.chmod(place / "tree", 0o555)
        renewed = quick(place / "tree", ".")
        os.chmod(place / "quick", 0o600)
        (place / "quick").write_bytes(renewed)  # the changes of mode above are not what is asked about
    os.utime(place, (1, 1))
    assert build() == place
    assert (os.listdir(held) == ["f"]) is (change == "nothing")
    os.close(held)
    assert (place / "tree" / "f").read_text() == "one"
    assert os.stat(place / "tree" / "f").st_mode & 0o777 == 0o444
    assert place.stat().st_mtime > 1, "young again"
    assert sorted(one.name for one in (tmp_path / "artefacts").iterdir()) == [".lock", "npm"]
