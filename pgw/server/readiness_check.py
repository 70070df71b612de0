"""What was looked at -> Look: the form in which readiness tells it."""

from typing import Literal

from msgspec import Struct

State = Literal["ok", "degraded", "failed"]


class ReadinessCheck(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    status: State
    detail: str
