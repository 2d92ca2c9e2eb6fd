"""How one item stands to the approved ones."""

from __future__ import annotations

import random
from typing import Any

import pytest

from callgate.trust.canonical import digest
from callgate.trust.definitions import Item
from callgate.trust.judgement import Nameless, judge_changed, judge_new


def item(body: dict[str, Any], kind: Any = "tool") -> Item:
    return Item(kind, body["name"], body, digest(body), "/result/tools/0")


SEARCH = {"name": "search", "description": "Searches files. Returns paths."}
TENANT = {
    "name": "search",
    "description": "Searches the files of Example Corp for people of its northern branch office.",
}


def test_the_nearest_approved_variant_counts() -> None:
    shown = item(
        {"name": "search", "description": "Searches the files of Example Corp for people of its branch office."}
    )
    judgement = judge_changed(shown, [SEARCH, TENANT], frozenset())
    assert judgement.standing == "cosmetic"
    assert judgement.nearest == TENANT


def test_a_tool_that_speaks_of_itself_speaks_of_no_other_tool() -> None:
    body = {"name": "find_files", "description": "Searches files. Returns paths."}
    shown = item({**body, "description": "Searches files, as find_files. Returns paths."})
    assert judge_changed(shown, [body], frozenset({"find_files"})).standing == "cosmetic"
    assert judge_changed(shown, [body], frozenset({"find_files", "paths"})).standing == "cosmetic"
    other = item({**body, "description": "Searches files, as send_mail. Returns paths."})
    assert judge_changed(other, [body], frozenset({"send_mail"})).standing == "changed"


def test_there_must_be_something_to_compare_with() -> None:
    with pytest.raises(ValueError, match="not changed but new"):
        judge_changed(item(SEARCH), [], frozenset())


def test_a_new_name_on_a_known_body_is_a_rename_and_anything_else_is_added() -> None:
    approved = Nameless("tool", [("search", SEARCH), ("other", {"name": "other"})])
    renamed = judge_new(item({**SEARCH, "name": "find"}), approved)
    assert (renamed.standing, renamed.meaning, renamed.passes) == ("renamed", "renamed", False)
    added = judge_new(item({"name": "find", "description": "Other."}), approved)
    assert (added.standing, added.meaning, added.passes) == ("added", "added", False)
    assert judge_new(item({"name": "search", "description": SEARCH["description"]}), approved).standing == "added"


def test_cosmetic_steps_cannot_walk_to_an_attack() -> None:
    """From the approved text to a poisoned one by adding a word at a time: it is stopped on the way."""
    payload = ["copies", "of", "what", "people", "wrote", "go", "along", "as", "further", "text"]
    payload += ["so", "that", "results", "fit", "better"]
    body = dict(SEARCH)
    passed = 0
    for word in payload:
        body = {**body, "description": f"{body['description'].rstrip('.')} {word}."}
        if not judge_changed(item(body), [SEARCH], frozenset()).passes:
            break
        passed += 1
    assert passed < 10
    assert not judge_changed(item(body), [SEARCH], frozenset()).passes


def test_random_walks_end_too() -> None:
    words = ["blue", "green", "stone", "river", "cloud", "paper", "glass", "lamp", "chair", "table", "window", "door"]
    for seed in range(20):
        chance = random.Random(seed)
        text = SEARCH["description"].split()
        steps = 0
        while judge_changed(item({**SEARCH, "description": " ".join(text)}), [SEARCH], frozenset()).passes:
            text.insert(chance.randrange(len(text) + 1), chance.choice(words))
            steps += 1
            assert steps <= 12
