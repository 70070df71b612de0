"""What the documents say of the code is true: the settings table, the dependencies, the change log."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from pgw.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _settings_table() -> list[tuple[str, ...]]:
    """Read the rows under the README's header `| ... | default | meaning |`."""
    rows: list[tuple[str, ...]] = []
    inside = False
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | ")) if line.startswith("|") else ()
        if [cell.lower() for cell in cells[1:]] == ["default", "meaning"]:
            inside = True
        elif not cells:
            inside = False
        elif inside and not set(line) <= set("|-: "):
            rows.append(cells)
    return rows


def _declared() -> set[str]:
    """Give the import names of the declared dependencies: each is its distribution's, with underscores."""
    return {re.split(r"[^\w-]", requirement)[0].replace("-", "_").lower() for requirement in PROJECT["dependencies"]}


def _imported() -> set[str]:
    """Give the packages pgw imports anywhere, those inside functions too, that come with neither Python nor pgw."""
    found: set[str] = set()
    for path in (ROOT / "pgw").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(each.name.partition(".")[0] for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"pgw"}


def test_the_readme_lists_exactly_the_settings_there_are() -> None:
    assert _settings_table() == [(f"`{each.name}`", each.default, each.meaning) for each in SETTINGS]


def test_every_dependency_is_used() -> None:
    assert _declared() - _imported() == set()


def test_everything_used_is_a_dependency() -> None:
    assert _imported() - _declared() == set()


def test_the_change_log_has_a_word_on_this_version() -> None:
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
