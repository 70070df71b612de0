"""Every command there is keeps the same promises: help, examples that work, global options anywhere, two streams."""

import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pgw.cli import commands as home
from pgw.cli.app import COMMANDS
from pgw.cli.lazy import hoisted
from pgw.cli.views.live import follow
from tests.cli.conftest import Pgw
from tests.cli.stub import Stub
from tests.drill.cards import CARD


def _leaves() -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, entry in COMMANDS.items():
        command: Any = get_command(import_module(entry.module).app)
        if hasattr(command, "commands"):
            yield from (((name, each), leaf) for each, leaf in command.commands.items())
        else:
            yield (name,), command


LEAVES = dict(_leaves())


def _examples(path: tuple[str, ...]) -> list[list[str]]:
    """Return a command's examples as arguments, without variables before and pipes behind."""
    found = []
    for line in LEAVES[path].epilog.splitlines()[2:]:
        words = shlex.split(line.partition(" |")[0])
        found.append(words[words.index("pgw") + 1 :])
    return found


UNTIL_TOLD = {"serve", "sandbox", "worker"}
"""Commands that run until they are told to stop; here they return at once, and have nothing to show."""

A_KEY = ("5d0c4f9be2a1", "2026-01-31T10:00:00.000000Z")
"""Id of the key that examples name, and when it was made."""

FORETELLING = {("breaker", each) for each in ("open", "force-open", "close", "force-close", "clear")}
FORETELLS = re.compile(r"(  development │ .*\n( +│ .*\n)*)?")
"""What such a command says before it does what it was told."""

EXAMPLES = [example for path in LEAVES for example in _examples(path)]


@pytest.fixture
def _deps(stub: Stub, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every example find what it names: a server, a serve that returns at once, a ledger."""
    monkeypatch.setattr("pgw.server.run.serve", lambda *_, **__: None)
    monkeypatch.setattr("pgw.razorpay_simulator.run.serve", lambda *_, **__: None)
    monkeypatch.setattr("pgw.cli.commands.worker._shared", lambda _: None)
    monkeypatch.setattr("pgw.workers.run.count_metrics", lambda *_, **__: None)
    monkeypatch.setattr("pgw.workers.run.verify", lambda *_, **__: None)
    monkeypatch.setattr("pgw.drill.run.drill", lambda *_: CARD)
    monkeypatch.setattr("pgw.cli.views.live.follow", lambda live, output: follow(replace(live, frames=1), output))
    assert stub.answers
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("INSERT INTO merchant_keys VALUES (?, 'm_001', 1, '', ?, 'asha', NULL, NULL)", A_KEY)


by_path = pytest.mark.parametrize("path", LEAVES, ids=" ".join)
by_example = pytest.mark.parametrize("example", EXAMPLES, ids=shlex.join)


@by_path
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_has_an_example_of_this_command(pgw: Pgw, path: tuple[str, ...], flag: str) -> None:
    ended = pgw(*path, flag)
    assert (ended.code, ended.err) == (0, "")
    assert "Examples:" in ended.out
    assert _examples(path)
    assert all(tuple(each[: len(path)]) == path for each in _examples(path))


@by_example
@pytest.mark.usefixtures("_deps")
def test_an_example_works_as_typed(pgw: Pgw, example: list[str]) -> None:
    ended = pgw(*example)
    assert ended.code == 0
    assert FORETELLS.fullmatch(ended.err)
    assert (ended.err != "") == (tuple(example[:2]) in FORETELLING)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each == hoisted(each)], ids=shlex.join)
@pytest.mark.usefixtures("_deps")
@pytest.mark.parametrize("options", [["-o", "json"], ["--output=csv"], ["-q"], ["-omd"]], ids=shlex.join)
def test_global_options_mean_the_same_before_and_after(pgw: Pgw, example: list[str], options: list[str]) -> None:
    assert pgw(*options, *example) == pgw(*example, *options)


@pytest.mark.usefixtures("_deps")
@pytest.mark.parametrize("path", [path for path in LEAVES if path[0] not in UNTIL_TOLD], ids=" ".join)
def test_json_is_one_document(pgw: Pgw, path: tuple[str, ...]) -> None:
    assert isinstance(json.loads(pgw(*_examples(path)[0], "-o", "json").out), dict)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_the_command_says_of_itself(name: str) -> None:
    command = get_command(import_module(COMMANDS[name].module).app)
    assert COMMANDS[name].help == (command.help or "").partition("\n")[0]


@pytest.mark.parametrize("group", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_no_line_of_a_help_page_is_cut(pgw: Pgw, group: tuple[str, ...]) -> None:
    assert "..." not in pgw(*group, "--help").out.replace("[ARGS]...", "")


def test_the_top_level_help_lists_the_exit_codes_and_variables(pgw: Pgw) -> None:
    out = pgw("--help").out
    for word in ("Exit codes:", "130", "PGW_SERVER", "PGW_API_KEY", "PGW_HOME", "DATABASE_URL", *COMMANDS):
        assert word in out


@pytest.mark.parametrize(
    "arguments", [[], *([name] for name in ("breaker", "config", "gateway", "payment", "policy", "db"))], ids=str
)
def test_a_group_without_a_command_shows_its_help_as_words(pgw: Pgw, arguments: list[str]) -> None:
    ended = pgw(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Commands:" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("gatewya list", "'gatewya'. Did you mean 'gateway'?"),
        ("gateway lst", "Did you mean 'list'"),
        ("gateway list --foo", "--foo (see 'pgw gateway list --help')"),
        ("gateway show", "'GATEWAY' (see 'pgw gateway show --help')"),
        ("gateway set hdfc --priority high", "--priority"),
        ("gateway list -o xml", "table, json, jsonl, csv, md"),
        ("gateway set hdfc", "--priority 10"),
        ("policy set m_001", "--max-attempts 2"),
        ("serve --gateways hdfc,,", "--gateways hdfc,icici"),
        ("score --amount 1000", "--method"),
        ("breaker force-open razorpay", "'METHOD'"),
        ("breaker force-opne razorpay UPI", "Did you mean 'force-open'"),
        ("breaker open razorpay UPI --ttl 59s", "60s to 24h"),
        ("breaker open razorpay UPI --ttl 25h", "60s to 24h"),
        ("breaker close razorpay UPI --ttl 30", "such as 30m"),
        ("breaker clear razorpay UPI --ttl 30m", "--ttl"),
        ("pause --ttl soon", "60s to 24h"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_way_out(pgw: Pgw, arguments: str, told: str) -> None:
    ended = pgw(*arguments.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("error: ")
    assert told in ended.err


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("gateway list -o json", "-o json gateway list"),
        ("gateway list -q -ocsv", "-q -ocsv gateway list"),
        ("gateway -qo json list", "-qo json gateway list"),
        ("gateway list --output=md x", "--output=md gateway list x"),
        ("payment show -- -q", "payment show -- -q"),
        ("gateway list -o", "-o gateway list"),
        ("gateway set hdfc --priority -1", "gateway set hdfc --priority -1"),
    ],
)
def test_hoisting_moves_the_global_options_and_nothing_else(typed: str, expected: str) -> None:
    assert expected.split() == hoisted(typed.split())


HEAVY = ("rich", "httpx", "sanic", "sqlalchemy", "msgspec", "redis", "numpy", "pydantic", "tabulate", "asyncio", "http")

Modules = Callable[..., set[str]]


@pytest.fixture
def modules() -> Modules:
    """Return the modules a command has loaded when it ends."""

    def loaded(*arguments: str) -> set[str]:
        code = "import sys; from pgw.cli.app import run; code = run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
        ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert ended.stdout != ""
        return set(ended.stderr.split())

    return loaded


def test_help_loads_nothing_heavy(modules: Modules) -> None:
    loaded = modules("--help")
    assert set() == loaded.intersection(HEAVY)
    assert not any(name.startswith("pgw.cli.commands.") for name in loaded)


@pytest.mark.parametrize(
    "arguments",
    [
        "gateway list",
        "gateway disable hdfc -o json",
        "payment list --status SUCCESS",
        "breaker force-open razorpay UPI",
        "breaker open razorpay UPI --reason INC-4412 --ttl 30m -o json",
        "breaker clear razorpay UPI",
        "breaker status",
        "pause --reason INC-4412",
        "resume",
    ],
)
def test_a_hot_command_loads_nothing_heavy(modules: Modules, stub: Stub, arguments: str) -> None:
    """Pydantic is among it: should this fail after an upgrade of Typer, `pgw/cli/_typer.py` has lost its grip."""
    loaded = modules(*arguments.split())
    assert {"http"} == loaded.intersection(HEAVY)
    assert stub.asked


def test_every_module_of_commands_is_in_the_table() -> None:
    files = {f"{home.__name__}.{path.stem}" for path in Path(home.__path__[0]).glob("[!_]*.py")}
    assert files == {entry.module for entry in COMMANDS.values()}
