"""`pgw config` -> the routing configuration: weights, tables, breaker thresholds, panic policy."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from pgw.cli.dotted import TABLES, assigned, flat, steps_of, under
from pgw.cli.lazy import examples, group
from pgw.cli.transport.client import ApiClient, connect
from pgw.cli.views.messages import say
from pgw.cli.views.screen import CHANGE_COLUMNS, FIELD_COLUMNS, Row, Screen

app = group("See and change weights, tables, thresholds and policy of routing.")

PATH = "/scoring/config"


@app.command(epilog=examples("pgw config get", "pgw config get weights", "pgw config get breaker.min_calls -o json"))
def get(
    name: str | None = typer.Argument(None, metavar="NAME", help="One setting, or all under a name such as weights."),
) -> Screen:
    """Show the routing configuration.

    Method affinity and amount fit are 0.7 where no table says otherwise, the time term is 1.
    """
    with connect() as api:
        answer = api.call("GET", PATH)
    document = answer.document
    values = flat(document) if name is None else under(document, name)
    is_unset = not values or set(values.values()) == {None}
    return Screen(
        document=document if name is None else values,
        columns=FIELD_COLUMNS,
        rows=[{"field": each, "value": _text(value)} for each, value in values.items()],
        names=list(values),
        above=_version(answer.headers.get("etag")),
        below=("it is not set: its default holds",) if is_unset else (),
    )


@app.command(
    "set",
    epilog=examples(
        "pgw config set weights.success=0.4",
        "pgw config set panic=least_bad breaker.min_calls=30 --dry-run",
        "pgw config set method_affinity.hdfc.UPI=0.9",
        """pgw config set 'time.hdfc=[{"hours": [0, 1], "value": 0.5}]'""",
    ),
)
def set_members(
    assignments: list[str] = typer.Argument(
        metavar="NAME=VALUE...", help="Names as 'pgw config get' shows them; null takes an entry out of a table."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only show what would change."),
) -> Screen:
    """Change the routing configuration.

    The weights left out shrink or grow in proportion, so that all add up to 1. Every process follows within a second.
    Exit 5: it was changed by another operator meanwhile; nothing was changed.
    """
    with connect() as api:
        answer = api.call("GET", PATH)
        was = answer.document
        fresh = assigned(was, assignments)
        _note_strangers(api, [steps_of(was, each.partition("=")[0].strip()) for each in assignments])
        tag = answer.headers.get("etag")
        is_written = fresh != was and not dry_run
        if is_written:
            answer = api.call("PUT", PATH, body=fresh, headers={"If-Match": tag} if tag else None)
    return _changed(was, answer.document if is_written else fresh, answer.headers.get("etag"), dry_run=dry_run)


def _changed(was: Row, now: Row, tag: str | None, *, dry_run: bool) -> Screen:
    old, new = flat(was), flat(now)
    names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    text = "scoring configuration" if names else "scoring configuration: already so, nothing was changed"
    return Screen(
        document=now,
        columns=CHANGE_COLUMNS,
        rows=[{"field": name, "was": _text(old.get(name)), "is": _text(new.get(name))} for name in names],
        names=names,
        above=(text,),
        below=("dry run: nothing was changed",) if dry_run and names else _version(tag) if names else (),
    )


def _version(tag: str | None) -> tuple[str, ...]:
    return (f"version {tag.strip(chr(34))}",) if tag else ()


def _text(value: Any) -> str | None:
    """Write a value as it is typed: six digits of a rescaled weight are enough for people, -o json has all."""
    match value:
        case None | str():
            return value
        case float():
            return f"{value:.6g}"
        case _:
            return json.dumps(value)


def _note_strangers(api: ApiClient, named: Iterable[Sequence[str]]) -> None:
    """Say when a table names a gateway that is not there: it may come later, or be a typo."""
    wanted = {steps[1] for steps in named if steps[0] in TABLES and len(steps) > 1}
    if wanted:
        known = {each["gateway_id"] for each in api.get("/gateways")["items"]}
        for name in sorted(wanted - known):
            say(f"note: there is no gateway '{name}' yet")
