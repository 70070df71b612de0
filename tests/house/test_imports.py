"""No module imports, by any way round, a module that imports it: late imports and those for types count too."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((ROOT / "pgw").rglob("*.py"))}


def _imported(path: Path) -> set[str]:
    """Name the modules of pgw that a module imports anywhere in it; a package is imported only as itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            members = {f"{node.module}.{each.name}" for each in node.names}
            found |= {each if each in MODULES else node.module for each in members}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: imports are absolute"
    return found & MODULES.keys()


def test_there_is_no_ring_of_imports() -> None:
    graph = {name: _imported(path) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > len(MODULES)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as fault:
        raise AssertionError(" -> ".join(fault.args[1])) from None
