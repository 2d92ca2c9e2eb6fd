from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.machine import Machine, for_tests


@pytest.fixture(scope="package")  # it ends with the last of them: even idle it takes some of a processor
def machine() -> Iterator[Machine]:
    """One machine for all of these tests; what one of them changes in it, it puts back."""
    with for_tests() as running:
        yield running
