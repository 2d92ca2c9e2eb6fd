"""What a change of one text means: nothing, a new instruction, or a new destination.

Structure before words. The two texts are cut into sentences; sentences that stayed, in any order, say
nothing new. A changed sentence is laid beside the old one it resembles, spelling corrections are
paired off, and only the words left over are looked at:

1. characters no reader sees, or that steer a terminal, where there were none: concealment;
2. a URL, host, mail address, path or account number that was not there;
3. a negation or restriction that came, went or moved within a sentence;
4. orders, address to the reader, secrecy, precedence, other tools' names, data worth stealing;
5. more new text than a correction needs.

What remains is cosmetic. Text that only lost sentences is cosmetic too.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from callgate.detect import escapes, hidden
from callgate.trust.changes import named
from callgate.trust.destinations import split
from callgate.trust.wording import (
    COMMON,
    EFFECTS,
    IMPERATIVES,
    LINKS,
    NEGATIONS,
    PHRASES,
    STRONG,
    WEAK,
    WEAK_PAIRS,
    is_typo,
    sentences,
)

TextClass: TypeAlias = Literal["instruction-adding", "destination-adding"]

WORD_BUDGET: Final = 8
"""New words one text may gain and still be cosmetic."""
COMPARED_CHARS: Final = 50_000
"""Longer texts that differ are not compared but treated as instruction-adding."""
_SENTENCES: Final = 64
_PAIRED: Final = 24
_TITLE: Final = 5
"""A text of at most so many words where none was is a title, not an order."""
_LONG_WORD: Final = 24
_TONGUE: Final = 4
"""A sentence of so many words has common words of its language in it."""


MARKS: Final = (
    "<!--", "<|", "###", "[inst", "[system", "[important", "<<sys", "<system", "<important", "<instruction", "<secret",
    "<hidden", "<prompt", "system:", "assistant:", "user:", "human:", "tool:",
)  # fmt: skip
"""What sets a passage apart from the text around it, lower case."""


@dataclass(frozen=True, slots=True)
class TextChange:
    """The meanings found, each with one line why, and how many words are new."""

    meanings: tuple[tuple[TextClass, str], ...]
    new_words: int


_SAME = TextChange((), 0)


def compare_text(
    before: str, after: str, tools: AbstractSet[str] = frozenset(), *, described: bool = False
) -> TextChange:
    """What `after` says that `before` did not. `tools`: names of the server's other tools, lower case.

    `described`: the text belongs to something that is known to be new, so being new text is no news;
    only what stands out in it counts.
    """
    if before == after:
        return _SAME
    meanings: list[tuple[TextClass, str]] = []
    concealed = _concealed(after) - _concealed(before)
    if concealed:
        kinds = ", ".join(sorted({kind for kind, _ in concealed}))
        meanings.append(("instruction-adding", f"adds characters that a reader does not see: {kinds}"))
    if len(before) > COMPARED_CHARS or len(after) > COMPARED_CHARS:
        meanings.append(("instruction-adding", "the text changed and is too long to compare"))
        return TextChange(tuple(meanings), WORD_BUDGET + 1)
    known, old_text = split(before)
    places, new_text = split(after)
    places -= known
    if places:
        meanings.append(("destination-adding", f"names a new destination: {named(*sorted(places))}"))
    marks = _markup(after) - _markup(before)
    if marks:
        meanings.append(("instruction-adding", f"marks a passage as something else: {named(*sorted(marks))}"))
    new_words, reason = _compare_words(old_text, new_text, tools, described)
    if reason:
        meanings.append(("instruction-adding", reason))
    return TextChange(tuple(meanings), new_words)


def _concealed(text: str) -> Counter[tuple[str, str]]:
    """(kind, characters) of what no reader sees or a terminal obeys, where it does not belong."""
    if text.isascii() and text.isprintable():
        return Counter()
    spans = hidden.find(text, strict=True) + escapes.find(text, strict=True)
    return Counter((span.kind, text[span.start : span.end]) for span in spans)


def _markup(text: str) -> set[str]:
    """Elements and role labels: `<note>...</note>`, `[INST]`, `system:`. A placeholder, `<width>`, is none."""
    low = text.casefold()
    found = {mark for mark in MARKS if mark in low}
    start = low.find("</")
    while start >= 0 and len(found) < 100:
        name = low[start + 2 : start + 42].partition(">")[0].strip()
        if name and f"<{name}" in low:
            found.add(f"<{name}>")
        start = low.find("</", start + 2)
    return found


def _compare_words(before: str, after: str, tools: AbstractSet[str], described: bool) -> tuple[int, str]:
    """(new words, why they are an instruction or '')."""
    old_sentences, new_sentences = sentences(before), sentences(after)
    if _flat(old_sentences) == _flat(new_sentences):
        return 0, ""
    kept = Counter(map(tuple, old_sentences)) & Counter(map(tuple, new_sentences))
    old_left = _without(old_sentences, kept)
    new_left = _without(new_sentences, kept)
    known = set(_flat(old_sentences))
    quoted = _quoted(after) - _quoted(before)
    total = 0
    weak: list[str] = []
    if len(new_left) > _SENTENCES:
        return len(_flat(new_left)), f"{len(new_left)} sentences of new text"
    for sentence in new_left:
        match = _closest(sentence, old_left)
        if match is None:
            added = sentence
            if len(sentence) >= _TONGUE and known and (known | COMMON).isdisjoint(sentence):
                return len(sentence), "a new sentence shares no word with the text, nor with plain English"
            verb = _imperative(sentence)
            if verb and not described and (old_sentences or len(sentence) > _TITLE):
                return len(sentence), f"a new sentence tells the reader what to do ({verb!r})"
        else:
            old_left.remove(match)
            added, turned = _added(match, sentence)
            if turned:
                return len(added), turned
        total += sum(1 if len(word) <= _LONG_WORD else len(word) // 6 for word in added)
        reason = _strong(added, match or [], sentence, tools, quoted)
        if reason:
            return total, reason
        effects = [word for word in added if word in EFFECTS and word not in known]
        if effects and not described and (old_sentences or len(sentence) > _TITLE):
            return total, f"announces another effect ({effects[0]!r})"
        weak += [word for word in added if word in WEAK or "_" in word]
        if match is None and len(sentence) > 2:
            weak += [f"{a} {b}" for a, b in _pairs(sentence) if (a, b) in WEAK_PAIRS]
    foreign = _foreign(_flat(new_left), known)
    if foreign and known:
        return total, f"text in another script was added ({named(foreign)})"
    if described:
        return total, ""
    if len(set(weak)) >= 2:
        return total, f"new words are about instructions, tools or data ({named(*sorted(set(weak)))})"
    if total > WORD_BUDGET:
        return total, f"{total} words of new text"
    return total, ""


def _flat(parts: Iterable[list[str]]) -> list[str]:
    return [word for part in parts for word in part]


def _without(parts: list[list[str]], kept: Counter[tuple[str, ...]]) -> list[list[str]]:
    left = Counter(kept)
    rest: list[list[str]] = []
    for part in parts:
        key = tuple(part)
        if left[key]:
            left[key] -= 1
        else:
            rest.append(part)
    return rest


def _closest(sentence: list[str], candidates: list[list[str]]) -> list[str] | None:
    """The old sentence that shares most words, at least two fifths of the shorter one's."""
    best: list[str] | None = None
    score = 0.0
    mine = set(sentence)
    for candidate in candidates[:_SENTENCES]:
        theirs = set(candidate)
        shared = len(mine & theirs)
        value = shared / min(len(mine), len(theirs))
        if shared and value >= 0.4 and (value, shared) > (score, 0):
            best, score = candidate, value
    return best


def _added(old: list[str], new: list[str]) -> tuple[list[str], str]:
    """Words of `new` that `old` lacks, after pairing off corrections; and why the sentence turned round."""
    added = list((Counter(new) - Counter(old)).elements())
    removed = list((Counter(old) - Counter(new)).elements())
    fixed: dict[str, str] = {}
    if len(added) <= _PAIRED and len(removed) <= _PAIRED:
        for word in list(added):
            twin = next((other for other in removed if is_typo(other, word)), None)
            if twin is not None:
                added.remove(word)
                removed.remove(twin)
                fixed[twin] = word
    old_fixed = [fixed.get(word, word) for word in old]
    if Counter(w for w in old_fixed if w in NEGATIONS) != Counter(w for w in new if w in NEGATIONS):
        return added, "a negation or restriction within a sentence came or went"
    before, after = _negated(old_fixed), _negated(new)
    if any(word in old_fixed for word in after - before) or any(word in new for word in before - after):
        return added, "a negation or restriction applies to other words than before"
    return added, ""


def _strong(
    added: list[str], old: list[str], sentence: list[str], tools: AbstractSet[str], quoted: AbstractSet[str]
) -> str:
    for word in added:
        if word in STRONG:
            return f"adds {named(word)}"
        if word in tools and ("_" in word or "-" in word or word in quoted):
            return f"refers to the tool {named(word)}"
    fresh = set(added)
    said = set(_pairs(old))
    for pair in _pairs(sentence):
        if pair in PHRASES and pair not in said | WEAK_PAIRS and (pair[0] in fresh or pair[1] in fresh):
            return f"adds {' '.join(pair)!r}"
    if old and sentence[0] in fresh and sentence[0] in IMPERATIVES and old[0] not in IMPERATIVES:
        return f"a sentence now tells the reader what to do ({sentence[0]!r})"
    return ""


def _imperative(sentence: list[str]) -> str:
    for word in sentence[:3]:
        if word in IMPERATIVES:
            return word
        if word not in LINKS:
            return ""
    return ""


def _pairs(parts: list[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(parts))


def _negated(parts: list[str]) -> set[str]:
    """The words right after a negation or restriction."""
    return {second for first, second in _pairs(parts) if first in NEGATIONS}


def _quoted(text: str) -> set[str]:
    """Single words in back-ticks or quotes: how prose names a tool or a parameter."""
    found: set[str] = set()
    for mark in "`'\"":
        pieces = text.split(mark)
        if len(pieces) > 2:
            found.update(piece.casefold() for piece in pieces[1:-1] if piece and " " not in piece)
    return found


def _foreign(new: Iterable[str], known: AbstractSet[str]) -> str:
    """The first new word with a letter of a script that the text did not use before, or ''."""
    scripts = {_script(char) for word in known for char in word if char.isalpha()}
    for word in new:
        if not word.isascii() and any(char.isalpha() and _script(char) not in scripts for char in word):
            return word
    return ""


def _script(letter: str) -> str:
    """The script of a letter, by its Unicode name: LATIN, CYRILLIC, CJK ..."""
    return unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0]
