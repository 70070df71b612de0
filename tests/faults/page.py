"""What tests saw -> `docs/faults.md`, section by section: `PGW_WRITE_DOCS=1` writes it, else it is compared.

Several tests may write at once: each takes the page's lock, and changes its own section or its own row.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
WRITES = "PGW_WRITE_DOCS"

MATRIX = "## The matrix"
SANDBOX = "## Each fault of the sandbox"

INTRODUCTION = """# Faults, and what becomes of a payment

Every table here is written by the tests it names, from what they saw, and each of them fails when the page says
something else: `PGW_WRITE_DOCS=1 pytest -m slow` writes it anew.
"""

MATRIX_HEAD = """Each fault ends with the invariants of `pgw audit money` kept. *Seen* is what the named test saw.

| # | fault | must be | seen | test |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Fault:
    """One row of the matrix: what goes wrong, what must come of it; `why_not`: why no test here can show it."""

    number: int
    what: str
    must: str
    why_not: str = ""


@dataclass(frozen=True, order=True)
class Sight:
    """What one test saw of one fault; `case` where a fault has several."""

    number: int
    case: str
    seen: str
    test: str

    def line(self, fault: Fault) -> str:
        """Write its line."""
        what = f"{fault.what}: {self.case}" if self.case else fault.what
        return f"| {self.number} | {what} | {fault.must} | {self.seen} | `{self.test}` |"


def is_written() -> bool:
    """Whether this run writes the page."""
    return bool(os.environ.get(WRITES))


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    return _sections(PAGE.read_text()).get(heading, "")


def tell_section(heading: str, text: str) -> None:
    """Write a section, when this run writes; in any case the page must say just this."""
    if is_written():
        with _held():
            _write(lambda sections: {**sections, heading: text})
    assert section(heading) == text


def tell_sight(faults: Sequence[Fault], sight: Sight) -> None:
    """Write one line of the matrix, when this run writes; in any case the page must say just this."""
    line = sight.line(faults[sight.number - 1])
    assert line.count("|") == MATRIX_HEAD.splitlines()[-1].count("|"), f"a bar would break the table: {line}"
    if is_written():
        with _held():
            kept = {(each.number, each.case): each for each in sights(faults)}
            kept[sight.number, sight.case] = sight
            _write(lambda sections: {**sections, MATRIX: matrix(faults, sorted(kept.values()))})
    assert line in section(MATRIX).splitlines(), f"docs/faults.md does not say what was seen: {line}"


def matrix(faults: Sequence[Fault], seen: Sequence[Sight]) -> str:
    """Write the matrix: the sights, and the faults that none can be had of."""
    lines = [(each.number, each.line(faults[each.number - 1])) for each in seen]
    lines += [
        (each.number, f"| {each.number} | {each.what} | {each.must} | not here: {each.why_not} | |")
        for each in faults
        if each.why_not
    ]
    return MATRIX_HEAD + "".join(f"{line}\n" for _, line in sorted(lines, key=lambda each: each[0]))


def sights(faults: Sequence[Fault]) -> Iterator[Sight]:
    """Read what the page says was seen."""
    for line in section(MATRIX).splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if len(cells) == len(MATRIX_HEAD.splitlines()[-1].strip("|").split("|")) and cells[0].isdecimal() and cells[4]:
            number = int(cells[0])
            case = cells[1].removeprefix(faults[number - 1].what).removeprefix(": ")
            yield Sight(number, case, cells[3], cells[4].strip("`"))


def _sections(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split("\n## ")[1:]:
        heading, _, below = part.partition("\n")
        found[f"## {heading}"] = below.strip("\n") + "\n"
    return found


def _write(change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
    sections = change(_sections(PAGE.read_text()))
    text = "".join(f"\n{heading}\n\n{sections[heading]}" for heading in (MATRIX, SANDBOX) if heading in sections)
    new = PAGE.with_suffix(".new")
    new.write_text(INTRODUCTION + text)
    # In one step: who only compares takes no lock.
    new.replace(PAGE)


@contextmanager
def _held() -> Iterator[None]:
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
