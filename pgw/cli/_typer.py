"""Typer -> the same Typer that loads pydantic only for a value that needs converting: half of a short command's time.

The one place that touches Typer's internals. Where a later Typer has moved them nothing is changed, only slower; a test
says so aloud.
"""

from typing import Any

from typer import core

_BUILDER = "build_runtime_param"


class _Deferred:
    """Converts one parameter's value: text stays text and a default of the right type itself; the rest is Typer's."""

    def __init__(self, descriptor: Any, build: Any) -> None:
        self._descriptor = descriptor
        self._build = build

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        is_single = not param.multiple and param.nargs == 1
        is_ready = value is None or type(value) is self._descriptor.annotation
        if is_single and is_ready and self._descriptor.parameter_info.parser is None:
            return value
        return self._build(self._descriptor).coerce(value, param=param, ctx=ctx)


def defer_pydantic() -> None:
    """Make every parameter wait with pydantic until its value asks for it."""
    names = vars(core)
    build = names.get(_BUILDER)
    if build is not None and hasattr(core, "_TyperParameter"):
        names[_BUILDER] = lambda descriptor: _Deferred(descriptor, build)
