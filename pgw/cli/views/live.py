"""A look, again and again -> redrawn in place on a terminal; elsewhere a block for each change, and nothing between."""

import select
import shutil
import sys
import time
from dataclasses import replace

from pgw.cli.exits import CommandError, Exit, RefusedError
from pgw.cli.transport.client import ApiClient, connect
from pgw.cli.views.durations import now
from pgw.cli.views.render import on_terminal, put, redraws, write
from pgw.cli.views.screen import Live, Screen

EVERY_S = 1.0

_HOME, _CLEAR, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


def follow(live: Live, output: str) -> int:
    """Refresh and show until stopped, or until no reader is left; return the exit code of the last refresh."""
    in_place = output == "table" and redraws()
    with connect() as api:
        shown = live.look(api)
        _draw(shown, first=True) if in_place else write(shown, output)
        looks = 1
        while looks != live.frames:
            time.sleep(EVERY_S)
            looks += 1
            fresh = _next(live, api, shown, patient=in_place)
            if in_place:
                _draw(fresh)
            elif not _write_changes(live, shown, fresh, output):
                break
            shown = fresh
    return shown.exit_code


def _next(live: Live, api: ApiClient, shown: Screen, *, patient: bool) -> Screen:
    """Look again; on a terminal a server that is gone for a while leaves its last state, marked as old."""
    try:
        return live.look(api)
    except RefusedError:
        raise
    except CommandError as silence:
        if not patient or silence.exit_code not in {Exit.ABSENT, Exit.PARTIAL}:
            raise
        return replace(shown, above=(f"! as it was; at {now():%H:%M:%S} UTC: {silence}",))


def _draw(screen: Screen, *, first: bool = False) -> None:
    lines = on_terminal(screen, warns=False).splitlines()
    room = shutil.get_terminal_size().lines - 2
    if len(lines) > room:
        rest = len(lines) - room + 1
        lines = [*lines[: room - 1], f"{rest} lines more than this window has"]
    body = "".join(f"{line}{_REST_OF_LINE}\n" for line in lines)
    put(f"{_CLEAR if first else ''}{_HOME}{body}{_REST}\n")


def _write_changes(live: Live, was: Screen, now_is: Screen, output: str) -> bool:
    """Write the rows that changed, if any did; False when no reader is left."""
    before = set(map(live.changed_by, was.rows))
    named = zip(now_is.rows, now_is.names, strict=True)
    changed = [(row, name) for row, name in named if live.changed_by(row) not in before]
    if not changed:
        return _is_read()
    rows = [row for row, _ in changed]
    block = replace(now_is, rows=rows, names=[name for _, name in changed], document={"items": rows, "next": None})
    return write(block, output)


def _is_read() -> bool:
    """Whether the other end of a pipe is still there: a wait such as `| grep -m1 open` ends with what it waited for."""
    try:
        pipe = sys.stdout.fileno()
    except OSError:
        return True
    poll = select.poll()
    poll.register(pipe, 0)
    return not poll.poll(0)
