"""A request -> its answer as bytes: what every way to the server implements."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as bytes; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """A way to the server: over the network, or in this process."""

    name: str

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> RawAnswer:
        """Send one request and return its answer, whatever its status. Raises CommandError when there is none."""

    def close(self) -> None:
        """Give back what the transport holds."""
