"""`NAME=VALUE` on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vm.errors import Source, VmError, fail
from vm.isa.parse import parse_expression
from vm.isa.static import Environment, NotStatic, evaluate

EXAMPLES = {
    "--set": "M=64", "--try": "STAGES=2,3,4", "--input": "A=file.npy", "--output": "C=file.npy",
}  # fmt: skip


def parse_assignment(text: str, option: str) -> tuple[str, str]:
    """The two sides of `NAME=VALUE`; raises `VmError` E0803."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not value:
        raise fail(
            "E0803", f"`{option} {text}` is not NAME=VALUE", None,
            fix=f"write {option} {EXAMPLES[option]}",
        )
    return name, value


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """The values of `--set NAME=VALUE`: numbers, truth values, dtypes and layouts."""
    values: dict[str, Any] = {}
    for text in texts:
        name, value = parse_assignment(text, "--set")
        expression = parse_expression(Source(f"--set {name}", value))
        try:
            values[name] = evaluate(expression, Environment())
        except VmError as error:
            if error.code != "E0201":
                raise
            raise fail(
                "E0803", f"`--set {text}` gives no value", None,
                notes=(f"{error.diagnostics[0].message}: settings know no names of the file",),
                fix="give a number, a truth value, a dtype or a layout",
            ) from None  # fmt: skip
        except NotStatic as error:
            raise fail(
                "E0803", f"`{error.name}` is an instruction, not a constant", error.origin,
                "in this value", fix="give a number, a dtype or a layout",
            ) from None  # fmt: skip
    return values
