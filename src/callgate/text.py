r"""Hostile text, shown to a person.

Every string that came from a server or a client is `UntrustedText`, and everything callgate prints, logs or
puts into an error goes through `visible()`. What it returns holds no character that a terminal obeys, that a
reader cannot see, or that changes the order of what a reader sees:

- `\n` `\r` `\t` for those three, `\x1b` for other code points below U+0100, `\u202e` below U+10000,
  `\U000e0041` above, always lower-case hexadecimal;
- shown so: C0, DEL and C1 controls, bidirectional controls, zero-width and other format characters, tag
  characters, variation selectors, fillers that look like nothing, private-use, unassigned and surrogate code
  points, line and paragraph separators, and spaces other than U+0020 and U+3000;
- one exception: a single U+FE0F after a character that has an emoji form, as in ordinary prose.

The mapping is reversible: a run of backslashes that stands before an escape, or before letters that would
read as one, is doubled; any other backslash (`C:\Users`, `\d+`) stays as it is. So two different texts
never show alike.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NewType

    UntrustedText = NewType("UntrustedText", str)
else:
    UntrustedText = str  # `typing` costs 3 ms, and every start waits for this module
"""A string whose author may be hostile. Print it only through `visible()`."""

DEFAULT_LIMIT = 1000
"""Characters of the original text that `visible()` shows unless told otherwise."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_HEX = frozenset("0123456789abcdef")
_DIGITS_AFTER = {"x": 2, "u": 4, "U": 8}

# Printable by Python's tables (letters and marks), yet nothing to see.
_BLANK = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x115F, 0x1160),  # Hangul fillers
        (0x17B4, 0x17B5),  # Khmer inherent vowels
        (0x180B, 0x180F),  # Mongolian variation selectors and vowel separator
        (0x2800, 0x2800),  # braille blank
        (0x3164, 0x3164),
        (0xFFA0, 0xFFA0),
        (0xFE00, 0xFE0F),  # variation selectors; the supplement lies above U+E0100
    )
    for code in range(first, last + 1)
)

# Characters outside the symbol blocks that Unicode gives an emoji form.
_EMOJI_BASES = frozenset("#*0123456789©®‼⁉™ℹⓂ〰〽㊗㊙")


def takes_emoji_presentation(char: str) -> bool:
    """Whether U+FE0F or U+FE0E may ordinarily follow `char` (emoji, arrows, symbols, keycap bases)."""
    code = ord(char)
    return 0x2190 <= code <= 0x2BFF or 0x1F000 <= code <= 0x1FAFF or char in _EMOJI_BASES


def hidden_at(text: str, index: int) -> bool:
    """Whether `visible()` shows the character at `index` as an escape."""
    char = text[index]
    if char == "\ufe0f":
        follows = index > 0 and takes_emoji_presentation(text[index - 1])
        return not follows or text[index + 1 : index + 2] == "\ufe0f"
    if char in _BLANK or "\U000e0000" <= char <= "\U000e0fff":
        return True
    # Symbols newer than the interpreter's Unicode tables are unassigned to it, yet ordinary emoji.
    return not (char.isprintable() or char == "\u3000" or "\U0001f000" <= char <= "\U0001faff")


def escape(char: str) -> str:
    r"""One character as a readable escape: `\n`, `\x1b`, `\u202e`, `\U000e0041`."""
    short = _SHORT.get(char)
    if short:
        return short
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str, limit: int | None = DEFAULT_LIMIT) -> str:
    """`text` as a person may safely see it, on one line.

    At most `limit` characters of the original are shown, then how many are left out: `… (+120 characters)`.
    `None` shows all. See the module for what is escaped and how.
    """
    rest = 0
    if limit is not None and len(text) > limit:
        rest = len(text) - limit
        text = text[:limit]
    if not (text.isascii() and text.isprintable() and "\\" not in text):
        text = _escaped(text)
    return f"{text}… (+{rest} characters)" if rest else text


def _escaped(text: str) -> str:
    out: list[str] = []
    index, size = 0, len(text)
    while index < size:
        char = text[index]
        if char == "\\":
            end = index
            while end < size and text[end] == "\\":
                end += 1
            run = text[index:end]
            out.append(run + run if end < size and (_reads_as_escape(text, end) or hidden_at(text, end)) else run)
            index = end
            continue
        out.append(escape(char) if hidden_at(text, index) else char)
        index += 1
    return "".join(out)


def _reads_as_escape(text: str, index: int) -> bool:
    char = text[index]
    if char in "nrt":
        return True
    digits = _DIGITS_AFTER.get(char, 0)
    following = text[index + 1 : index + 1 + digits]
    return digits > 0 and len(following) == digits and _HEX.issuperset(following)
