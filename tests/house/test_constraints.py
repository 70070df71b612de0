"""constraints.txt has one exact version of everything pyproject.toml asks for, on every Python pgw supports."""

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")

PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))

PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
]


def _pins(environment: dict[str, str]) -> dict[str, list[str]]:
    """Give the versions that hold in an environment: more than one of a name contradict one another."""
    found: dict[str, list[str]] = {}
    for line in CONSTRAINTS.splitlines():
        text = line.partition("#")[0].strip()
        if text:
            pin = Requirement(text)
            (exact,) = pin.specifier
            assert (exact.operator, pin.extras, pin.url) == ("==", set(), None), line
            if pin.marker is None or pin.marker.evaluate(environment):
                found.setdefault(canonicalize_name(pin.name), []).append(exact.version)
    return found


def _required(environment: dict[str, str]) -> list[Requirement]:
    """Give what is asked for in an environment, by pgw, all its extras and its build."""
    asked = [*PROJECT["dependencies"], *chain.from_iterable(EXTRAS.values()), *PYPROJECT["build-system"]["requires"]]
    parsed = [each for each in map(Requirement, asked) if each.name != PROJECT["name"]]
    return [each for each in parsed if each.marker is None or each.marker.evaluate(environment)]


def _environment(python: str, platform: dict[str, str]) -> dict[str, str]:
    return {
        **platform,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
    }


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: "-".join(platform.values()))
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_to_a_version_it_allows(python: str, platform: dict[str, str]) -> None:
    """A requirement that was added or raised without `python3 scripts/lock.py` is named here."""
    environment = _environment(python, platform)
    pins = _pins(environment)
    wrong = [
        f"{each}: {pins.get(canonicalize_name(each.name), [])}"
        for each in _required(environment)
        if [each.specifier.contains(version) for version in pins.get(canonicalize_name(each.name), [])] != [True]
    ]
    assert wrong == []
    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}


def test_the_oldest_and_the_newest_python_are_among_those_checked() -> None:
    assert {PROJECT["requires-python"].removeprefix(">="), "3.14"} <= set(PYTHONS)


def test_the_file_names_the_command_that_writes_it_and_nothing_of_the_machine_that_ran_it() -> None:
    command = re.search(r"^#    python3 (\S+)$", CONSTRAINTS, re.MULTILINE)
    assert command is not None
    assert (ROOT / command[1]).is_file()
    assert re.findall(r"^-.*|\S*://\S*|\s/\S+", CONSTRAINTS, re.MULTILINE) == []
