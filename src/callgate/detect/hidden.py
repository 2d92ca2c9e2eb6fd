"""Characters a reader does not see but a model reads, and characters that change what a reader sees.

`find()` locates them in one pass, linear in the length of the text; ASCII costs one check.

| kind | what | where it is ordinary, and passes |
|---|---|---|
| `tag-characters` | U+E0000-E0FFF but the selectors | flags of England, Scotland, Wales |
| `bidi-control` | U+202A-202E, U+2066-2069 | paired isolates around right-to-left text |
| `bidi-mark` | U+200E, U+200F, U+061C | a text with right-to-left letters, up to three in a row |
| `variation-selector` | U+FE00-FE0F, U+E0100-E01EF, U+180B-180F | one, after emoji, symbols, Han, Mongolian |
| `zero-width` | U+200B-200D, U+2060-2065, U+206A-206F, U+FEFF, U+FFF0-FFFB, soft hyphen, fillers and the like | below |

Zero-width characters pass as joiners in emoji sequences and, one at a time, in scripts that use them, as ZWSP in
Thai, Khmer, Lao, Burmese and Tibetan, as a BOM at the start, as hyphenation inside a word, as fillers in a syllable
of Jamo. What makes a hidden character ordinary is always one that is seen.

`strict` (definitions) also takes a BOM at the start and soft hyphens. Tag characters and variation selectors
can spell a message: where it decodes, `Span.payload` holds it.
"""

from __future__ import annotations

import re
import unicodedata

from callgate.detect.spans import FLOOD, MOST_LOOKS, MOST_SPANS, Span, add
from callgate.text import escape, takes_emoji_presentation

ZWNJ, ZWJ, ZWSP, SOFT_HYPHEN, BOM = "\u200c", "\u200d", "\u200b", "\u00ad", "\ufeff"
_FLAGS = frozenset({"gbeng", "gbsct", "gbwls"})
_WAVING_FLAG, _CANCEL_TAG = "\U0001f3f4", "\U000e007f"
_VS15, _VS16 = "\ufe0e", "\ufe0f"
_CLOSER = "\u2069"

_CANDIDATES = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_CANDIDATE = re.compile(f"[{_CANDIDATES}]")
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u2066-\u2069]{4}")
"""More marks and isolates in a row than any text needs: it spells something."""
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u05ff\u0600-\u0605\u0608\u060b\u060d\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
    "\U00010800-\U00010fff\U0001e800-\U0001efff]"
)

# Scripts whose orthography uses ZWNJ and ZWJ (first, last): Arabic to Sinhala, Tibetan, Burmese, Mongolian, Khmer,
# Tai, Balinese, the further Indic blocks, Arabic forms, historic Indic scripts, Adlam.
_JOINING = (
    (0x0600, 0x08FF), (0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1700, 0x18AF), (0x1900, 0x1CFF), (0xA800, 0xABFF),
    (0xFB50, 0xFDFF), (0xFE70, 0xFEFC), (0x10A00, 0x11FFF), (0x1E900, 0x1E95F),
)  # fmt: skip
# Scripts without spaces between words, where ZWSP marks a place to break.
_BREAKING = ((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x1AAF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF))
_HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF), (0x3005, 0x3007))
_INITIALS = ((0x1100, 0x115E), (0xA960, 0xA97F))
_VOWELS = ((0x1161, 0x11A7), (0xD7B0, 0xD7C6))
_FINALS = ((0x11A8, 0x11FF), (0xD7CB, 0xD7FF))
_KHMER = ((0x1780, 0x17B3), (0x17B6, 0x17FF))
_MONGOLIAN = ((0x1800, 0x18AF),)
_MUSIC = ((0x1D100, 0x1D1FF),)
_STANDARDISED = (
    *_MONGOLIAN, (0x1000, 0x109F), (0x210B, 0x210B), (0x2110, 0x2110), (0x2112, 0x2112), (0x211B, 0x211B),
    (0x212C, 0x212C), (0x2130, 0x2131), (0x2133, 0x2133), (0x3001, 0x3002), (0xA840, 0xA877), (0xAA60, 0xAA7F),
    (0xFF01, 0xFF1F), (0x10AC0, 0x10AFF), (0x13000, 0x143FF), (0x1D49C, 0x1D4B5),
)  # fmt: skip
"""Scripts, script capitals of mathematics and punctuation with standardised variants by U+FE00 to U+FE03."""


def find(text: str, strict: bool = False, most: int = MOST_SPANS) -> list[Span]:
    """All hidden characters of `text` that do not belong there, in order, without overlaps.

    After `most` spans, or MOST_LOOKS places that may be ordinary, one FLOOD span covers the rest.
    """
    found: list[Span] = []
    if text.isascii():
        return found
    context: _Context | None = None
    position = looks = 0
    search = _CANDIDATE.search
    while match := search(text, position):
        start = match.start()
        looks += 1
        if len(found) >= most or looks > MOST_LOOKS:
            found.append(Span(start, len(text), FLOOD))
            break
        char = text[start]
        position = start + 1
        if char >= "\U000e0000" and not "\U000e0100" <= char <= "\U000e01ef":
            end = _flag_end(text, start)
            if end:
                position = end
            else:
                add(found, start, position, "tag-characters")
            continue
        if context is None:
            context = _Context(text)
        kind = _kind(text, start, char, strict, context)
        if kind:
            add(found, start, position, kind)
    return [_decoded(text, span) for span in found] if found else found


def shown(text: str, span: Span) -> str:
    r"""The span with its hidden characters as readable escapes: `\u202e`, `\U000e0041`."""
    return _CANDIDATE.sub(lambda match: escape(match.group()), text[span.start : span.end])


def removed(text: str, span: Span) -> str:
    """What is left when the span is taken out."""
    return _CANDIDATE.sub("", text[span.start : span.end])


class _Context:
    """What must be known of the whole text, found out when first needed."""

    __slots__ = ("_isolates", "_right_to_left", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._right_to_left: bool | None = None
        self._isolates: frozenset[int] | None = None

    @property
    def right_to_left(self) -> bool:
        if self._right_to_left is None:
            self._right_to_left = _RIGHT_TO_LEFT.search(self._text) is not None
        return self._right_to_left

    @property
    def isolates(self) -> frozenset[int]:
        """Indices of isolate controls that are paired on one line around right-to-left text."""
        if self._isolates is None:
            self._isolates = frozenset(_paired_isolates(self._text)) if self.right_to_left else frozenset()
        return self._isolates


def _kind(text: str, index: int, char: str, strict: bool, context: _Context) -> str:
    before = text[index - 1] if index else ""
    after = text[index + 1 : index + 2]
    if "\ufe00" <= char <= "\ufe0f" or char >= "\U000e0100" or "\u180b" <= char <= "\u180d" or char == "\u180f":
        return "" if before and _is_variant(before, char, after) else "variation-selector"
    if "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069":
        paired = char >= "\u2066" and index in context.isolates
        return "" if paired and not _spells(text, index) else "bidi-control"
    if char in "\u200e\u200f\u061c":
        return "" if context.right_to_left and not _spells(text, index) else "bidi-mark"
    return "" if _is_ordinary(text, index, char, before, after, strict) else "zero-width"


def _is_ordinary(text: str, index: int, char: str, before: str, after: str, strict: bool) -> bool:
    if char == ZWJ and _joins_emoji(text, index, after):
        return True
    if char in (ZWJ, ZWNJ):
        alone = not (_CANDIDATE.match(before) or _CANDIDATE.match(after))
        return alone and (_within(before, _JOINING) or _within(after, _JOINING))
    if char == ZWSP:
        return _within(before, _BREAKING) or _within(after, _BREAKING)
    if char == BOM:
        return index == 0 and not strict
    if char == SOFT_HYPHEN:
        around = text[max(0, index - 2) : index] + text[index + 1 : index + 3]
        return not strict and len(around) == 4 and around.isalpha()
    if char == "\u115f":
        return _within(after, _VOWELS) or (after == "\u1160" and _within(text[index + 2 : index + 3], _FINALS))
    if char == "\u1160":
        return _within(before, _INITIALS) or (before == "\u115f" and _within(after, _FINALS))
    if char == "\u180e":
        return _follows(text, index, _MONGOLIAN)
    if char == "\u034f":
        hebrew = "\u0590" <= before <= "\u08ff" and before != "\u061c"
        return hebrew or (bool(before) and unicodedata.combining(before) > 0)
    if char in "\u17b4\u17b5":
        return _within(before, _KHMER)
    return "\U0001d173" <= char <= "\U0001d17a" and _follows(text, index, _MUSIC)


def _spells(text: str, index: int) -> bool:
    return _DIRECTIONS.search(text, max(0, index - 3), index + 4) is not None


def _follows(text: str, index: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    """Whether a character of `ranges` that is seen stands before this one, or one further before."""
    for before in (text[index - 1 : index], text[index - 2 : index - 1]):
        if not before or not _CANDIDATE.match(before):
            return _within(before, ranges)
    return False


def _joins_emoji(text: str, index: int, after: str) -> bool:
    base = text[index - 1] if index else ""
    if base == _VS16 and index > 1:
        base = text[index - 2]
    if base.isascii() or after.isascii():  # nothing, or a digit: those take a selector, but join nothing
        return False
    return takes_emoji_presentation(base) and takes_emoji_presentation(after)


def _is_variant(before: str, char: str, after: str) -> bool:
    if _CANDIDATE.match(before) or "\ufe00" <= after <= "\ufe0f" or "\U000e0000" <= after <= "\U000e0fff":
        return False
    if char in (_VS15, _VS16):
        return takes_emoji_presentation(before) or _is_symbol(before, "So", "Sm")
    if "\u180b" <= char <= "\u180f":
        return _within(before, _MONGOLIAN)
    if _within(before, _HAN):
        return char >= "\U000e0100" or char <= "\ufe02"
    return char <= "\ufe03" and (before == "0" or _is_symbol(before, "Sm") or _within(before, _STANDARDISED))


def _is_symbol(char: str, *categories: str) -> bool:
    return not char.isascii() and unicodedata.category(char) in categories


def _within(char: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    if not char:
        return False
    code = ord(char)
    return any(first <= code <= last for first, last in ranges)


def _flag_end(text: str, start: int) -> int:
    """The end of a subdivision flag whose first tag stands at `start`, or 0."""
    if text[start - 1 : start] != _WAVING_FLAG or text[start + 5 : start + 6] != _CANCEL_TAG:
        return 0
    spec = "".join(chr(ord(char) - 0xE0000) for char in text[start : start + 5] if char >= "\U000e0000")
    return start + 6 if spec in _FLAGS else 0


def _paired_isolates(text: str) -> list[int]:
    paired: list[int] = []
    group: list[int] = []  # the controls since the outermost opening
    depth = 0
    for match in re.finditer("[\n\u2066-\u2069]", text):
        char = match.group()
        if char == "\n":
            group.clear()
            depth = 0
        elif char != _CLOSER or depth:
            group.append(match.start())
            depth += -1 if char == _CLOSER else 1
            if depth == 0:
                if _RIGHT_TO_LEFT.search(text, group[0], match.start()):
                    paired += group
                group.clear()
    return paired


def _decoded(text: str, span: Span) -> Span:
    part = text[span.start : span.end]
    if span.kind == "tag-characters":
        payload = "".join(chr(ord(c) - 0xE0000) for c in part if "\U000e0020" <= c <= "\U000e007e")
    elif span.kind == "variation-selector" and len(part) > 1:
        payload = _selector_text([ord(char) for char in part if not "\u180b" <= char <= "\u180f"])
    else:
        return span
    return Span(span.start, span.end, span.kind, payload)


def _selector_text(codes: list[int]) -> str:
    """What a run of variation selectors spells, in either of the two usual encodings, or ''."""
    for first in (16, 0):  # VS1-256 as bytes; or U+E0100 plus the character code
        values = bytes(code - 0xFE00 if code < 0x10000 else code - 0xE0100 + first & 0xFF for code in codes)
        payload = values.decode("utf-8", "replace")
        if sum(char.isprintable() and char != "\ufffd" for char in payload) * 10 >= len(payload) * 9:
            return payload
    return ""
