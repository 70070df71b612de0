"""One check of readiness -> its name, state and detail."""

from typing import Literal

from msgspec import Struct

State = Literal["ok", "degraded", "failed"]


class ReadinessCheck(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    status: State
    detail: str
