"""Every module keeps the house's limits, opens with its sentence, and has a name that says something."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "pgw/core"
MODULES = sorted((ROOT / "pgw").rglob("*.py"))
TOUCHES_THE_WORLD = {"flow", "ledger", "hot", "gateways"}
PURE = [
    path for path in MODULES if path.is_relative_to(CORE) and path.relative_to(CORE).parts[0] not in TOUCHES_THE_WORLD
]

MOST_LINES = 400
MOST_FUNCTION_LINES = 60

EMPTY_WORDS = frozenset({"common", "data", "handle", "helper", "info", "manager", "service", "util"})
"""Names that would fit any module, and so tell nothing of this one."""

PURE_IMPORTS = frozenset(
    {
        "abc",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "itertools",
        "math",
        "msgspec",
        "operator",
        "pgw",
        "random",
        "re",
        "statistics",
        "string",
        "typing",
        "unicodedata",
    }
)
"""All that a pure module of the core may import: nothing among it reads a clock, a file or a socket on import."""

IMPURE_CALLS = frozenset({"input", "now", "open", "print", "today", "utcnow"})
"""What reaches the world through an allowed import or a builtin: `datetime.now()`, `date.today()`, `open()`."""


def _place(path: Path, node: ast.AST | None = None) -> str:
    line = getattr(node, "lineno", None)
    return str(path.relative_to(ROOT)) + (f":{line}" if line else "")


def _nodes(paths: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def _imports(node: ast.AST) -> list[str]:
    """Name what an import statement brings in, `random.Random` for `from random import Random`."""
    match node:
        case ast.Import(names=names):
            return [each.name for each in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [f"{module}.{each.name}" for each in names]
        case _:
            return []


def test_there_are_modules_to_judge() -> None:
    assert len(PURE) > 30


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    long = {_place(path): lines for path in MODULES if (lines := len(path.read_bytes().splitlines())) > MOST_LINES}
    assert long == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        _place(path, node)
        for path, node in _nodes(MODULES)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert long == []


def test_every_module_opens_with_one_sentence() -> None:
    mute = []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        first_line = (ast.get_docstring(tree) or "").partition("\n")[0]
        if tree.body and not (first_line.endswith(".") and ". " not in first_line):
            mute.append(f"{_place(path)}: {first_line}")
    assert mute == []


def test_every_pure_module_says_what_comes_in_and_what_goes_out() -> None:
    """So `head -1 pgw/core/routing/*.py` reads as the story of a decision."""
    mute = [
        _place(path)
        for path in PURE
        if path.name != "__init__.py" and " -> " not in path.read_text(encoding="utf-8").partition("\n")[0]
    ]
    assert mute == []


def test_no_module_or_folder_has_a_name_that_fits_every_module() -> None:
    vague = [
        _place(path)
        for path in MODULES
        if any(part.removesuffix("s") in EMPTY_WORDS for part in path.relative_to(ROOT).with_suffix("").parts)
    ]
    assert vague == []


def test_a_pure_module_imports_nothing_that_touches_the_world() -> None:
    impure = [
        f"{_place(path, node)}: {name}"
        for path, node in _nodes(PURE)
        for name in _imports(node)
        if name.partition(".")[0] not in PURE_IMPORTS
    ]
    assert impure == []


def test_a_pure_module_asks_no_clock_file_or_terminal() -> None:
    """The moment is an argument, `now`."""
    impure = [
        _place(path, node)
        for path, node in _nodes(PURE)
        if isinstance(node, ast.Call)
        and (node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")) in IMPURE_CALLS
    ]
    assert impure == []


def test_a_pure_module_draws_only_from_a_seeded_generator() -> None:
    """`Random` is a type for an argument, or is made with a seed; the module's own functions share a hidden state."""
    unseeded = [
        f"{_place(path, node)}: {name}"
        for path, node in _nodes(PURE)
        for name in _imports(node)
        if name.partition(".")[0] == "random" and name != "random.Random"
    ]
    unseeded += [
        _place(path, node)
        for path, node in _nodes(PURE)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Random" and not node.args
    ]
    assert unseeded == []
