r"""Take secrets out of bytes: the value itself and the forms it usually takes on the way.

For each secret: as it is; escaped as in JSON, once and twice, with `/` and with `\/`; in base64 of both alphabets at
all three alignments (so also inside `user:password`), padded or not; in hexadecimal; URL-encoded. Of a value with
several lines (a private key) also each line of 32 or more base64 characters.

A value is looked for when it has at least 8 bytes and is not plain: below 16 bytes it must mix two of lower case,
upper case, digits and others, or hold bytes beyond ASCII; above, more than three different bytes. `password` or
`postgres` as a secret would black out ordinary text, so such values are not looked for, and `unrecognised` names them.

This catches accidents: a server that prints its token, an API that repeats it. A server that wants to smuggle a secret
out can change it in ways nobody foresees; what keeps secrets from such a server is that it gets a sentinel.

One automaton of its own, compiled in memory and never written anywhere; see `detect.automaton`.
"""

from __future__ import annotations

from _thread import allocate_lock as Lock  # noqa: N812 - what threading calls it, without importing that at the start
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes, quote_plus

if TYPE_CHECKING:
    from callgate.detect.automaton import Scan

LEAST_BYTES: Final = 8
PLAIN_BYTES: Final = 16
MOST_SECRETS: Final = 256
_LEAST_LINE: Final = 32
_SCANNED: Final = 96
"""Bytes of a form that the automaton looks for; a longer form is then compared whole."""
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")
_NAME: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


class Needle:
    """One form of one secret.

    `in_base64`: what replaces it must be base64 where only programs read; `json_safe`: it can stand inside a JSON
    string as it is; `text`: the same as str, None where it is not UTF-8.
    """

    __slots__ = ("data", "in_base64", "json_safe", "name", "text")

    def __init__(self, data: bytes, name: str, in_base64: bool) -> None:
        self.data = data
        self.name = name
        self.in_base64 = in_base64
        self.json_safe = _stands_in_json(data)
        try:
            self.text: str | None = data.decode()
        except UnicodeDecodeError:
            self.text = None


class Redactor:
    """Secrets by name, ready to be looked for. `values` are pairs of name and value; a name may come several times.

    Its automaton is made at the first look: a millisecond or two. Any thread may look.
    """

    __slots__ = ("_lock", "_longest", "_needles", "_scan", "_values", "unrecognised")

    def __init__(self, values: Iterable[tuple[str, bytes]]) -> None:
        kept = dict.fromkeys((safe_name(name), bytes(value)) for name, value in values)
        self._values = tuple(kept)[-MOST_SECRETS:]
        self.unrecognised = tuple(dict.fromkeys(name for name, value in self._values if not recognisable(value)))
        """Names of secrets that are too short or too plain to be looked for."""
        self._needles: tuple[Needle, ...] = ()
        self._longest = 0
        self._scan: Scan | None = None
        self._lock = Lock()

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return any(recognisable(value) for _, value in self._values)

    def __repr__(self) -> str:
        return f"<Redactor of {', '.join(dict.fromkeys(name for name, _ in self._values)) or 'nothing'}>"

    def __or__(self, other: Redactor) -> Redactor:
        """A redactor of both."""
        return Redactor((*self._values, *other._values))

    @property
    def longest(self) -> int:
        """Bytes of the longest form."""
        if self._scan is None:
            self._prepare()
        return self._longest

    def found(self, data: bytes) -> tuple[Needle, ...]:
        """The forms that are in `data`: one linear scan, nearly free where there is none."""
        scan = self._scan or self._prepare()
        with self._lock:  # the automaton has room for one scan at a time; leases are renewed in another thread
            hits = scan(data)
        if not hits:
            return ()
        needles = (self._needles[hit] for hit in hits)
        return tuple(needle for needle in needles if len(needle.data) <= _SCANNED or needle.data in data)

    def _prepare(self) -> Scan:
        """The automaton, when it is first needed: not before a server was started."""
        from callgate.detect.automaton import Automaton

        needles: dict[bytes, Needle] = {}
        for name, value in self._values:
            for one in {value: 0, value.strip(): 0}:  # programs cut the line end off before they use it
                for data, in_base64 in _forms(one).items() if recognisable(one) else ():
                    needles.setdefault(data, Needle(data, name, in_base64))
        self._needles = tuple(needles.values())
        self._longest = max(map(len, needles), default=0)
        patterns = [(str(number), _literal(data[:_SCANNED])) for number, data in enumerate(needles)]
        self._scan = Automaton(patterns).scan
        return self._scan

    def redact(self, data: bytes) -> bytes | None:
        """`data` with `[redacted:NAME]` in the place of each secret; None where there is none."""
        needles = self.found(data)
        return _replaced(data, places(data, needles)) if needles else None

    def redact_json(self, data: bytes) -> bytes | None:
        """As `redact`, for serialised JSON: what comes out is JSON again."""
        needles = tuple(needle for needle in self.found(data) if needle.json_safe)
        if not needles:
            return None
        spans = [(_whole_escape(data, start), end, needle) for start, end, needle in places(data, needles)]
        return _replaced(data, merged(spans))

    def places_in(self, text: str) -> list[tuple[int, int, Needle]]:
        """Where secrets stand in `text`, as characters from and to, in order."""
        needles = self.found(text.encode("utf-8", "surrogatepass"))
        spans: list[tuple[int, int, Needle]] = []
        for needle in needles:
            form = needle.text
            at = text.find(form) if form else -1
            while form and at >= 0:
                spans.append((at, at + len(form), needle))
                at = text.find(form, at + len(form))
        return merged(spans)

    def redact_text(self, text: str) -> str | None:
        """As `redact`, for text."""
        clean = self.redact(text.encode("utf-8", "surrogatepass"))
        return None if clean is None else clean.decode("utf-8", "surrogatepass")


class StreamRedactor:
    """A redactor for bytes that come in pieces, such as stderr. What it gives out never holds a secret.

    `current` gives the redactor of now: secrets are exchanged while a server runs. None passes all through.

    Lines are given out when they are complete, so that a secret over a border between pieces is seen; a longer line
    than `MOST_HELD` comes out before its end, but for as much of it as a secret can be long.
    """

    MOST_HELD: Final = 65_536

    __slots__ = ("_current", "_held")

    def __init__(self, current: Callable[[], Redactor | None]) -> None:
        self._current = current
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What can be given out now."""
        data = self._held + piece
        redactor = self._current()
        if redactor is None:
            self._held = b""
            return data
        cut = data.rfind(b"\n") + 1
        if len(data) - cut > self.MOST_HELD:
            cut = max(cut, len(data) - max(redactor.longest - 1, 0))
        if not cut:
            self._held = data
            return b""
        return self._release(redactor, data, cut)

    def close(self) -> bytes:
        """The rest."""
        redactor = self._current()
        return self._held if redactor is None else self._release(redactor, self._held, len(self._held))

    def _release(self, redactor: Redactor, data: bytes, cut: int) -> bytes:
        needles = redactor.found(data) if data else ()
        spans = places(data, needles) if needles else []
        for start, end, _ in spans:
            if start < cut < end:
                cut = end
        self._held = data[cut:]
        if not spans:
            return data[:cut]
        return _replaced(data[:cut], [span for span in spans if span[1] <= cut])


def recognisable(value: bytes) -> bool:
    """Whether a value is long and particular enough to be looked for without blacking out ordinary text."""
    if len(value) < LEAST_BYTES:
        return False
    if len(value) >= PLAIN_BYTES:
        return len(set(value)) > 3
    kinds = (value != value.lower(), value != value.upper(), any(0x30 <= byte <= 0x39 for byte in value))
    if any(byte < 0x20 or byte > 0x7E for byte in value):
        return True
    others = any(byte < 0x30 or 0x3A <= byte < 0x41 or 0x5B <= byte < 0x61 or byte > 0x7A for byte in value)
    return sum(kinds) + others >= 2


def safe_name(name: str) -> str:
    """A secret's name as it may stand in any text: at most 64 of A-Z a-z 0-9 _ . -"""
    return "".join(char if char in _NAME else "_" for char in name[:64]) or "secret"


def mark(name: str) -> str:
    """What stands in the place of a secret."""
    return f"[redacted:{name}]"


def places(data: bytes, needles: Iterable[Needle]) -> list[tuple[int, int, Needle]]:
    """Where the forms stand in `data`, in order; of places that overlap, one that covers them all."""
    spans: list[tuple[int, int, Needle]] = []
    for needle in needles:
        size = len(needle.data)
        at = data.find(needle.data)
        while at >= 0:
            spans.append((at, at + size, needle))
            at = data.find(needle.data, at + size)
    return merged(spans)


def merged(spans: list[tuple[int, int, Needle]]) -> list[tuple[int, int, Needle]]:
    """`spans` in order, with those that overlap made one."""
    spans.sort(key=lambda span: (span[0], -span[1]))
    out: list[tuple[int, int, Needle]] = []
    for start, end, needle in spans:
        if out and start < out[-1][1]:
            first, last, kept = out[-1]
            out[-1] = first, max(last, end), kept
        else:
            out.append((start, end, needle))
    return out


def _replaced(data: bytes, spans: list[tuple[int, int, Needle]]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for start, end, needle in spans:
        parts += (data[at:start], mark(needle.name).encode())
        at = end
    parts.append(data[at:])
    return b"".join(parts)


def _literal(data: bytes) -> bytes:
    """An expression that matches exactly these bytes, in all engines."""
    return b"".join(b"\\x%02x" % byte for byte in data)


def _forms(value: bytes) -> dict[bytes, bool]:
    """Each form of a value, with whether it is base64."""
    forms: dict[bytes, bool] = dict.fromkeys(_plain_forms(value), False)
    for shift in range(3):
        encoded = b64encode(b"\0" * shift + value)
        # Characters that hold bits of the neighbours, before and after, are left out.
        first = -(-shift * 8 // 6)
        last = (shift + len(value)) * 8 // 6
        inner = encoded[first:last]
        forms.setdefault(inner, True)
        forms.setdefault(inner.translate(bytes.maketrans(b"+/", b"-_")), True)
    for line in value.split(b"\n") if b"\n" in value else ():
        stripped = line.strip()
        if len(stripped) >= _LEAST_LINE and _BASE64.issuperset(stripped):
            forms.setdefault(stripped, False)
    return forms


def _plain_forms(value: bytes) -> list[bytes]:
    escaped = _json_escaped(value)
    hexadecimal = value.hex().encode()
    encoded = quote_from_bytes(value, safe="").encode()
    forms = [value, hexadecimal, hexadecimal.upper(), encoded, _lower_percent(encoded)]
    forms += [quote_from_bytes(value, safe="/").encode(), quote_plus(value).encode()]
    pointer = value.replace(b"~", b"~0").replace(b"/", b"~1")  # as a member's name in a JSON pointer
    forms += [pointer, _json_escaped(pointer)]
    inside = [escaped]
    if not value.isascii() or b"\x7f" in value:
        inside.append(_ascii_escaped(value))
    inside += [one.replace(b"/", b"\\/") for one in inside]  # as PHP and others write JSON
    forms += [form for one in inside for form in (one, _json_escaped(one))]
    return forms


def _json_escaped(value: bytes) -> bytes:
    """`value` as the inside of a JSON string, as the gate's serialiser writes it."""
    import orjson

    try:
        return orjson.dumps(value.decode())[1:-1]
    except (UnicodeDecodeError, orjson.JSONEncodeError):
        return value


def _ascii_escaped(value: bytes) -> bytes:
    import json

    return json.dumps(value.decode("utf-8", "replace"))[1:-1].encode()


def _stands_in_json(data: bytes) -> bool:
    import jiter

    try:
        jiter.from_json(b'"' + data + b'"')
    except ValueError:
        return False
    return True


def _whole_escape(data: bytes, start: int) -> int:
    r"""`start`, or the beginning of the JSON escape it lies in: a secret `n…` may begin inside of `\n…`."""
    for back in range(1, 6):
        at = start - back
        if at < 0 or data[at] == 0x22:
            break
        if data[at] == 0x5C:
            run = at
            while run > 0 and data[run - 1] == 0x5C:
                run -= 1
            escapes = (at - run) % 2 == 0
            return at if escapes and (back == 1 or data[at + 1] == 0x75) else start
    return start


def _lower_percent(encoded: bytes) -> bytes:
    pieces = encoded.split(b"%")
    return b"%".join([pieces[0], *(piece[:2].lower() + piece[2:] for piece in pieces[1:])])
