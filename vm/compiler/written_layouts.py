"""Inferred layouts written into the source that they were inferred for."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from vm.compiler.layouts import infer_layouts
from vm.errors import InternalError, Origin
from vm.isa import control, syntax
from vm.isa.instruction import INSTRUCTIONS, Instruction
from vm.isa.kernel import Kernel, static_syntax
from vm.isa.program import Module
from vm.isa.types import RegisterType
from vm.layouts import RegisterLayout


def with_layouts(text: syntax.Text) -> syntax.Text:
    """The file with `layout=` in every call of an instruction that takes one, and in the type of
    every variable, as inference chooses them for the constants of the file.

    What is written already stays, and so does a place that stands for several instructions with
    different layouts. Raises `VmError` for what is wrong with the programs.
    """
    module, items = Module(text), list(text.items)
    for position, item in enumerate(items):
        if isinstance(item, syntax.Definition) and item.kind == "program":
            kernel = infer_layouts(module[item.name].instantiate())
            items[position] = replace(item, body=_written(item.body, _layouts(kernel)))
    result = replace(text, items=tuple(items))
    _check(module, Module(result))
    return result


def _layouts(kernel: Kernel) -> dict[tuple[Origin, str], RegisterLayout | None]:
    """(where, opcode) of every instruction that has a layout, None for several; `var` for the types
    of variables."""
    found: dict[tuple[Origin, str], RegisterLayout | None] = {}
    for instruction in control.walk(kernel.body):
        layout = _layout_of(instruction)
        if layout is not None:
            key = instruction.origin, instruction.opcode
            found[key] = layout if found.get(key, layout) == layout else None
    return found


def _layout_of(instruction: Instruction) -> RegisterLayout | None:
    if isinstance(instruction, control.Declare):
        type_ = instruction.variable.type
        return type_.layout if isinstance(type_, RegisterType) else None
    layout = getattr(instruction, "layout", None) if "layout" in instruction.fields else None
    return layout if isinstance(layout, RegisterLayout) else None


def _written(node: Any, layouts: dict[tuple[Origin, str], RegisterLayout | None]) -> Any:
    """The tree with layouts in its calls and declarations."""
    if isinstance(node, tuple):
        return tuple(_written(part, layouts) for part in node)
    if not is_dataclass(node) or isinstance(node, (Origin, syntax.Trivia)):
        return node
    changes = {field.name: _written(getattr(node, field.name), layouts) for field in fields(node)}
    made = replace(node, **changes)
    if isinstance(made, syntax.Call):
        return _call(made, layouts.get((made.origin, made.function)))
    if isinstance(made, syntax.Declare):
        return _declaration(made, layouts.get((made.origin, control.Declare.opcode)))
    return made


def _call(call: syntax.Call, layout: RegisterLayout | None) -> syntax.Call:
    if layout is None:
        return call
    position = list(INSTRUCTIONS[call.function].fields).index("layout")
    given = {keyword.name for keyword in call.keywords}
    if "layout" in given or len(call.arguments) > position:
        return call
    keyword = syntax.Keyword("layout", static_syntax(layout))
    return replace(call, keywords=(*call.keywords, keyword))


def _declaration(declaration: syntax.Declare, layout: RegisterLayout | None) -> syntax.Declare:
    """`register(f32)[M, N]` with the layout behind the dtype."""
    type_ = declaration.type
    plain = (
        isinstance(type_, syntax.Subscript)
        and isinstance(type_.base, syntax.Call)
        and type_.base.function == "register"
        and not type_.base.keywords
        and len(type_.base.arguments) == 1
    )
    if layout is None or not plain:
        return declaration
    keyword = syntax.Keyword("layout", static_syntax(layout))
    return replace(declaration, type=replace(type_, base=replace(type_.base, keywords=(keyword,))))


def _check(before: Module, after: Module) -> None:
    """What was written must change nothing."""
    for name, program in before.programs.items():
        if program.definition.kind != "program":
            continue
        if infer_layouts(program.instantiate()) != infer_layouts(after[name].instantiate()):
            raise InternalError(f"writing layouts into `{name}` would change what it says")
