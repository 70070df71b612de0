"""A payment, a manual decision -> the request, once production has confirmed; its effect -> a screen."""

import json
from dataclasses import dataclass
from typing import Any

from pgw.cli.consent import DEVELOPMENT, OperatorCommand, environment_of, reason_of
from pgw.cli.exits import CommandError, Exit
from pgw.cli.transport.client import ApiClient
from pgw.cli.views.messages import say
from pgw.cli.views.screen import Column, Row, Screen
from pgw.core.payment.currency import amount_text

OUTCOMES = ("SUCCESS", "FAILURE")


@dataclass(frozen=True, slots=True)
class ManualDecision:
    """What was typed. `name` is the payment as it was named, `evidence` a text or a JSON object."""

    name: str
    outcome: str
    reason: str
    evidence: str | None
    attempt: int | None
    yes: bool

    @property
    def command(self) -> OperatorCommand:
        """Write it as a command that production has to confirm."""
        options = (("--evidence", self.evidence), ("--attempt", self.attempt))
        return OperatorCommand(
            command=(
                *("pgw", "payment", "resolve", self.name, "--as", self.outcome.lower()),
                *(part for name, value in options if value is not None for part in (name, str(value))),
            ),
            question=f"Book it as {self.outcome}, for good?",
            reason=self.reason,
            yes=self.yes,
        )

    def body(self, reason: str) -> dict[str, Any]:
        """Write the document that is sent; what is not given is left out."""
        asked = {
            "as": self.outcome,
            "reason": reason,
            "evidence": _evidence(self.evidence),
            "attempt_number": self.attempt,
        }
        return {name: value for name, value in asked.items() if value is not None}


def manual_decision(
    name: str, outcome: str, reason: str, evidence: str | None, attempt: int | None, *, yes: bool
) -> ManualDecision:
    """Read what was typed; what the server would refuse is refused before anybody is asked."""
    said = outcome.upper()
    if said not in OUTCOMES:
        raise CommandError(Exit.USAGE, "--as must be success or failure")
    if attempt is not None and said != "FAILURE":
        raise CommandError(Exit.USAGE, "--attempt goes with --as failure: its payment has ended without its money")
    _evidence(evidence)
    return ManualDecision(name, said, reason, evidence, attempt, yes)


def _evidence(text: str | None) -> Any:
    """Read an object where the text begins like one."""
    if text is None or not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise CommandError(Exit.USAGE, "--evidence begins like a JSON object and is none") from None


def resolved(api: ApiClient, payment: Row, said: ManualDecision, columns: tuple[Column, ...]) -> Screen:
    """Send a word and show what it made of the payment."""
    command, reason = said.command, said.reason
    if not command.is_complete:
        environment = environment_of(api)
        if environment != DEVELOPMENT:
            say(_at_stake(payment, said, environment))
        reason = reason_of(command, environment) or reason
    path = f"/payments/{payment['payment_id']}/resolve"
    document = api.call("POST", path, body=said.body(reason)).document
    return Screen(
        document=document,
        columns=columns,
        rows=[document],
        names=(document["payment_id"],),
        above=(_reported(payment, document, said),),
    )


def _at_stake(payment: Row, said: ManualDecision, environment: str) -> str:
    amount = amount_text(payment["amount_minor"], payment["currency"])
    where = f"attempt {said.attempt} of payment" if said.attempt else "payment"
    why = f" ({payment['failure_code']})" if payment["failure_code"] else ""
    return (
        f"  {environment} │ {where} {payment['payment_id']}: {amount} of {payment['merchant_id']} "
        f"at {payment['gateway_used']}, {payment['status']}{why}"
    )


def _reported(payment: Row, document: Row, said: ManualDecision) -> str:
    name = f"payment {document['payment_id']}"
    if said.attempt is not None:
        return f"attempt {said.attempt} of {name} keeps no money: its review is closed"
    if payment["version"] == document["version"]:
        return f"{name} is {document['status']}: already so, nothing was changed"
    return f"{name} was {payment['status']} and is {document['status']}"
