"""What the difference of two definitions of one item means.

| class | meaning | passes |
|---|---|---|
| `cosmetic` | spelling, punctuation, order, version, narrower or shorter | yes, with a note |
| `removed` | the server no longer offers it | yes, with a note |
| `annotation-flip` | a hint about the tool's effects changed | no |
| `widening` | a parameter, type, value or bound was added or loosened, or the output changed | no |
| `added` | a new item after the baseline was complete | no |
| `renamed` | a new name on a body that is known | no |
| `destination-adding` | a URL, host, mail address, path or account that was not there | no |
| `instruction-adding` | text that tells the model something new | no |

The table is in the order of severity: an item's class is the worst of its changes'.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final, Literal, TypeAlias

from callgate.frozen import dataclass
from callgate.text import visible

ChangeClass: TypeAlias = Literal[
    "cosmetic",
    "removed",
    "annotation-flip",
    "widening",
    "added",
    "renamed",
    "destination-adding",
    "instruction-adding",
]
CLASSES: Final[tuple[ChangeClass, ...]] = (
    "cosmetic",
    "removed",
    "annotation-flip",
    "widening",
    "added",
    "renamed",
    "destination-adding",
    "instruction-adding",
)
PASSING: Final = frozenset({"cosmetic", "removed"})


class Absent:
    """The one value that stands for "there is nothing" on a side of a change."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "(absent)"


ABSENT: Final = Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `pointer` is RFC 6901 from the item's body; `before`, `after` are JSON values or ABSENT.

    `reason` is one line, safe to print; the other members are as the server wrote them.
    """

    pointer: str
    before: Any
    after: Any
    meaning: ChangeClass
    reason: str


def named(*texts: str) -> str:
    """Names out of a definition as a reason quotes them: escaped, at most three, each at most 60 characters."""
    shown = ", ".join(f"'{visible(text, 60)}'" for text in texts[:3])
    return f"{shown}, ..." if len(texts) > 3 else shown


def worst(changes: Iterable[Change]) -> ChangeClass:
    """The severest class among `changes`; `cosmetic` for none."""
    return max((change.meaning for change in changes), key=CLASSES.index, default="cosmetic")


def needs_approval(changes: Iterable[Change]) -> bool:
    """Whether a person has to say yes before the item passes."""
    return any(change.meaning not in PASSING for change in changes)


def compare(kind: str, before: Any, after: Any, tools: AbstractSet[str] = frozenset()) -> tuple[Change, ...]:
    """All differences from `before` to `after`, two bodies of an item of `kind` (definitions.py).

    `tools` are the names of the server's tools, lower case: a text that starts to speak of another tool
    is an instruction. Empty when the bodies are equal as JSON values.
    """
    from callgate.trust.item_change import ItemComparison

    return ItemComparison(kind, tools).run(before, after)
