"""One route -> what the API's description says of it: the form that every description has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from msgspec import Struct

from pgw.core.errors import Code


class Who(Enum):
    """Who may ask; on a loopback bind in development merchants and readers need no key.

    Elsewhere merchants need their own key or the admin key, readers the admin key.
    """

    ANYBODY = "anybody"
    MERCHANT = "merchant"
    READER = "reader"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `answers` maps a status to a shape, or to a tuple of those it may be.

    `sends` and `headers` name parts of the document; with `may_be_bare` the body may be left out.
    `body_is_signed`: it is any JSON object, and counts byte by byte. `answers_as` is the content type of its answers.
    """

    method: str
    path: str
    tag: str
    summary: str
    who: Who
    answers: Mapping[int, Any]
    sends: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    refusals: tuple[Code, ...] = ()
    headers: tuple[str, ...] = ()
    query: type[Struct] | None = None
    body: type[Struct] | None = None
    body_is_signed: bool = False
    may_be_bare: bool = False
    answers_as: str = "application/json"

    @property
    def shapes(self) -> Iterator[Any]:
        """Every shape it answers with."""
        for answer in self.answers.values():
            yield from answer if isinstance(answer, tuple) else (answer,)
