r"""Terminal control in text: what would move a cursor, write a clipboard, or hide one line under another.

`find()` reads a text as a terminal would (ECMA-48, xterm's control sequences) in one pass, linear in its length:

| kind | what |
|---|---|
| `csi` | `ESC [` … or U+009B …: colours, cursor movement, erasing |
| `osc-link`, `osc-clipboard`, `osc-title`, `osc` | `ESC ]` 8, 52, 0/1/2, others, up to BEL or ST |
| `device-control` | DCS, `ESC P` … ST: device queries, macros, sixel |
| `control-string` | APC, PM, SOS: `ESC _`, `ESC ^`, `ESC X` … ST |
| `escape` | any other sequence that starts with ESC, or ESC alone |
| `c1` | any other code point U+0080 to U+009F |
| `carriage-return` | CR that no LF follows: what comes next overwrites the line |
| `backspace`, `delete`, `bell`, `control` | BS, DEL, BEL, any other C0 but TAB and LF |

Harmless uses pass unless `strict`: progress bars (a CR between stages of the same words), overstrike as
manual pages use it (`N BS N`, `_ BS N`), a form feed at the start of a line as a page break in source code.

A control string that does not end on its line counts by its opening alone: without that it is plain text, and
a stray C1 byte of a mis-decoded file does not take a paragraph with it.
"""

from __future__ import annotations

import re

from callgate.detect.spans import FLOOD, MOST_LOOKS, MOST_SPANS, Span, add
from callgate.text import escape

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")
_PARAMETERS = re.compile("[0-?]*[ -/]*")
_INTERMEDIATES = re.compile("[ -/]*")
_STRING_END = re.compile("[\n\x18\x1a\x1b\x9c]")
_OSC_END = re.compile("[\n\x07\x18\x1a\x1b\x9c]")

_C1_OF = {"[": "\x9b", "]": "\x9d", "P": "\x90", "_": "\x9f", "^": "\x9e", "X": "\x98"}
_STRINGS = {
    "\x9d": "osc",
    "\x90": "device-control",
    "\x9f": "control-string",
    "\x9e": "control-string",
    "\x98": "control-string",
}
_OSC_KINDS = {"8": "osc-link", "52": "osc-clipboard", "0": "osc-title", "1": "osc-title", "2": "osc-title"}
_SIMPLE = {"\x08": "backspace", "\x7f": "delete", "\x07": "bell"}
_PROGRESS_MARKS = frozenset(" \t0123456789%|/\\-=#>.,:;()[]<+~*?…•█▉▊▋▌▍▎▏░▒▓━╸╺┄─│▕●○◐◓◑◒⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏✓✔✗")
_PROGRESS_LINE = 1000
"""Longest stage of a progress line, in characters; the look back and ahead at a CR is bounded by it."""

_ALL = {code: escape(chr(code)) for code in (*range(9), 11, 12, *range(13, 32), *range(0x7F, 0xA0))}
_BULK = re.compile("(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?|\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def find(text: str, strict: bool = False, most: int = MOST_SPANS) -> list[Span]:
    """All terminal control in `text`, in order, without overlaps.

    `strict` grants no exceptions: for names and definitions. After `most` spans, or MOST_LOOKS places that
    may be harmless, one FLOOD span covers the rest.
    """
    found: list[Span] = []
    size = len(text)
    osc_end = string_end = -1  # the next terminator known, so that many openings share one search
    position = looks = 0
    line = _Line(text)
    search = _CONTROL.search
    while match := search(text, position):
        looks += 1
        if len(found) >= most or looks > MOST_LOOKS:
            found.append(Span(match.start(), size, FLOOD))
            break
        start = match.start()
        char = text[start]
        body = start + 1
        if char == "\x1b":
            char = _C1_OF.get(text[body : body + 1], char)
            body += char != "\x1b"
        if char == "\x9b":
            position = _csi_end(text, body)
            found.append(Span(start, position, "csi"))
        elif char == "\x9d":
            if osc_end < body:
                end = _OSC_END.search(text, body)
                osc_end = end.start() if end else size
            position = _string_end(text, body, osc_end)
            found.append(Span(start, position, _OSC_KINDS.get(text[body : body + 3].partition(";")[0], "osc")))
        elif char in _STRINGS:
            if string_end < body:
                end = _STRING_END.search(text, body)
                string_end = end.start() if end else size
            position = _string_end(text, body, string_end)
            found.append(Span(start, position, _STRINGS[char]))
        elif char == "\x1b":
            position = _escape_end(text, body)
            found.append(Span(start, position, "escape"))
        else:
            position = body
            kind = _single(text, start, char, strict, line)
            if kind:
                add(found, start, position, kind)
    return found


def shown(text: str, span: Span) -> str:
    r"""The span with its control characters as readable escapes: `\x1b[31m`."""
    part = text[span.start : span.end]
    if span.kind == FLOOD:  # CR LF stays a line end
        return "\r\n".join(line.translate(_ALL) for line in part.split("\r\n"))
    return part.translate(_ALL)


def removed(text: str, span: Span) -> str:
    """What is left when the span is taken out."""
    return _BULK.sub("", text[span.start : span.end]) if span.kind == FLOOD else ""


def _csi_end(text: str, body: int) -> int:
    match = _PARAMETERS.match(text, body)
    end = match.end() if match else body
    return end + 1 if "@" <= text[end : end + 1] <= "~" else end


def _escape_end(text: str, body: int) -> int:
    match = _INTERMEDIATES.match(text, body)
    end = match.end() if match else body
    return end + 1 if "0" <= text[end : end + 1] <= "~" else body


def _string_end(text: str, body: int, end: int) -> int:
    closer = text[end : end + 1]
    if closer == "\x1b":
        return end + 2 if text[end + 1 : end + 2] == "\\" else end
    return body if closer in ("", "\n") else end + 1


def _single(text: str, index: int, char: str, strict: bool, line: _Line) -> str:
    if char == "\r":
        return "carriage-return" if strict or line.hides_at(index) else ""
    if not strict:
        before = text[index - 1 : index] if index else ""
        after = text[index + 1 : index + 2]
        if char == "\x08" and before in ("_", after) and before.isprintable() and after > " ":
            return ""
        if char == "\x0c" and before in ("", "\n"):
            return ""
    return _SIMPLE.get(char) or ("c1" if char >= "\x80" else "control")


class _Line:
    """The line that carriage returns begin anew: all of them hide something, or none. Asked for one after the other.

    Stages of progress have the same words, if not all of them yet, and other numbers and bars. Each is held against
    the one with the most words so far, so that an empty or a shorter one in between makes nothing forgotten, and must
    not cover its words with blanks. Where one breaks this, the line is shown as a whole: a part of it, made text,
    would make the rest hide something.
    """

    __slots__ = ("_end", "_hides", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = -1
        self._hides = False

    def hides_at(self, index: int) -> bool:
        """Whether the CR there stands in a line that hides something."""
        if index > self._end:
            text = self._text
            end = text.find("\n", index)
            self._end = len(text) if end < 0 else end
            line = text[text.rfind("\n", 0, index) + 1 : self._end]
            self._hides = _hides(line if end < 0 else line.removesuffix("\r"))
        return self._hides


def _hides(line: str) -> bool:
    drawn, *stages = line.split("\r", MOST_LOOKS)
    if len(stages) == MOST_LOOKS:
        stages.pop()  # nobody looks that far
    if len(drawn) >= _PROGRESS_LINE:
        return True
    words = _words(drawn)
    for stage in stages:
        if len(stage) >= _PROGRESS_LINE:
            return True
        said = _words(stage)
        if said.startswith(words):
            drawn, words = stage, said
        elif not words.startswith(said) or len(_words(drawn[: len(stage)])) > len(said):
            return True
    return False


def _words(stage: str) -> str:
    return "".join([char for char in stage if char not in _PROGRESS_MARKS])
