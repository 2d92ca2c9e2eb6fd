"""Sentinel to secret on the way out, secret to sentinel on the way back, in streams and without a copy too many."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote, quote_plus

import orjson

from callgate.sandbox.egress.names import covers
from callgate.sandbox.spec import Sentinel

SHORTEST = 6
"""Bytes. A shorter secret is not looked for in answers: it would be found everywhere."""
_CORE = 8
"""Characters of an encoded form below which it is not looked for."""
MAX_BASIC = 16
"""Different Basic credentials that are remembered for the way back, on one connection."""


class Replacer:
    """Replaces byte strings in a stream whose chunks may end anywhere.

    Holds back only what may be the beginning of a pattern, so that an event stream is not delayed.
    """

    __slots__ = ("_held", "_regex", "_table", "found")

    def __init__(self, table: Mapping[bytes, bytes]) -> None:
        self._table = dict(table)
        # Literals only: matching is linear. Longest first, so that of two that begin alike the longer one counts.
        ordered = sorted(self._table, key=len, reverse=True)
        self._regex = re.compile(b"|".join(re.escape(one) for one in ordered)) if ordered else None
        self._held = b""
        self.found: set[bytes] = set()

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now."""
        return self._run(data, last=False)

    def end(self) -> bytes:
        """What was held back."""
        return self._run(b"", last=True)

    def whole(self, data: bytes) -> bytes:
        """A complete text."""
        return self._run(data, last=True)

    def _run(self, data: bytes, *, last: bool) -> bytes:
        if self._regex is None:
            return data
        text = self._held + data if self._held else data
        hold = len(text) if last else self._beginning(text, 0)
        if hold == len(text) and not any(one in text for one in self._table):
            self._held = b""
            return text
        out: list[bytes] = []
        at = 0
        while (match := self._regex.search(text, at)) is not None and match.start() < hold:
            out += (text[at : match.start()], self._table[match[0]])
            self.found.add(match[0])
            at = match.end()
            if at > hold:
                hold = len(text) if last else self._beginning(text, at)
        out.append(text[at:hold])
        self._held = text[hold:]
        return b"".join(out)

    def _beginning(self, text: bytes, start: int) -> int:
        """Where the first end-piece of `text` begins that a pattern begins with; its length when there is none."""
        first = len(text)
        for one in self._table:
            at = text.find(one[:1], max(start, len(text) - len(one) + 1))
            while at != -1 and at < first:
                if one.startswith(text[at:]):
                    first = at
                    break
                at = text.find(one[:1], at + 1)
        return first


def _json(value: bytes) -> bytes:
    """`value` as it stands inside a JSON string; as it is where it is not UTF-8."""
    try:
        return orjson.dumps(value.decode())[1:-1]
    except UnicodeDecodeError:
        return value


def reflections(sentinels: Iterable[Sentinel]) -> dict[bytes, bytes]:
    """Every form in which an honest host may send a secret back → what the server gets instead.

    As it is, percent-encoded and in a JSON string: the placeholder, encoded alike. In base64 (any alignment, both
    alphabets) and in hexadecimal: asterisks.
    """
    table: dict[bytes, bytes] = {}
    for one in sentinels:
        value, placeholder = one.value, one.placeholder.encode()
        if len(value) < SHORTEST:
            continue
        forms = {
            value: placeholder,
            quote(value, safe="").encode(): quote(placeholder, safe="").encode(),
            quote_plus(value).encode(): quote_plus(placeholder).encode(),
            _json(value): _json(placeholder),
        }
        for offset, skip in ((0, 0), (1, 2), (2, 3)):
            code = base64.b64encode(b"\0" * offset + value)[skip : (offset + len(value)) * 8 // 6]
            if len(code) >= _CORE:
                forms[code] = forms[code.replace(b"+", b"-").replace(b"/", b"_")] = b"*" * len(code)
        if len(value) * 2 >= _CORE:
            code = value.hex().encode()
            forms[code] = forms[code.upper()] = b"*" * len(code)
        for form, instead in forms.items():
            table.setdefault(form, instead)
    return table


class Exchange:
    """The secrets of one connection to one host: which are its own, and what was swapped.

    `secure`: only over TLS that was verified does a sentinel become a secret.
    """

    __slots__ = ("_back", "_basic", "_foreign", "_own", "misdirected", "used")

    def __init__(self, sentinels: Iterable[Sentinel], host: str, *, secure: bool) -> None:
        self._own: dict[bytes, Sentinel] = {}
        self._foreign: dict[bytes, Sentinel] = {}
        for one in sentinels:
            mine = secure and covers(one.hosts, host)
            (self._own if mine else self._foreign)[one.placeholder.encode()] = one
        self._back = reflections(self._own.values())
        self._basic: dict[bytes, bytes] = {}
        self.used: set[str] = set()
        self.misdirected: set[tuple[str, str]] = set()
        """Names of sentinels that went where they are not swapped, and in which part of a request."""

    def target(self, text: bytes) -> bytes:
        """A request target in origin form, with its query."""
        path, mark, query = text.partition(b"?")
        path = self._out(path, "target", lambda value: quote(value, safe="-._~!$&'()*+,;=:@").encode())
        return path + mark + self._out(query, "target", lambda value: quote(value, safe="").encode())

    def header(self, name: bytes, value: bytes) -> bytes:
        """One field of a request. Raises ValueError for a secret that cannot stand in a field."""
        if name == b"authorization" and value[:6].lower() == b"basic ":
            return self._basic_credentials(value)
        return self._out(value, "header", _in_field)

    def body(self, content_type: bytes) -> Replacer:
        """A request's body; `settle` afterwards."""
        kind = content_type.lower()
        table = {}
        for placeholder, one in self._own.items():
            value = one.value
            if b"json" in kind:
                value = _json(value)
            elif b"x-www-form-urlencoded" in kind:
                value = quote_plus(value).encode()
            table[placeholder] = value
        # A stranger's sentinel stays as it is, and is seen.
        return Replacer({**{placeholder: placeholder for placeholder in self._foreign}, **table})

    def watch(self) -> Replacer:
        """A request's body that is too large to be changed: everything stays, and is seen."""
        return Replacer({placeholder: placeholder for placeholder in (*self._own, *self._foreign)})

    def settle(self, replacer: Replacer, *, swapped: bool) -> None:
        """Take down what a `body` or `watch` came across."""
        for placeholder in replacer.found:
            if swapped and placeholder in self._own:
                self.used.add(self._own[placeholder].name)
            else:
                one = self._own.get(placeholder) or self._foreign[placeholder]
                self.misdirected.add((one.name, "body"))

    def answer(self) -> Replacer:
        """For a response: its body, or each of its fields."""
        return Replacer({**self._back, **self._basic})

    @property
    def own(self) -> bool:
        """Whether this host has secrets at all."""
        return bool(self._own)

    def _out(self, text: bytes, where: str, encode: Callable[[bytes], bytes]) -> bytes:
        for placeholder, one in self._own.items():
            if placeholder in text:
                text = text.replace(placeholder, encode(one.value))
                self.used.add(one.name)
        for placeholder, one in self._foreign.items():
            if placeholder in text:
                self.misdirected.add((one.name, where))
        return text

    def _basic_credentials(self, value: bytes) -> bytes:
        token = value[6:].strip()
        try:
            plain = base64.b64decode(token, validate=True)
        except binascii.Error:
            return self._out(value, "header", _in_field)
        changed = self._out(plain, "header", bytes)
        if changed == plain:
            return self._out(value, "header", _in_field)
        code = base64.b64encode(changed)
        if len(self._basic) >= MAX_BASIC:
            raise ValueError("too many different Basic credentials on one connection")
        self._basic[code] = token
        return value[:6] + code


def _in_field(value: bytes) -> bytes:
    if any(byte < 0x20 or byte == 0x7F for byte in value):
        raise ValueError("the secret holds control characters and cannot stand in a header")
    return value.strip(b" ")
