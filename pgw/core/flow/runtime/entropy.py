"""The system's randomness -> Random: unguessable like SystemRandom, but one system call serves many draws."""

import os
from random import SystemRandom

CHUNK = 4096
"""Bytes fetched at once: a call for each id would cost as much as the routing decision."""


class Entropy(SystemRandom):
    """Draws from the operating system's generator, in chunks. For one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._chunk = b""
        self._used = 0

    def random(self) -> float:
        """Draw from [0, 1), with 53 bits."""
        return self.getrandbits(53) * 2.0**-53

    def getrandbits(self, k: int, /) -> int:
        """Draw an integer of `k` random bits."""
        count = (k + 7) // 8
        if self._used + count > len(self._chunk):
            self._chunk, self._used = os.urandom(max(CHUNK, count)), 0
        taken = self._chunk[self._used : self._used + count]
        self._used += count
        return int.from_bytes(taken, "big") >> (count * 8 - k)
