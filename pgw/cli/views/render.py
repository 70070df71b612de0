"""Screen, format -> text on stdout: never truncated outside a terminal, and nothing lost inside one."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from pgw.cli.views.messages import clean, readable, say
from pgw.cli.views.screen import Screen, text_of

NOTHING = "-"
"""An empty cell in a table for people; in CSV it stays empty."""

GAP = "  "

FOLDED = 16
"""Narrowest a sentence is folded to."""

COLOURS = {
    "SUCCESS": "green",
    "FAILURE": "red",
    "TIMEOUT": "yellow",
    "PENDING_VERIFICATION": "yellow",
    "REQUIRES_ACTION": "yellow",
    "MANUAL_REVIEW": "bold yellow",
    "✓": "green",
    "✕": "red",
    "◐": "yellow",
}
"""Words and signs that carry a colour on a terminal; the word says it all, the colour only repeats it."""


def write(screen: Screen, output: str) -> bool:
    """Write a screen to stdout in one of the formats; False when its reader has gone."""
    return put(_WRITERS[output](screen))


def put(text: str) -> bool:
    """Write data. A reader that went away (`| head`) has what it wanted: that is no error, and False."""
    try:
        if text:
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered has nowhere to go, and the interpreter would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def redraws() -> bool:
    """Whether stdout is a terminal on which what stands there can be written over."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _cells(screen: Screen) -> list[list[str]]:
    return [[clean(text_of(column.value(row))) or NOTHING for column in screen.columns] for row in screen.rows]


def _titles(screen: Screen) -> list[str]:
    return [column.title.replace("_", " ").upper() for column in screen.columns]


def _between(screen: Screen, table: str) -> str:
    return "\n".join(line for line in (*map(clean, screen.above), table, *map(clean, screen.below)) if line)


def _table(screen: Screen) -> str:
    if redraws():
        return on_terminal(screen)
    return readable(_between(screen, _aligned(screen) if screen.rows else ""), sys.stdout)


def _widths(screen: Screen) -> list[int]:
    return [max(map(len, column)) for column in zip(_titles(screen), *_cells(screen), strict=True)]


def _aligned(screen: Screen) -> str:
    shape = list(zip(_widths(screen), screen.columns, strict=True))
    lines = [_titles(screen), *_cells(screen)]
    return "\n".join(
        GAP.join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, (width, column) in zip(line, shape, strict=True)
        ).rstrip()
        for line in lines
    )


def on_terminal(screen: Screen, *, warns: bool = True) -> str:
    """Lay a screen out for the terminal's width; `warns`: say on stderr what had to be left out."""
    from rich.console import Console  # noqa: PLC0415  # a pipe does without
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, markup=False, emoji=False)
    shown = _fitting(screen, console.width, warns=warns)
    table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="bold")
    for title, column in zip(_titles(shown), shown.columns, strict=True):
        justify: Literal["right", "left"] = "right" if column.right else "left"
        table.add_column(title, justify=justify, no_wrap=not column.folds, overflow="fold")
    for cells in _cells(shown):
        table.add_row(*(Text(cell, style=COLOURS.get(cell) or COLOURS.get(cell[:1], "")) for cell in cells))
    with console.capture() as captured:
        for line in screen.above:
            console.print(Text(clean(line)))
        if screen.rows:
            console.print(table)
        for line in screen.below:
            console.print(Text(clean(line)))
    return readable(captured.get(), sys.stdout)


def _fitting(screen: Screen, width: int, *, warns: bool) -> Screen:
    """Leave out columns that a window is too narrow for, and say so; half an id would be worth nothing."""
    needed = {
        column.title: len(GAP) + (min(natural, FOLDED) if column.folds else natural)
        for natural, column in zip(_widths(screen), screen.columns, strict=True)
    }
    spare_first = sorted(screen.columns[:0:-1], key=lambda column: not column.spare)
    left_out: set[str] = set()
    for column in spare_first:
        if sum(needed.values()) - len(GAP) <= width:
            break
        left_out.add(column.title)
        del needed[column.title]
    if left_out and screen.rows and warns:
        missing = ", ".join(column.title for column in screen.columns if column.title in left_out)
        say(f"note: not in this window: {missing} (widen it, or -o json)")
    return replace(screen, columns=tuple(column for column in screen.columns if column.title not in left_out))


def _markdown(screen: Screen) -> str:
    from tabulate import tabulate  # noqa: PLC0415  # slow to load, seldom asked for

    cells = [[cell.replace("|", r"\|") for cell in cells] for cells in _cells(screen)]
    align = ["right" if column.right else "left" for column in screen.columns]
    table = tabulate(cells, _titles(screen), tablefmt="pipe", disable_numparse=True, colalign=align if cells else None)
    above, below = (
        "\n".join(f"- {' '.join(clean(line).split())}" for line in lines) for lines in (screen.above, screen.below)
    )
    return readable("\n\n".join(part for part in (above, table, below) if part), sys.stdout)


def _csv(screen: Screen) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.title for column in screen.columns)
    writer.writerows([text_of(column.value(row)) for column in screen.columns] for row in screen.rows)
    return text.getvalue()


def _json(screen: Screen) -> str:
    return json.dumps(screen.document, indent=2, ensure_ascii=False)


def _jsonl(screen: Screen) -> str:
    return "\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in _rows(screen.document))


def _rows(document: Any) -> list[Any]:
    is_list = isinstance(document, dict) and document.keys() == {"items", "next"}
    return list(document["items"]) if is_list else [document]


def _names(screen: Screen) -> str:
    return "\n".join(screen.names)


_WRITERS: dict[str, Callable[[Screen], str]] = {
    "table": _table,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "md": _markdown,
    "quiet": _names,
}
