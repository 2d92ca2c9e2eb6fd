"""Archives that attack, archives that only look odd, and archives as publishers make them."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply.archive import Limits, Member, members, unpack


def zipped(*entries: tuple[str, bytes], mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, data)
    return out.getvalue()


def tarred(*infos: tuple[tarfile.TarInfo | str, bytes], packed: bool = True) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if packed else "w") as archive:
        for one, data in infos:
            info = tarfile.TarInfo(one) if isinstance(one, str) else one
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refused(data: bytes, into: Path, because: str, limits: Limits | None = None) -> None:
    with pytest.raises(TrustError, match=because) as caught:
        unpack(data, into, limits)
    assert caught.value.next_step
    assert not into.exists(), "nothing is left behind"
    with pytest.raises(TrustError, match=because):
        members(data, limits)


@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar.gz"])
class TestBothFormats:
    def test_an_ordinary_archive(self, make, tmp_path: Path) -> None:
        data = make(("package/index.js", b"run()"), ("package/lib/a.js", b"a" * 100_000), ("package/€.txt", b""))
        found = unpack(data, tmp_path / "out", strip=1)
        assert [(one.path, one.size) for one in found] == [("index.js", 5), ("lib/a.js", 100_000), ("€.txt", 0)]
        assert (tmp_path / "out/lib/a.js").read_bytes() == b"a" * 100_000
        assert stat.S_IMODE((tmp_path / "out/index.js").stat().st_mode) == 0o644

    @pytest.mark.parametrize(
        ("name", "because"),
        [
            ("../evil", "climbs out"),
            ("a/../../evil", "climbs out"),
            ("a/b/..", "climbs out"),
            ("/etc/cron.d/evil", "is absolute"),
            ("C:/evil", "is absolute"),
            ("..\\evil", "backslash"),
            ("a\x1b[2Jb", "cannot be seen"),
            ("a\nb", "cannot be seen"),
            ("inv\u202eoice.js", "cannot be seen"),
            ("a\u200bb.js", "cannot be seen"),
            ("d/" * 50 + "f", "levels deep"),
            ("n" * 300, "longer than 255"),
            ("n/" * 20 + "x" * 2000, "longer than"),
        ],
    )
    def test_names_that_attack(self, make, name: str, because: str, tmp_path: Path) -> None:
        refused(make((name, b"x")), tmp_path / "out", because)
        assert not (tmp_path / "evil").exists()

    @pytest.mark.parametrize("name", ["..a/b", "a..b", "...", "./a/./b", "a//b", "-rf", "~", "$HOME", "a b", "é.txt"])
    def test_names_that_only_look_odd(self, make, name: str, tmp_path: Path) -> None:
        (one,) = unpack(make((name, b"x")), tmp_path / "out")
        assert (tmp_path / "out" / one.path).read_bytes() == b"x"

    @pytest.mark.parametrize(
        ("one", "two", "because"),
        [
            ("a.js", "a.js", "twice"),
            ("a.js", "./a.js", "twice"),
            ("README", "readme", "one path on some systems"),
            ("Lib/x", "lib/y", "one path on some systems"),
            ("caf\u00e9", "cafe\u0301", "one path on some systems"),
            ("stra\u00dfe", "STRASSE", "one path on some systems"),
            ("a", "a/b", "is a file and a directory"),
            ("a/b", "a", "is a directory and a file"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_members_for_one_path(self, make, one: str, two: str, because: str, tmp_path: Path) -> None:
        refused(make((one, b"1"), (two, b"2")), tmp_path / "out", because)

    def test_names_that_differ_are_two(self, make, tmp_path: Path) -> None:
        assert len(unpack(make(("lib/a", b""), ("lib2/a", b""), ("lib/a.js", b"")), tmp_path / "out")) == 3

    def test_bombs(self, make, tmp_path: Path) -> None:
        data = make(*((f"{n}", bytes(4_000_000)) for n in range(5)))
        assert len(data) < 200_000
        refused(data, tmp_path / "out", "times its size")
        refused(make(("big", os.urandom(5000))), tmp_path / "out", "larger than 4096", Limits(entry_bytes=4096))
        many = make(*((f"{n}", os.urandom(600)) for n in range(9)))
        refused(many, tmp_path / "out", "more than is allowed", Limits(total_bytes=4096))
        refused(make(*((str(n), b"") for n in range(9))), tmp_path / "out", "more than 8 entries", Limits(entries=8))
        refused(many, tmp_path / "out", "larger than 1000 bytes", Limits(archive_bytes=1000))

    def test_well_compressed_text_is_no_bomb(self, make, tmp_path: Path) -> None:
        unpack(make(("data.json", b'{"a": 1},\n' * 400_000)), tmp_path / "out")

    def test_the_target_must_be_new(self, make, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("kept")
        with pytest.raises(TrustError, match="cannot unpack into"):
            unpack(make(("mine", b"x")), tmp_path)
        assert (tmp_path / "mine").read_text() == "kept"

    def test_truncated_and_changed(self, make, tmp_path: Path) -> None:
        data = make(("a", os.urandom(4000)))
        refused(data[: len(data) // 2], tmp_path / "out", "damaged|missing")
        changed = bytearray(data)
        changed[len(data) // 3] ^= 1
        refused(bytes(changed), tmp_path / "out", "damaged")

    def test_what_is_not_below_the_top_directory(self, make, tmp_path: Path) -> None:
        with pytest.raises(TrustError, match="not below"):
            unpack(make(("loose.js", b"x")), tmp_path / "out", strip=1)


class TestZip:
    def test_a_link_that_leaves(self, tmp_path: Path) -> None:
        refused(zipped(("ssh", b"/root/.ssh"), mode=0o120777), tmp_path / "out", "leads out of the archive")

    def test_special_files(self, tmp_path: Path) -> None:
        refused(zipped(("pipe", b""), mode=stat.S_IFIFO | 0o644), tmp_path / "out", "neither a file")

    def test_modes_lose_set_id(self, tmp_path: Path) -> None:
        unpack(zipped(("run", b"x"), mode=0o104777), tmp_path / "out")
        assert stat.S_IMODE((tmp_path / "out/run").stat().st_mode) == 0o755

    def test_nul_in_a_name(self, tmp_path: Path) -> None:
        data = zipped(("good.js0evil", b"x")).replace(b"good.js0evil", b"good.js\0evil")
        refused(data, tmp_path / "out", "cannot be seen|damaged")

    def test_names_without_the_utf8_flag(self, tmp_path: Path) -> None:
        refused(zipped(("a_b", b"x")).replace(b"a_b", b"a\x82b"), tmp_path / "out", "not marked as UTF-8")

    def test_two_names_for_one_member(self, tmp_path: Path) -> None:
        data = zipped(("seen.js", b"x"))
        last = data.rindex(b"seen.js")
        refused(data[:last] + b"run.exe" + data[last + 7 :], tmp_path / "out", "damaged")

    def test_encrypted_and_other_methods(self, tmp_path: Path) -> None:
        data = bytearray(zipped(("a", b"x")))
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
        refused(bytes(data), tmp_path / "out", "is encrypted")
        refused(zipped(("a", b"x"), method=zipfile.ZIP_BZIP2), tmp_path / "out", "method 12")

    def test_members_that_share_bytes(self, tmp_path: Path) -> None:
        data = zipped(("a", zlib.compress(b"x" * 1000)), method=zipfile.ZIP_STORED)
        at = data.index(b"PK\x01\x02")
        end = data.index(b"PK\x05\x06")
        central = data[at:end]
        again = central[:46] + b"b" + central[47:]
        tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(central) * 2, at, 0)
        refused(data[:at] + central + again + tail, tmp_path / "out", "shares its bytes")

    def test_a_size_that_lies(self, tmp_path: Path) -> None:
        data = bytearray(zipped(("a", b"x" * 5000)))
        at = data.rindex(b"PK\x01\x02")
        data[at + 24 : at + 28] = struct.pack("<L", 10)
        refused(bytes(data), tmp_path / "out", "damaged")

    def test_an_empty_archive(self, tmp_path: Path) -> None:
        assert unpack(zipped(), tmp_path / "out") == ()


class TestTar:
    @pytest.mark.parametrize(
        ("info", "because"),
        [
            (entry("l", tarfile.SYMTYPE, "/etc/passwd"), "leads out"),
            (entry("l", tarfile.SYMTYPE, "../x"), "leads out"),
            (entry("d/l", tarfile.SYMTYPE, "../../x"), "leads out"),
            (entry("l", tarfile.LNKTYPE, "/etc/passwd"), "neither a file"),
            (entry("p", tarfile.FIFOTYPE), "neither a file"),
            (entry("c", tarfile.CHRTYPE), "neither a file"),
            (entry("b", tarfile.BLKTYPE), "neither a file"),
            (entry("s", tarfile.GNUTYPE_SPARSE), "neither a file"),
        ],
        ids=lambda value: value.linkname or value.name if isinstance(value, tarfile.TarInfo) else "",
    )
    def test_members_that_attack(self, info: tarfile.TarInfo, because: str, tmp_path: Path) -> None:
        if info.type == tarfile.GNUTYPE_SPARSE:  # written by hand: tarfile writes none
            data = bytearray(tarred((tarfile.TarInfo("s"), b""), packed=False))
            data[156] = ord("S")
            block = bytes(data[:148]) + b" " * 8 + bytes(data[156:512])
            data[148:156] = b"%06o\0 " % sum(block)
            refused(gzip.compress(bytes(data)), tmp_path / "out", because)
        else:
            refused(tarred((info, b"")), tmp_path / "out", because)

    def test_a_file_written_through_a_link(self, tmp_path: Path) -> None:
        data = tarred((entry("d", tarfile.SYMTYPE, "."), b""), ("d/evil", b"x"))
        refused(data, tmp_path / "out", "is a link and a directory")

    def test_links_that_leave_by_way_of_another(self, tmp_path: Path) -> None:
        data = tarred(
            ("a/b/f", b""),
            (entry("a/up", tarfile.SYMTYPE, "b"), b""),
            (entry("out", tarfile.SYMTYPE, "a/up/../.."), b""),
        )
        refused(data, tmp_path / "out", "passes through another link")

    def test_links_inside(self, tmp_path: Path) -> None:
        unpack(
            tarred(("lib/real.js", b"x"), (entry("bin/run", tarfile.SYMTYPE, "../lib/real.js"), b"")), tmp_path / "o"
        )
        assert (tmp_path / "o/bin/run").read_bytes() == b"x"

    def test_a_header_that_leads_in_circles(self, tmp_path: Path) -> None:
        data = bytearray(tarred((tarfile.TarInfo("x"), b""), packed=False))
        data[124:136] = b"\xff" * 8 + struct.pack(">i", -512)  # a size of -512, base 256
        block = bytes(data[:148]) + b" " * 8 + bytes(data[156:512])
        data[148:156] = b"%06o\0 " % sum(block)
        refused(bytes(data), tmp_path / "out", "negative|circles|damaged")
        data[156] = ord("x")  # the same as an extended header
        block = bytes(data[:148]) + b" " * 8 + bytes(data[156:512])
        data[148:156] = b"%06o\0 " % sum(block)
        refused(bytes(data), tmp_path / "out", "negative|circles|damaged|more than a MiB")

    def test_a_huge_extended_header(self, tmp_path: Path) -> None:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"comment": "x" * 3_000_000}
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(info)
        refused(out.getvalue(), tmp_path / "out", "more than a MiB")

    def test_endless_long_names(self, tmp_path: Path) -> None:
        header = tarred((entry("x", tarfile.GNUTYPE_LONGNAME), b""), packed=False)[:512]
        refused(header * 3000 + bytes(1024), tmp_path / "out", "damaged")

    def test_something_after_the_data(self, tmp_path: Path) -> None:
        data = tarred(("a", b"x"))
        refused(data + gzip.compress(b"more"), tmp_path / "out", "follows")
        unpack(data + bytes(512), tmp_path / "out")  # padding is ordinary

    def test_names_that_are_not_utf8(self, tmp_path: Path) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
            archive.addfile(tarfile.TarInfo("caf\u00e9"))
        refused(out.getvalue(), tmp_path / "out", "not UTF-8|cannot be seen")


def test_what_is_no_archive(tmp_path: Path) -> None:
    refused(b"#!/bin/sh\n", tmp_path / "out", "neither a ZIP nor a tar")
    refused(b"", tmp_path / "out", "neither a ZIP nor a tar")
    with pytest.raises(TrustError, match="cannot read"):
        unpack(tmp_path / "missing", tmp_path / "out")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TrustError, match="not a file"):
        unpack(tmp_path / "pipe", tmp_path / "out")


PARTS = st.sampled_from(["a", "B", "b", "..", ".", "", "é", "e\u0301", "x\\y", "c:", "\u200b", "long" * 70])


@settings(max_examples=120, deadline=None)
@given(names=st.lists(st.lists(PARTS, min_size=1, max_size=5).map("/".join), max_size=6), tar=st.booleans())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_the_names_nothing_lands_outside(names: list[str], tar: bool, tmp_path_factory) -> None:
    place = tmp_path_factory.mktemp("place")
    kept = [name for name in names if name and not (tar and name.endswith("/"))]
    data = (tarred if tar else zipped)(*((name, b"x") for name in kept))
    try:
        found = unpack(data, place / "out")
    except TrustError:
        assert os.listdir(place) == []
    else:
        assert os.listdir(place) == ["out"]
        files = [one for one in found if one.kind == "file"]
        assert all((place / "out" / one.path).read_bytes() == b"x" for one in files)
        assert sum(len(inner) for _, _, inner in os.walk(place / "out")) == len(files)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), tar=st.booleans())
def test_a_changed_byte_gives_an_error_or_files_that_verify(at: int, value: int, tar: bool, tmp_path_factory) -> None:
    place = tmp_path_factory.mktemp("place")
    data = bytearray((tarred if tar else zipped)(("p/a.js", b"alpha" * 40), ("p/b.js", b"beta" * 40)))
    data[at % len(data)] = value
    try:
        found = unpack(bytes(data), place / "out")
    except TrustError as error:
        assert error.next_step
        assert os.listdir(place) == []
    else:
        assert {one.size for one in found if isinstance(one, Member) and one.kind == "file"} <= {200, 160}


@pytest.mark.parametrize(
    "name", ["pypi_attestations-0.0.19", "pypi_attestation_models-0.0.4a2", "gitlab_oidc_project-0.0.3"]
)
def test_published_archives(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parent.parent / f"fixtures/supply/pep740/{name}.tar.gz"
    found = unpack(path, tmp_path / "out", strip=1)
    with tarfile.open(path) as archive:
        expected = {info.name.partition("/")[2]: info.size for info in archive if info.isreg()}
    assert {one.path: one.size for one in found if one.kind == "file"} == expected
    assert (tmp_path / "out/PKG-INFO").exists()
