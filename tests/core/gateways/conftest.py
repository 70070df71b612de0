"""A test of the wire -> each way to carry its requests, with the secret looked for in everything that was logged."""

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.core.gateways.carriers import BASIC, CARRIERS, SECRET, Carrier


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Carrier]:
    """Run the test over each carrier."""
    caplog.set_level("DEBUG")
    used = CARRIERS[request.param]
    yield used
    assert [word for word in (SECRET, BASIC) if word in caplog.text] == []
    if not used.proves:
        # httpx's own transport leaves the sockets of lost TLS connections to the garbage collector, which would blame
        # whatever test runs when it comes by. It is not the transport of production.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
