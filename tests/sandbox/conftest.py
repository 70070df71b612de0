"""What the tests of the sandbox share: one running, with an empty book."""

from collections.abc import Iterator

import pytest

from tests.sandbox.served import Gateway, served


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """Run a sandbox whose customers pay only when a call says so."""
    with served() as running:
        yield running
