"""The kinds of what is known before a program runs, as attributes and headers ask for them."""

from __future__ import annotations

from typing import Any

from vm.isa.dtypes import DType

KINDS: dict[str, tuple[Any, str, str]] = {
    "integer": (int, "a whole number", "a number such as 4"),
    "number": ((int, float), "a number", "a number such as 0.5"),
    "boolean": (bool, "true or false", "true or false"),
    "string": (str, "a string", 'a string such as "text"'),
    "dtype": (DType, "a dtype", "a dtype such as f16"),
    "shape": (tuple, "a list of whole numbers", "a list such as [64, 32]"),
    "extents": (tuple, "a list of extents", "a list such as [ceil_div(M, 64), 128]"),
    "table": (tuple, "a list of numbers", "a list such as [0.5, 1.0]"),
    "layout": (object, "a layout", "a layout such as spatial(8, 4)"),
}
"""Kind to the Python type of its values, its name, and how one is written."""


def is_kind(value: Any, kind: str) -> bool:
    """Whether a known value is of a kind; true and false are no numbers."""
    wanted = KINDS[kind][0]
    if kind == "layout":
        return not isinstance(value, (int, float, str, tuple, DType))
    if kind in ("shape", "extents", "table"):
        item = (int, float) if kind == "table" else int
        return isinstance(value, tuple) and all(
            isinstance(i, item) and not isinstance(i, bool) for i in value
        )
    return isinstance(value, wanted) and (kind == "boolean" or not isinstance(value, bool))
