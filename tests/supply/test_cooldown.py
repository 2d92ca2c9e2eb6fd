"""The cool-down: days, limits, dates as registries write them; and the order of versions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply.cooldown import Cooldown, iso, parse_time
from callgate.supply.resolve_update import version_key

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("published", "passes"),
    [
        (datetime(2026, 11, 15, 11, 59, 59, tzinfo=UTC), True),
        (datetime(2026, 11, 15, 12, tzinfo=UTC), True),
        (datetime(2026, 11, 15, 12, 0, 1, tzinfo=UTC), False),
        (datetime(2030, 1, 1, tzinfo=UTC), False),
        (None, False),
    ],
)
def test_seven_days(published: datetime | None, passes: bool) -> None:
    wait = Cooldown(7, now=NOW)
    assert wait.text == "2026-11-15T12:00:00Z"
    if passes:
        wait.check("x 1", published)
    else:
        with pytest.raises(TrustError) as caught:
            wait.check("x 1", published)
        assert "--no-cooldown" in caught.value.next_step
    Cooldown(7, off=True, now=NOW).check("x 1", published)
    Cooldown(0, now=NOW).check("x 1", published)


def test_an_earlier_moment_is_repeated_even_without_days() -> None:
    assert Cooldown(0, before=NOW).text == iso(NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T12:00:00.000Z", NOW),
        ("2026-11-22T12:00:00+00:00", NOW),
        ("2026-11-22T12:00:00", NOW),
        ("2026-11-22T14:00:00+02:00", NOW),
        ("yesterday", None),
        ("", None),
        (7, None),
        ("2" * 50, None),
    ],
)
def test_dates(text: object, expected: datetime | None) -> None:
    assert parse_time(text) == expected


@given(st.text())
def test_any_text_is_a_date_or_none(text: str) -> None:
    found = parse_time(text)
    assert found is None or found.tzinfo


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0.9", "1.0.10"),
        ("1.0.0-rc.1", "1.0.0"),
        ("1.0.0-rc.1", "1.0.0-rc.2"),
        ("1.0.0-alpha", "1.0.0-beta"),
        ("1.0rc1", "1.0"),
        ("1.0.0", "1.0.1-rc.1"),
        ("0.9", "1"),
        ("2025.12.1", "2026.1.1"),
    ],
)
def test_the_order_of_versions(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)
    assert version_key("1.0") == version_key("1.0.0")


@given(st.text(max_size=30))
def test_any_version_has_a_key(text: str) -> None:
    assert version_key(text) == version_key(text)
