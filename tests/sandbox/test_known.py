"""The table of known servers is well formed, and proposes nothing that a setting could not say."""

from __future__ import annotations

import pytest

from callgate.sandbox.destinations import parse_destination
from callgate.sandbox.known import KNOWN, needs


@pytest.mark.parametrize("package", KNOWN)
def test_entries_are_well_formed(package: str) -> None:
    found = needs(package)
    assert found and (found.network or found.environment or found.writes)
    for destination in found.network:
        parse_destination(destination)
    for name, value in found.environment.items():
        assert name.isupper() or "_" in name
        assert value.format(home="/h").startswith("/h/")
    assert package == package.lower()


def test_others_are_not_known() -> None:
    assert needs("") is None and needs("mcp-server-fetch-evil") is None
