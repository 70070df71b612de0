"""Names and prose use the field's terms, and the glossary defines each of them once."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "pgw").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

RETIRED_IN_NAMES = frozenset(
    """
    tell tells told untold nobody somebody person found seen shown moment moments world house word words fact facts
    case cases item items watch watches watched watching leave owned order orders ordered foretold foreseen turn turns
    sight lead leads looked look looks stands standing standings well sick wanted asked asks asking sign pulse mirror
    door doors pace paced rest resting silence silent hop hops deed deeds crossing crossings trap traps trapped lies
    """.split()  # noqa: SIM905  # fifty words read better as text
)
RETIRED_NAMES = ("line_back", "passed_over", "gives_back", "give_back", "went_back", "goes_back", "told_of")

RETIRED_IN_PROSE = re.compile(
    r"\b(tell|tells|telling|told|untold|nobody|somebody|a person|person's|sick|moments?|doors?|pulses?|mirrors?"
    r"|mirrored|foretells?|foretold|deeds?|traps?|trapped|hops?|passed over|(lost|loses|lose) to (it|them)sel(f|ves)"
    r"|(lies|lie|lay|lain) in suspense|(goes|go|going|gone|went) back)\b",
    re.IGNORECASE,
)

MOST_ALLOWED = 15
ALLOWED_NAMES = {
    "order": "an order is an entity of Razorpay's API",
    "ChargeOrder": "the standard term for an instruction to charge",
}
"""Names, or words of names, that keep a retired word: each with its reason."""
ALLOWED_PROSE: dict[str, str] = {}
"""Texts that keep a retired word: each with its reason."""

RAZORPAY = ("gateways/razorpay", "razorpay_simulator/")


def _place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def _names(path: Path) -> Iterator[tuple[str, int]]:
    yield path.stem, 1
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno


def _words(name: str) -> set[str]:
    return {each.lower() for each in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _is_retired(name: str, path: Path) -> bool:
    if name in ALLOWED_NAMES:
        return False
    words = _words(name) & RETIRED_IN_NAMES
    if any(place in path.as_posix() for place in RAZORPAY):
        words -= {"order", "orders"}
    return bool(words) or any(each in name for each in RETIRED_NAMES)


def _prose(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the comments and texts of a module, or the lines of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from ((line, number) for number, line in enumerate(text.splitlines(), 1))
        return
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            yield from ((line, token.start[0] + number) for number, line in enumerate(token.string.splitlines()))


def test_no_name_of_a_module_type_or_function_keeps_a_retired_word() -> None:
    found = [
        f"{_place(path, line)} {name}" for path in MODULES for name, line in _names(path) if _is_retired(name, path)
    ]
    assert found == []


def test_no_docstring_comment_message_or_page_keeps_a_retired_word() -> None:
    found = [
        f"{_place(path, line)} {match[0]}"
        for path in [*MODULES, *PAGES]
        for text, line in _prose(path)
        for match in RETIRED_IN_PROSE.finditer(text)
        if not any(each in text for each in ALLOWED_PROSE)
    ]
    assert found == []


def test_the_exceptions_are_few_and_each_has_its_reason() -> None:
    allowed = {**ALLOWED_NAMES, **ALLOWED_PROSE}
    assert len(allowed) <= MOST_ALLOWED
    assert all(allowed.values())


def test_no_two_public_types_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(_place(path, node.lineno))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


TERMS = frozenset(
    """
    absent, action required, admission, API boundary, attempt, audit log, audit rows, authorised, back-off,
    background task, blame, breaker, call outcome, candidate, capture, clock offset, configuration log, context,
    dead letter, decision, decline, degraded, dependencies, double entry, duplicate capture, effects, enquiry, epoch,
    event, event pipeline, exposure, failover, failpoint, group commit, guard, half-open, health, heartbeat,
    idempotency key, incident, injection point, invariant, issuing bank, lapsed, late-capture monitor, lease,
    leased attempt, ledger, local and shared breaker, manual decision, manual review, metric windows, minor units,
    next gateway, not sent, operator command, outage, outbox, override, panic policy, permit, phase, plan, preview,
    probe, propensity, rate limiter, readiness, refresher, refund, relay, replay, retry budget, reversal, runtime,
    score, settlement list, shared store, size band, skipped, slow start, snapshot, step, stream, suspense,
    traffic shift, transfer, transition log, unknown, verdict, verification, violation, wrapper
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)


def test_the_glossary_defines_every_term_once_in_order() -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    defined = re.findall(r"^\| \*\*(.+?)\*\* \| .{20,} \|$", page, re.MULTILINE)
    assert sorted(TERMS) == sorted(defined)
    assert defined == sorted(defined, key=str.casefold)
