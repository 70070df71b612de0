"""Table of commands -> a Typer group that imports one of them only when it is asked for."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class Lazy(NamedTuple):
    """A command not imported yet: the module whose `app` it is, and its line in the help."""

    module: str
    help: str


class LazyGroup(TyperGroup):
    """A group whose `table` names its commands. Until one is called it is a placeholder, enough for help and typos."""

    table: ClassVar[Mapping[str, Lazy]] = {}

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, entry in self.table.items():
            self.commands[name] = TyperCommand(name, help=entry.help, rich_markup_mode=None)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept the global options anywhere."""
        return super().parse_args(ctx, hoisted(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Put the real command in its placeholder's place, then go on as usual."""
        entry = self.table.get(args[0])
        if entry is not None:
            self.commands[args[0]] = get_command(import_module(entry.module).app)
        return super().resolve_command(ctx, args)


GLOBAL_FLAGS = frozenset({"-q", "--quiet"})
GLOBAL_OPTIONS = frozenset({"-o", "-qo", "--output"})


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Move the global options to the front, so that they may stand before or after the subcommand."""
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            return [*front, *rest, word, *left]
        if word in GLOBAL_OPTIONS:
            front += [word, *left[:1]]
            del left[:1]
        elif word in GLOBAL_FLAGS or word.startswith("--output=") or (word[:2] == "-o" and word[2:].isalpha()):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


def group(text: str) -> typer.Typer:
    """Return an empty group of commands, or the frame of a single one, as every module of commands begins."""
    return typer.Typer(help=text, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def examples(*lines: str) -> str:
    """Return the end of a help page: commands as they are typed."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
