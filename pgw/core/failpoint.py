"""`charge:after:exit` -> a Failpoint: the crossing at which a process is to die or to stand still, for tests."""

import re
from dataclasses import dataclass
from enum import StrEnum

PHASES = (
    "open",
    "turn",
    "skip",
    "close",
    "claim",
    "record",
    "settle",
    "win",
    "claim_watch",
    "move_watch",
    "find_money",
    "give_back",
    "resolve",
    "close_review",
    "receive_webhook",
    "handle_webhook",
    "publish",
    "die",
    "requeue",
    "configure",
    "make_key",
    "revoke_key",
    "transition",
    "record_minute",
    "open_violation",
    "clear_violation",
)
"""Every kind of write to the ledger. Before: nothing is written; after: it is committed, and nobody has been told."""

CALLS = ("charge", "enquire", "capture", "reverse")
"""Every call of a gateway. Before: it has not been called; after: it has answered, and nobody has heard it."""

APPEND = "append"
"""Events onto the stream. After: they are on it, and the relay does not know."""

CROSSINGS = (*PHASES, *CALLS, APPEND)


class Moment(StrEnum):
    """On which side of a crossing."""

    BEFORE = "before"
    AFTER = "after"


class Deed(StrEnum):
    """What is done there: to die at once, cleaning up nothing, or to stand still until somebody says go on."""

    EXIT = "exit"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One deed, done once: when the crossing is crossed for the `nth` time in a process."""

    crossing: str
    moment: Moment
    deed: Deed
    nth: int = 1

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.crossing}:{self.moment}:{self.deed}" + (f":{self.nth}" if self.nth > 1 else "")


def parse(text: str) -> Failpoint:
    """Read a failpoint. Raises ValueError, whose words say how one is written and which crossings there are."""
    found = re.fullmatch(r"([a-z_]+):(before|after):(exit|stop)(?::([1-9][0-9]{0,5}))?", text)
    if found is None:
        raise ValueError(
            "must read CROSSING:before|after:exit|stop, such as charge:after:exit, with :2 behind it for the second "
            f"time it is crossed: there are {', '.join(CROSSINGS)}"
        )
    crossing, moment, deed, nth = found.groups()
    if crossing not in CROSSINGS:
        raise ValueError(f"names a crossing that does not exist: there are {', '.join(CROSSINGS)}")
    return Failpoint(crossing, Moment(moment), Deed(deed), int(nth or 1))
