import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from callgate.frozen import dataclass, field, fields, replace


@dataclass(frozen=True, slots=True)
class Ours:
    """One."""

    name: str
    count: int = 3
    table: Mapping[str, int] = field(default_factory=dict)
    secret: str = field(default="s3cret", repr=False)

    @property
    def double(self) -> int:
        return 2 * self.count


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    """One."""

    name: str
    count: int = 3
    table: Mapping[str, int] = dataclasses.field(default_factory=dict)
    secret: str = dataclasses.field(default="s3cret", repr=False)

    @property
    def double(self) -> int:
        return 2 * self.count


GIVEN = [
    (("a",), {}),
    (("a", 1), {"secret": "x"}),
    ((), {"name": "a", "table": {"k": 1}}),
    (("a", 1, {"k": 2}, "y"), {}),
]


@pytest.mark.parametrize(("args", "given"), GIVEN)
def test_it_is_what_dataclasses_makes(args: tuple[Any, ...], given: dict[str, Any]) -> None:
    ours, theirs = Ours(*args, **given), Theirs(*args, **given)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours.double == theirs.double
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert [(f.name, f.default, f.repr, f.type) for f in dataclasses.fields(Ours)] == [
        (f.name, f.default, f.repr, f.type) for f in dataclasses.fields(Theirs)
    ]
    assert ours == Ours(*args, **given) and ours != theirs and ours != replace(ours, name="z")
    assert copy.copy(ours) == copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours
    assert not hasattr(ours, "__dict__") and Ours.__slots__ == Theirs.__slots__
    assert (Ours.__qualname__, Ours.__module__, Ours.__doc__) == ("Ours", __name__, "One.")


@pytest.mark.parametrize(
    ("args", "given"),
    [((), {}), (("a", 1, {}, "s", 5), {}), (("a",), {"name": "b"}), (("a",), {"other": 1}), ((), {"count": 1})],
)
def test_a_wrong_call_is_a_type_error_for_both(args: tuple[Any, ...], given: dict[str, Any]) -> None:
    for cls in (Ours, Theirs):
        with pytest.raises(TypeError):
            cls(*args, **given)


def test_it_cannot_be_changed() -> None:
    one = Ours("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.name
    with pytest.raises(AttributeError):
        one.other = 1  # type: ignore[attr-defined]
    assert one.name == "a"


def test_no_default_is_shared() -> None:
    assert Ours("a").table is not Ours("a").table


def test_it_is_a_key_where_its_values_are() -> None:
    plain = dataclass(frozen=True, slots=True)(type("Plain", (), {"__annotations__": {"a": "int"}}))
    assert len({plain(1), plain(1), plain(2)}) == 2
    with pytest.raises(TypeError):
        hash(Ours("a"))  # a dict is in it, as in Theirs
    with pytest.raises(TypeError):
        hash(Theirs("a"))


def test_replace_takes_either() -> None:
    one = Ours("a", 1, {"k": 1}, "x")
    assert replace(one, count=2) == dataclasses.replace(one, count=2) == Ours("a", 2, {"k": 1}, "x")
    with pytest.raises(TypeError):
        replace(one, other=1)
    assert [f.name for f in fields(Ours)] == ["name", "count", "table", "secret"]


def test_it_matches_by_place() -> None:
    match Ours("a", 7):
        case Ours(name, count):
            assert (name, count) == ("a", 7)
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"__annotations__": {"a": "int", "b": "int"}, "a": 1}, TypeError),
        ({"__annotations__": {"a": "list[int]"}, "a": []}, ValueError),
    ],
)
def test_what_dataclasses_refuses_is_refused(body: dict[str, Any], error: type[Exception]) -> None:
    for make in (dataclass(frozen=True, slots=True), dataclasses.dataclass(frozen=True, slots=True)):
        with pytest.raises(error):
            make(type("Wrong", (), dict(body)))


def test_other_kinds_are_not_made_here() -> None:
    with pytest.raises(TypeError, match="take dataclasses"):
        dataclass(frozen=False, slots=True)
    with pytest.raises(TypeError, match="has bases"):
        dataclass(frozen=True, slots=True)(type("Child", (Exception,), {"__annotations__": {}}))
    for body in (
        {"__annotations__": {"a": "int"}, "__post_init__": print},  # a check that nobody would call
        {"__annotations__": {"a": "ClassVar[int]"}},
        {"__annotations__": {"a": "InitVar[int]"}},
    ):
        with pytest.raises(TypeError, match="take dataclasses"):
            dataclass(frozen=True, slots=True)(type("Checked", (), body))


def test_it_imports_nothing_that_costs_time() -> None:
    program = "import sys; import callgate.frozen; print({'dataclasses', 'typing', 'inspect', 're'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True,
                           env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert found.stdout == "set()\n"
