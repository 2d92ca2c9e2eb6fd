"""Words, and which of them tell a model what to do.

The lists name the *function* a word has in an instruction (order, address, secrecy, precedence, data
worth stealing) or the effect it announces. They are consulted only for words that a change has added, so an
ordinary description may be full of them. A strong word needs no company; of the weak ones it takes two.
"""

from __future__ import annotations

import unicodedata
from typing import Final


def _set(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


def _pairs(*lines: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(pair.split()) for line in lines for pair in line.split(",") if pair.strip())


STRONG: Final = _set(
    # orders
    "must always never ignore ignoring disregard override overrides overriding supersede supersedes forget bypass",
    "instead mandatory obey comply shall ensure whenever please",
    # addressed to the reader
    "you your yourself assistant llm claude gpt chatgpt copilot gemini cursor agent agents",
    # secrecy
    "secret secrets secretly silently hide hidden conceal confidential invisible quietly discreetly covertly",
    "unnoticed",
    # precedence
    "important critical urgent immediately prerequisite precedence prioritize admin administrator attention warning",
    "compliance preferred",
    # data worth stealing
    "password passwords passwd credential credentials ssh cookie cookies wallet mnemonic keychain exfiltrate",
    "conversation transcript",
)
WEAK: Final = _set(
    "should first before after prior then also additionally every each all any only exclusively directly",
    "automatically required need needs please note make sure exactly verbatim without regardless otherwise unless",
    "until once user users human tool tools function functions system prompt instruction instructions policy rule",
    "rules model key keys token tokens env environment history context memory message messages chat file files",
    "contents content email private internal sensitive personal data account recipient destination forward",
    "post bcc cc webhook endpoint url server admin verify verification approve approved confirm confirmation",
    "trusted safe official recommended deprecated replaced obsolete update updated base64 encode encoded hex",
)
EFFECTS: Final = _set(
    "delete deletes deleting erase erases wipe wipes destroy destroys purge purges overwrite overwrites uninstall",
    "send sends sending transmit transmits upload uploads uploading publish publishes pay pays purchase purchases",
    "transfer transfers execute executes executing revoke revokes terminate terminates",
)
"""Effects that whoever approved a text without them did not agree to: "Adds a row" that becomes "Deletes a row"."""
NEGATIONS: Final = _set(
    "not no never none nor cannot cant dont doesnt wont mustnt shouldnt neither without only except unless must",
    "should may need required optional always",
)
"""Words whose coming or going turns a sentence round."""
IMPERATIVES: Final = _set(
    "use call read send include pass provide fetch open run execute invoke forward copy attach append upload post",
    "write email share submit reply respond answer treat consider assume follow obey remember repeat print output",
    "load avoid ask tell notify skip set replace transfer delete give supply add retrieve collect gather save store",
    "extract report put insert prefer try start begin check review look do dont please ensure make let keep never",
    "always visit go download install access get list encode translate summarize act pretend reveal show display",
    "mention say stop",
)
"""Verbs that open a sentence spoken to the reader. "Returns" and "Lists" describe; "Return" orders."""
LINKS: Final = _set("then and also please first next finally afterwards now so kindly simply instead before after")

PHRASES: Final = _pairs(
    "before using, before calling, before any, before every, before each, before running, before invoking,",
    "prior to using, prior to any, prior to calling, after using, after calling, after each, after every,",
    "after any, every time, each time, first call, first read, then call, call this, use this, use the,",
    "do not, dont tell, dont mention, not tell, not mention, not inform, not reveal, not disclose,",
    "not notify, not show, not display, not ask, without asking, without telling, without informing,",
    "without mentioning, without confirmation, without confirming, the user, api key, api keys, private key,",
    "private keys, access token, system prompt, environment variables, make sure, in addition, need to,",
    "needs to, have to, has to, is required, are required, required to, required before, chat history,",
    "message history, this tool, other tool, other tools, another tool, all tools, any tool, as well,",
    "full contents, entire contents, on behalf, in order, no longer, instead of, rather than, set to,",
    "side note, of contents",
)
"""Pairs of words; as strong as a strong word when a change brings the pair in."""
WEAK_PAIRS: Final = frozenset({("use", "the"), ("set", "to"), ("in", "order"), ("as", "well"), ("rather", "than")})
"""Those of PHRASES that are ordinary enough to count as weak."""

COMMON: Final = _set(
    "a an the of to in on at by for from with as is are be was were it its this that these those and or not can if",
    "when which has have will all any each one no than then also only more into over per up out",
)
"""Words hardly any English sentence of four words does without."""

LEXICON: Final = STRONG | WEAK | NEGATIONS
_STOPS: Final = ".!?;\u3002\uff01\uff1f"
_APOSTROPHES: Final = str.maketrans("", "", "'\u2019\u02bc")


_ASCII_WORDS: Final = {
    code: None if chr(code) == "'" else " " for code in range(128) if not (chr(code).isalnum() or chr(code) in "_-")
}


def words(text: str) -> list[str]:
    """Letters and digits of `text` as lower-case words; `_` and `-` within a name are kept.

    Text without spaces between words (Chinese, Japanese, Thai ...) gives one word a character, so that
    a budget of words means as much there.
    """
    if text.isascii():
        return [word for part in text.lower().translate(_ASCII_WORDS).split() if (word := part.strip("-"))]
    found: list[str] = []
    current: list[str] = []
    for char in unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES):
        if char.isalnum() or char == "_":
            if _unspaced(char):
                if current:
                    found.append("".join(current))
                    current = []
                found.append(char)
            else:
                current.append(char)
        elif char == "-" and current:
            current.append(char)
        elif not unicodedata.combining(char) and current:
            found.append("".join(current))
            current = []
    if current:
        found.append("".join(current))
    return [word.rstrip("-") for word in found]


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence or line of `text`; empty ones left out."""
    for stop in _STOPS:
        text = text.replace(stop + " ", stop + "\n") if stop.isascii() else text.replace(stop, stop + "\n")
    return [part for part in map(words, text.splitlines()) if part]


def is_typo(old: str, new: str) -> bool:
    """Whether `new` is `old` with a slip of the pen corrected or made, or another ending.

    Never for words of the lexicon, short words, names with digits or `_`: there one letter is a meaning.
    """
    if old in LEXICON or new in LEXICON or min(len(old), len(new)) < 4 or abs(len(old) - len(new)) > 3:
        return False
    if not (old.isalpha() and new.isalpha()):
        return False
    short, long = sorted((old, new), key=len)
    if long.startswith(short) and long[len(short) :] in ("s", "es", "ed", "d", "ing", "ly", "er", "ion", "al"):
        return True
    return _distance(old, new) <= (1 if len(short) < 8 else 2)


def _distance(a: str, b: str) -> int:
    """Damerau-Levenshtein distance (adjacent swap counts one) of two words of at most 40 letters."""
    if len(a) > 40 or len(b) > 40:
        return 99
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]


def _unspaced(char: str) -> bool:
    code = ord(char)
    return (
        0x0E00 <= code <= 0x0EFF
        or 0x1780 <= code <= 0x17FF
        or 0x3040 <= code <= 0x30FF
        or (0x3400 <= code <= 0x9FFF or 0x20000 <= code <= 0x3FFFF)
    )
