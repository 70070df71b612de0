"""Randomness fetched in chunks has the form asked for, and is never handed out twice."""

import os
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.flow.runtime.entropy import CHUNK, Entropy


@given(bits=st.lists(st.integers(0, 8 * CHUNK + 9), max_size=20))
def test_an_integer_has_no_more_bits_than_asked(bits: list[int]) -> None:
    rng = Entropy()
    assert all(0 <= rng.getrandbits(k) < 2**k for k in bits)


@given(counts=st.lists(st.integers(1, CHUNK + 9), min_size=1, max_size=60))
def test_every_byte_of_the_system_is_used_at_most_once_and_in_order(counts: list[int]) -> None:
    """The system's bytes are replaced by a running number, four bytes each, so that a repeat would show."""
    numbers = count()

    def urandom(size: int) -> bytes:
        return b"".join(next(numbers).to_bytes(4, "big") for _ in range(-(-size // 4)))[:size]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", urandom)
        rng = Entropy()
        drawn = [rng.getrandbits(8 * size).to_bytes(size, "big") for size in counts]
    assert [len(each) for each in drawn] == counts
    long = [each for each in drawn if len(each) >= 8]
    assert len(set(long)) == len(long)


def test_a_float_lies_in_its_interval() -> None:
    rng = Entropy()
    assert all(0.0 <= rng.random() < 1.0 for _ in range(10_000))
    assert all(1.6 <= rng.uniform(1.6, 2.4) <= 2.4 for _ in range(1000))


def test_two_generators_share_nothing() -> None:
    assert Entropy().getrandbits(128) != Entropy().getrandbits(128)
