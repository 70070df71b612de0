"""An order, the environment it would change -> the reason to go on with: production is asked first."""

import shlex
import sys
from dataclasses import dataclass

from pgw.cli.exits import CommandError, Exit
from pgw.cli.transport.client import ApiClient
from pgw.cli.views.messages import clean, masked, readable

DEVELOPMENT = "development"
"""The one environment where nothing is asked; a word this version does not know is taken for production."""

UNKNOWN = "a server of an unknown environment"

SOME_REASON = "<why>"
YES = frozenset({"y", "yes"})


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """What an operator typed. `command` is it in full without the options; `question` is what a terminal asks."""

    command: tuple[str, ...]
    question: str
    reason: str | None
    ttl: str | None = None
    yes: bool = False
    wants_reason: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask, wherever it is given."""
        return self.yes and bool(self.reason or not self.wants_reason)

    def in_full(self) -> str:
        """Write the command as it passes without a terminal."""
        words = list(self.command)
        if self.reason or self.wants_reason:
            words += ["--reason", self.reason or SOME_REASON]
        if self.ttl:
            words += ["--ttl", self.ttl]
        return shlex.join([*words, "--yes"])


def environment_of(api: ApiClient) -> str:
    """Return the answering server's environment; one that does not say is asked for confirmation like production."""
    return str(api.readiness().get("environment", UNKNOWN))


def reason_of(order: OperatorCommand, environment: str) -> str | None:
    """Return the reason to go on with, asked for where it is missing. Raises CommandError: nothing is to be done."""
    if environment == DEVELOPMENT or order.is_complete:
        return order.reason
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        wanted = "a reason and a yes" if order.wants_reason else "a yes"
        message = f"{environment} wants {wanted}, nothing was changed: run {order.in_full()}"
        raise CommandError(Exit.REFUSED, message)
    reason = order.reason
    if order.wants_reason and not reason:
        reason = _confirmed("Reason: ")
        if not reason:
            raise CommandError(Exit.REFUSED, f"{environment} wants a reason, nothing was changed")
    if not order.yes and _confirmed(f"{order.question} [y/N] ").lower() not in YES:
        raise CommandError(Exit.REFUSED, "not confirmed, nothing was changed")
    return reason


def _confirmed(question: str) -> str:
    sys.stderr.write(readable(clean(masked(question)), sys.stderr))
    sys.stderr.flush()
    return sys.stdin.readline().strip()
