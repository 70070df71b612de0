"""Arguments -> exit code: the `pgw` executable, its global options, and the one place where an error becomes a line."""

import os
import sys
import traceback

import typer

from pgw.cli._typer import defer_pydantic
from pgw.cli.exits import MEANINGS, CommandError, Exit, exit_of
from pgw.cli.lazy import Lazy, LazyGroup
from pgw.cli.views.messages import say, say_error
from pgw.cli.views.screen import Live, Screen
from pgw.core.errors import PgwError
from pgw.settings import SETTINGS

COMMANDS = {
    "serve": Lazy("pgw.cli.commands.serve", "Take payments: the API, with its workers."),
    "db": Lazy("pgw.cli.commands.db", "Create, upgrade and look at the ledger's schema."),
    "breaker": Lazy("pgw.cli.commands.breaker", "See the breakers, and force one open or closed until a set time."),
    "pause": Lazy("pgw.cli.commands.pause", "Take no new payments until a set time."),
    "resume": Lazy("pgw.cli.commands.resume", "Take new payments again."),
    "gateway": Lazy("pgw.cli.commands.gateway", "See and change what each gateway takes."),
    "config": Lazy("pgw.cli.commands.config", "See and change weights, tables, thresholds and policy of routing."),
    "policy": Lazy("pgw.cli.commands.policy", "See and change how often a merchant's payments may be tried."),
    "key": Lazy("pgw.cli.commands.key", "Make, list and revoke the keys that merchants pay with."),
    "payment": Lazy("pgw.cli.commands.payment", "Find payments, follow one, ask why it was routed so."),
    "worker": Lazy("pgw.cli.commands.worker", "Run one worker: count outcomes, or verify attempts."),
    "outbox": Lazy("pgw.cli.commands.outbox", "See the ledger's events on their way, and send dead ones again."),
    "rebuild": Lazy("pgw.cli.commands.rebuild", "Count the last hour anew from the ledger, put back lost breakers."),
    "audit": Lazy("pgw.cli.commands.audit", "See who did what, and why; check that the money is right."),
    "doctor": Lazy("pgw.cli.commands.doctor", "Find what is wrong with this installation, and how to mend it."),
    "drill": Lazy("pgw.cli.commands.drill", "Rehearse a fault on a private copy, and see what it costs."),
    "sandbox": Lazy("pgw.cli.commands.sandbox", "Play Razorpay: its API, no money, faults on command."),
    "score": Lazy("pgw.cli.commands.score", "Show how the gateways rank for a payment, without making one."),
}
"""Every command. Adding one is a module with an `app`, and a line here."""


class Commands(LazyGroup):
    """The commands of `pgw`."""

    table = COMMANDS


FORMATS = ("table", "json", "jsonl", "csv", "md")


def _finish(found: Screen | Live | None, output: str, *, quiet: bool, **_: object) -> int:
    """Write what a command found, or follow what it watches; return its exit code."""
    if found is None:
        return Exit.DONE
    chosen = "quiet" if quiet else output
    if isinstance(found, Live):
        from pgw.cli.views.live import follow  # noqa: PLC0415  # help writes no data

        return follow(found, chosen)
    from pgw.cli.views.render import write  # noqa: PLC0415

    write(found, chosen)
    return found.exit_code


def _ending() -> str:
    """End of the top-level help: where commands go, and how they end."""
    shown = ("PGW_SERVER", "PGW_API_KEY", "PGW_HOME", "DATABASE_URL", "INTERNAL_API_KEY")
    variables = [f"  {each.name:<17} {each.meaning.split(',')[0]}" for each in SETTINGS if each.name in shown]
    exits = [f"  {code:<4} {meaning}" for code, meaning in MEANINGS.items()]
    parts = (
        ["\b", "Examples:", "  pgw serve", "  pgw payment why 01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90 -o json"],
        ["\b", "Environment:", *variables],
        ["\b", "Exit codes:", *exits],
    )
    return "\n\n".join("\n".join(part) for part in parts)


defer_pydantic()

app = typer.Typer(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    result_callback=_finish,
    epilog=_ending(),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)


def _known(output: str) -> str:
    if output not in FORMATS:
        raise typer.BadParameter(f"'{output}' is not one of {', '.join(FORMATS)}")
    return output


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # as heavy as all the rest

        try:
            typer.echo(f"pgw {version('pgw')}")
        except PackageNotFoundError:
            typer.echo("pgw, not installed")
        raise typer.Exit


@app.callback()
def _options(
    output: str = typer.Option(
        "table", "-o", "--output", metavar="|".join(FORMATS), callback=_known, help="How to write data."
    ),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Only ids or names."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Route payments: serve them, watch them, steer them.

    -o and -q may stand before or after the command. Data goes to stdout, words to stderr; NO_COLOR is honoured.
    """


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; whatever went wrong has become one line on stderr."""
    try:
        return int(app(arguments, prog_name="pgw", standalone_mode=False) or Exit.DONE)
    except typer.TyperException as error:
        return _wrong_usage(error)
    except CommandError as error:
        say_error(error.message)
        return error.exit_code
    except PgwError as error:
        say_error(error.detail)
        return exit_of(error.code)
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the outermost handler: operators see a line, developers the traceback
        return _unexpected(error)


def _wrong_usage(error: typer.TyperException) -> int:
    context, message = getattr(error, "ctx", None), error.format_message()
    if context is None:
        say_error(message)
    elif message == context.get_help():  # a group without a command: its help is the way out
        say(message)
    else:
        say_error(f"{message[:1].lower()}{message[1:].rstrip('.')} (see '{context.command_path} --help')")
    return error.exit_code


def _unexpected(error: Exception) -> int:
    debug = os.environ.get("PGW_LOG_LEVEL", "").lower() == "debug"
    if debug:
        say("".join(traceback.format_exception(error)))
    way_out = "" if debug else " (PGW_LOG_LEVEL=debug shows where)"
    say_error(f"unexpected {type(error).__name__}: {error}{way_out}")
    return Exit.UNEXPECTED


def main() -> None:
    """Run `pgw` with the arguments it was called with."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text files here
    sys.exit(run(sys.argv[1:]))
