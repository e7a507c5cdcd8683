"""The arguments of a call, matched to the fields of its instruction."""

from __future__ import annotations

from typing import Any, Protocol

from vm.errors import Origin, fail
from vm.isa import syntax
from vm.isa.instruction import Attribute, Instruction, Operand, describe, instead, nearest, space_of
from vm.isa.types import MEMORY_SPACES, Tile, Value


class Resolver(Protocol):
    """Gives expressions their values."""

    def operand(self, node: syntax.Expression) -> Any: ...

    def static(self, node: syntax.Expression, kind: str, what: str) -> Any: ...


def signature(kind: type[Instruction]) -> str:
    """How a call is written: `cast(x, dtype, overflow="saturate")`."""
    parts = []
    for name, item in kind.fields.items():
        if isinstance(item, Operand):
            suffix = ", ..." if item.repeated else "=..." if item.optional else ""
            parts.append(name + suffix)
        elif item.required:
            parts.append(name)
        else:
            default = f'"{item.default}"' if isinstance(item.default, str) else item.default
            parts.append(f"{name}={default}")
    return f"{kind.opcode}({', '.join(parts)})"


def bind_arguments(
    kind: type[Instruction], call: syntax.Call, resolver: Resolver
) -> tuple[dict[str, Any], dict[str, Origin]]:
    """The value and the place of every field; raises E0209 where the call does not fit."""
    nodes = _match(kind, call)
    values: dict[str, Any] = {}
    places: dict[str, Origin] = {}
    # Operands first and in order: this is the order in which nested instructions run.
    for name, item in kind.fields.items():
        node = nodes.get(name)
        if isinstance(item, Operand):
            values[name] = _operand(kind, name, item, node, resolver)
        elif node is None:
            values[name] = item.default
        else:
            values[name] = _attribute(kind, name, item, node, resolver)
        if isinstance(node, tuple):
            node = node[0] if node else None
        if node is not None:
            places[name] = node.origin
    return values, places


def _match(kind: type[Instruction], call: syntax.Call) -> dict[str, Any]:
    names = list(kind.fields)
    repeated = next(
        (n for n, f in kind.fields.items() if isinstance(f, Operand) and f.repeated), None
    )
    nodes: dict[str, Any] = {}
    for position, argument in enumerate(call.arguments):
        if repeated is not None and position >= names.index(repeated):
            nodes[repeated] = (*nodes.get(repeated, ()), argument)
        elif position < len(names):
            nodes[names[position]] = argument
        else:
            raise fail(
                "E0209", f"`{kind.opcode}` takes at most {len(names)} arguments", argument.origin,
                "one too many", fix=f"write {signature(kind)}",
            )  # fmt: skip
    for keyword in call.keywords:
        if keyword.name not in kind.fields:
            raise fail(
                "E0209", f"`{kind.opcode}` has no argument `{keyword.name}`", keyword.origin,
                "unknown argument",
                fix=instead(keyword.name, names, f"write {signature(kind)}"),
            )  # fmt: skip
        if keyword.name in nodes:
            raise fail(
                "E0209", f"the argument `{keyword.name}` is given twice", keyword.origin,
                "again here", others=((_first(nodes[keyword.name]).origin, "first here"),),
                fix="remove one",
            )  # fmt: skip
        nodes[keyword.name] = keyword.value
    missing = [
        name
        for name, item in kind.fields.items()
        if name not in nodes
        and (item.required if isinstance(item, Attribute) else not item.optional)
        and name != repeated
    ]
    if missing:
        raise fail(
            "E0209", f"`{kind.opcode}` needs {' and '.join(missing)}", call.origin, "missing here",
            fix=f"write {signature(kind)}",
        )  # fmt: skip
    return nodes


def _first(node: Any) -> Any:
    return node[0] if isinstance(node, tuple) else node


def _operand(kind, name: str, item: Operand, node: Any, resolver: Resolver) -> Any:
    if node is None:
        return () if item.repeated else None
    if item.repeated:
        return tuple(_one_operand(kind, name, item, part, resolver) for part in node)
    return _one_operand(kind, name, item, node, resolver)


def _one_operand(kind, name: str, item: Operand, node, resolver: Resolver) -> Any:
    operand = resolver.operand(node)
    if isinstance(operand, tuple):
        raise fail(
            "E0209", "one value is needed here", node.origin, f"{len(operand)} values",
            fix="bind each to a name before: `a, b = ...`",
        )  # fmt: skip
    space = space_of(operand)
    if space not in item.spaces:
        memory = space in MEMORY_SPACES
        wants_memory = "global" in item.spaces or "shared" in item.spaces
        fix = f"use {' or '.join(item.spaces)} here"
        if memory and not wants_memory:
            fix = "load it first: load(...)"
        elif not memory and wants_memory:
            fix = "give a tensor in memory here"
        value = operand.base if isinstance(operand, Tile) else operand
        origin = value.origin if isinstance(value, Value) else None
        raise fail(
            "E0203", f"`{kind.opcode}` takes {_spaces(item)} as `{name}`, not {_article(space)}",
            node.origin, f"this is {describe(operand)}",
            others=((origin, "defined here"),) if origin else (), fix=fix,
        )  # fmt: skip
    return operand


def _spaces(item: Operand) -> str:
    named = {
        "scalar": "a scalar", "register": "a register tensor", "shared": "a shared tensor",
        "global": "a global tensor", "mbarrier": "an mbarrier", "semaphore": "a semaphore",
    }  # fmt: skip
    return " or ".join(named[space] for space in item.spaces)


def _article(space: str) -> str:
    return f"a {space} value" if space in ("scalar", "register") else f"{space} memory"


def _attribute(kind, name: str, item: Attribute, node, resolver: Resolver) -> Any:
    value = resolver.static(node, item.kind, f"`{name}` of `{kind.opcode}`")
    if item.choices and value not in item.choices:
        close = nearest(str(value), item.choices)
        raise fail(
            "E0209", f"`{name}` of `{kind.opcode}` cannot be {value}", node.origin, "here",
            fix=f"did you mean {close}?" if close else f"one of: {', '.join(item.choices)}",
        )  # fmt: skip
    return value
