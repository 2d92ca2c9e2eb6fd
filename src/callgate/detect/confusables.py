r"""Names that look like other names: `p\u0430ypal` with a Cyrillic a, full-width `search`, two tools that look alike.

After UTS #39, restricted to what names of tools, prompts, resources and arguments need:

- `impostor(name)` looks at one name. A word that mixes ASCII letters with characters that look like ASCII
  letters is one, a word made only of such characters beside an ASCII word is one, and a name that is ASCII in
  disguise (full-width, mathematical, circled letters) is one. A name in one script (Cyrillic, Greek, Chinese)
  is not, nor is a word with accents, nor a Greek letter that looks like no ASCII letter, nor a word of look-alikes
  beside a word that shows its script: a Russian preposition, as in a title with an English term.
- `skeleton(name)` is equal for names that look alike.
"""

from __future__ import annotations

import unicodedata

_ASCII = {"0": "O", "1": "l", "I": "l", "|": "l", "m": "rn"}
_DISGUISES = ("<wide>", "<font>", "<circle>", "<square>")
_NUMERALS = frozenset("\u2160\u2164\u2169\u2170\u2174\u2179\u212e")
"""Drawn as the letters I, V, X and e: letters where an ASCII letter follows, as "Type \u2160" is honest."""
_RARE_NUMERALS = frozenset("\u216c\u216d\u216e\u216f\u217c\u217d\u217e\u217f")
"""Drawn as L, C, D and M. Nobody counts with them, so they are letters wherever they stand."""
_MIXED = ("CYRILLIC ", "GREEK ", "ARMENIAN ")
"""Living scripts whose short words may consist of look-alikes, as the names of their letters begin."""
_TABLE: dict[int, str] = {}


def _table() -> dict[int, str]:
    if not _TABLE:
        from callgate.detect.confusables_table import LOOKALIKES

        _TABLE.update({ord(char): prototype for prototype, chars in LOOKALIKES.items() for char in chars})
    return _TABLE


def skeleton(name: str) -> str:
    """What `name` looks like: equal skeletons look alike. Case is kept."""
    seen = unicodedata.normalize("NFD", name if name.isascii() else name.translate(_table()))
    if not seen.isascii():
        seen = unicodedata.normalize("NFKC", seen).translate(_table())
    return "".join([_ASCII.get(char, char) for char in seen])


def impostor(name: str) -> str:
    """The ASCII name that `name` is drawn to look like, or '' for an honest one."""
    if name.isascii():
        return ""
    table = _table()
    folded = unicodedata.normalize("NFKC", name)
    if folded.isascii() and any(unicodedata.decomposition(char).startswith(_DISGUISES) for char in name):
        return folded
    words = _words(name)
    latin = any(word.isascii() for word in words)
    shown = _shown(words, table) if latin else set()
    for word in words:
        drawn = [char for char in word if _is_drawn(char, table)]
        mixed = any(char.isascii() for char in word)
        if not drawn or not (mixed or (latin and len(drawn) == len(word))):
            continue
        if mixed or not {_script(char) for char in set(word)} <= shown:
            letters = set(drawn)
            return "".join([table.get(ord(char), char) if char in letters else char for char in name])
    return ""


def _words(name: str) -> list[str]:
    return "".join(
        [char if _is_letter(char, after) else " " for char, after in zip(name, name[1:] + " ", strict=True)]
    ).split()


def _is_letter(char: str, after: str) -> bool:
    return char.isalpha() or char in _RARE_NUMERALS or (char in _NUMERALS and after.isascii() and after.isalpha())


def _shown(words: list[str], table: dict[int, str]) -> set[str]:
    """The scripts that the name can be seen to use: a word without ASCII letters has one of their own."""
    own = {
        char
        for word in words
        if not any(char.isascii() for char in word)
        for char in word
        if not _is_drawn(char, table)
    }
    return {_script(char) for char in own} - {""}


def _script(char: str) -> str:
    name = unicodedata.name(char, "")
    return next((script for script in _MIXED if name.startswith(script)), "")


def _is_drawn(char: str, table: dict[int, str]) -> bool:
    # Below U+0250 lie the letters with accents and the dotless i of real orthographies.
    return char >= "\u0250" and table.get(ord(char), "").isalpha()
