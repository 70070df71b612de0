"""A run at its end -> what is wrong with it, by the ledger, the gateways' book, and what clients were told."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pgw.core.errors import Code
from pgw.core.ledger.audit_reads import NO_ID, EventScan, last_position, payment_rows, payments_after, scan
from pgw.core.ledger.tables import attempts, transfers, watches
from pgw.core.money.audit_rows import PaymentRow, PaymentRows, SettlementLine, SettlementList
from pgw.core.money.invariants import check, same_key
from pgw.core.money.transfer import TransferKind
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.ports import Reference
from tests.doubles import NOON
from tests.fake_gateway import Stand
from tests.simulation.run import BUG
from tests.simulation.scene import GATEWAYS, Run

REFUSALS = {
    Code.LEDGER_UNAVAILABLE,
    Code.IDEMPOTENCY_KEY_IN_USE,
    Code.INTERNAL,
    Code.NO_GATEWAY_AVAILABLE,
}
"""What a client may be refused with in these runs."""


Named = tuple[str, int, str]
"""A payment, an attempt, and whether money came in or went back."""


def faults(run: Run) -> list[str]:
    """List what is wrong."""
    return [
        *run.wrong,
        *_of_invariants(run),
        *_of_answers(run),
        *_of_ends(run),
        *_of_money(run),
        *_of_books(run),
        *_of_leases(run),
    ]


def _cases(run: Run) -> Sequence[PaymentRows]:
    connection = run.store.memory.connection
    heard, position, last = EventScan(), 0, last_position(connection)
    while position < last:
        position = scan(connection, heard, position)
    return payment_rows(connection, payments_after(connection, NO_ID), heard.told)


def _of_invariants(run: Run) -> Iterator[str]:
    found = _cases(run)
    settlement = SettlementList([SettlementLine(**each) for each in run.book.statement()], GATEWAYS)
    for violation in (*same_key(found), *(each for case in found for each in check(case, settlement))):
        yield f"{violation.invariant} {violation.payment_id}: {violation.what}"
    known = {case.payment.payment_id for case in found}
    for payment_id in settlement.payment_ids:
        if payment_id not in known:
            yield f"I4 {payment_id}: a gateway moved money for a payment that there is not"


def _of_answers(run: Run) -> Iterator[str]:
    """One key is one payment; who was told of an end was told the truth, and it is still the truth."""
    stored = {case.payment.payment_id: case.payment for case in _cases(run)}
    by_key = {each.idempotency_key: each for each in stored.values()}
    for answer in run.answers:
        if answer.payment_id is None:
            if answer.word.startswith(BUG):
                yield f"{answer.key}: {answer.word}"
            if answer.word in set(Code) - REFUSALS and not _is_taken(run, by_key.get(answer.key), answer.word):
                yield f"{answer.key} was refused: {answer.word}"
            continue
        payment = by_key.get(answer.key)
        if payment is None or payment.payment_id != answer.payment_id:
            yield f"I6 {answer.key} was told of {answer.payment_id}, which is not its payment"
        elif Status(answer.word).is_final and payment.status != answer.word:
            yield f"I2/I3 {answer.key} was told {answer.word}, and is {payment.status}"


def _is_taken(run: Run, payment: PaymentRow | None, word: str) -> bool:
    """Whether the key belongs to its other request, which came through first."""
    return (
        word == Code.IDEMPOTENCY_KEY_REUSED
        and payment is not None
        and payment.amount_minor != run.asked[payment.idempotency_key].amount_minor
    )


def _of_ends(run: Run) -> Iterator[str]:
    """A week later everything has its end, or waits for a person who was called for a reason."""
    for key, rows in _by_payment(_rows(run, attempts)).items():
        for row in rows:
            if row["status"] == AttemptStatus.SENDING:
                yield f"{key}: attempt {row['attempt_number']} is still SENDING"
            if row["next_check_at"] is not None:
                yield f"{key}: attempt {row['attempt_number']} is still to be checked"
    for case in _cases(run):
        status = case.payment.status
        if not status.is_final and status is not Status.MANUAL_REVIEW:
            yield f"{case.payment.payment_id}: still {status}"
        if status is Status.MANUAL_REVIEW and not _is_for_person(run, case):
            yield f"{case.payment.payment_id}: MANUAL_REVIEW without need"
    yield from _of_watches(run)


def _of_watches(run: Run) -> Iterator[str]:
    for row in _rows(run, watches):
        key = row["payment_id"]
        if row["state"] in {"WATCHING", "REVERSING"}:
            yield f"{key}: attempt {row['attempt_number']} is still {row['state']}"
        if row["state"] == "MANUAL_REVIEW" and key not in run.book.forbidden and not _is_open(run, row):
            yield f"{key}: the watch of attempt {row['attempt_number']} is MANUAL_REVIEW without need"


def _is_open(run: Run, watch: Mapping[str, Any]) -> bool:
    """Whether a watched attempt never came to an end at its gateway."""
    charges = run.book.of(watch["gateway_id"], Reference(watch["payment_id"], watch["attempt_number"]))
    return any(each.stand(run.book.now()) in {Stand.CREATED, Stand.AUTHORIZED} for each in charges)


def _is_for_person(run: Run, case: PaymentRows) -> bool:
    """Whether a machine could not have told: other money than asked for, or a gateway that never came to an end."""
    now = run.book.now()
    for charge in run.book.charges:
        if charge.reference.payment_id != case.payment.payment_id:
            continue
        is_other = (charge.amount_minor, charge.currency) != (case.payment.amount_minor, case.payment.currency)
        stand = charge.stand(now)
        if is_other or stand is None or stand.name in {"CREATED", "AUTHORIZED", "FAILED"}:
            return True
    return False


def _of_money(run: Run) -> Iterator[str]:
    """Without asking the ledger's books: over all gateways nobody paid twice, and no refused payment kept money."""
    now = run.book.now()
    nets: dict[str, list[int]] = {}
    for charge in run.book.charges:
        nets.setdefault(charge.reference.payment_id, []).append(charge.net(now))
    for case in _cases(run):
        payment = case.payment
        if payment.status is Status.MANUAL_REVIEW or payment.payment_id in run.book.forbidden:
            continue
        kept = [net for net in nets.get(payment.payment_id, ()) if net != 0]
        said = [each.amount_minor for each in case.transfers if each.kind == "resolution"]
        wanted = (said or [payment.amount_minor]) if payment.status is Status.SUCCESS else []
        if payment.status.is_final and kept != wanted:
            yield f"{payment.payment_id} is {payment.status}: the gateways keep {kept}, and should keep {wanted}"


def _of_books(run: Run) -> Iterator[str]:
    """What is booked of an attempt is what its gateway took, once, and what it gave back."""
    now = run.book.now()
    took: Counter[Named] = Counter()
    for charge in run.book.charges:
        payment_id, number = charge.reference.payment_id, charge.reference.attempt_number
        took[payment_id, number, "in"] += charge.amount_minor if charge.stand(now) is Stand.CAPTURED else 0
        took[payment_id, number, "back"] += sum(amount for _, amount in charge.given_back.values())
    booked: Counter[Named] = Counter()
    for row in _rows(run, transfers):
        if row["kind"] != TransferKind.RESOLUTION:
            way = "back" if row["kind"] == TransferKind.REVERSAL else "in"
            booked[row["payment_id"], row["attempt_number"], way] += row["amount_minor"]
    for (payment_id, number, way), amount in booked.items():
        has = took[payment_id, number, way]
        if amount != has:
            yield f"I5 {payment_id}: of attempt {number} is booked {way} {amount}, and its gateway has {has}"


def _of_leases(run: Run) -> Iterator[str]:
    """Nobody sends after a verifier has taken over, as long as the processes agree on the time."""
    if run.weather.clock_jumps:
        return
    for charge in run.book.charges:
        named = (charge.reference.payment_id, charge.reference.attempt_number)
        taken_over = run.store.claimed.get(named)
        if taken_over is not None and charge.sent_at > NOON + timedelta(seconds=taken_over):
            yield f"{named[0]}: attempt {named[1]} was sent after a verifier had taken it over"


def _rows(run: Run, table: Any) -> list[dict[str, Any]]:
    return run.store.memory.rows(table)


def _by_payment(rows: list[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["payment_id"], []).append(row)
    return grouped
