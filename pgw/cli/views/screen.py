"""What a command found -> Screen: the server's document for programs, rows and sentences for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgw.cli.exits import Exit

if TYPE_CHECKING:
    from pgw.cli.transport.client import ApiClient

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; `title` is lower case, as a CSV header has it.

    In a narrow window a sentence `folds`, and what is `spare` is left out before anything else.
    """

    title: str
    value: Callable[[Row], object]
    right: bool = False
    folds: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What a command shows. Every output format is a reading of this one value; columns stand in order of weight."""

    document: Any
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    names: Sequence[str]
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    exit_code: Exit = Exit.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What a command watches: one look at it, and what of a row has to differ for the row to have changed.

    `frames` bounds the looks; None: until Ctrl-C.
    """

    look: Callable[["ApiClient"], Screen]
    changed_by: Callable[[Row], object]
    frames: int | None


def plain(
    title: str, key: str | None = None, *, right: bool = False, folds: bool = False, spare: bool = False
) -> Column:
    """Return the column that shows one member of a row as it is."""
    name = key or title
    return Column(title, lambda row: row.get(name), right, folds, spare)


def text_of(value: object) -> str:
    """Write one value for a cell; nothing is the empty text."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ",".join(map(text_of, value))
        case Mapping():
            return ",".join(f"{key}={text_of(each)}" for key, each in value.items())
        case _:
            return str(value)


def percent(rate: float) -> str:
    """Write a share or a rate."""
    return f"{100 * rate:.1f} %"


FIELD_COLUMNS = (plain("field"), plain("value", folds=True))


def fields_of(document: Row) -> list[Row]:
    """Return one row for each member of a document."""
    return [{"field": name, "value": value} for name, value in document.items()]


CHANGE_COLUMNS = (plain("field"), plain("was", folds=True), plain("is", folds=True))


def change(name: str, label: str, was: Row, now: Row, wanted: Row) -> Screen:
    """Show what a change did to the members it named; none different means that it was so already."""
    rows = [
        {"field": member, "was": was.get(member), "is": now.get(member)}
        for member in wanted
        if was.get(member) != now.get(member)
    ]
    text = label if rows else f"{label}: already so, nothing was changed"
    return Screen(document=now, columns=CHANGE_COLUMNS, rows=rows, names=(name,), above=(text,))
