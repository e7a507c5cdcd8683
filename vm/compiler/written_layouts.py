"""Inferred layouts written into the source that they were inferred for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import count
from typing import Any

from vm.compiler.layouts import has_all_layouts, infer_layouts, solve
from vm.errors import InternalError, Origin
from vm.isa import control, syntax
from vm.isa.instruction import INSTRUCTIONS, Instruction
from vm.isa.kernel import Kernel, static_syntax
from vm.isa.program import Module
from vm.isa.registers import Relayout
from vm.isa.types import RegisterType
from vm.layouts import RegisterLayout


def with_layouts(text: syntax.Text) -> syntax.Text:
    """The file with `layout=` in every call of an instruction that takes one, and in the type of
    every variable, and with the relayouts of values, as inference chooses them for the constants of
    the file. (With all layouts written nothing is left to infer: relayouts must be there, too.)

    What is written already stays, and so does a place that stands for several instructions with
    different layouts. Raises `VmError` for what is wrong with the programs.
    """
    module, items = Module(text), list(text.items)
    for position, item in enumerate(items):
        if isinstance(item, syntax.Definition) and item.kind == "program":
            kernel = module[item.name].instantiate()
            body = _moved(item, _moves(kernel))
            items[position] = replace(item, body=_written(body, _layouts(infer_layouts(kernel))))
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


@dataclass(frozen=True)
class _Move:
    """A value that inference moves to another layout for some of its users."""

    made: Origin
    name: str | None
    layout: RegisterLayout


def _moves(kernel: Kernel) -> dict[Origin, _Move | None]:
    """The relayout of the operand at a place, None where the place stands for several operands that
    are not all moved alike; relayouts of variables are left out."""
    if kernel.kind == "reference" or has_all_layouts(kernel):
        return {}
    problem, solution = solve(kernel)
    found: dict[Origin, _Move | None] = {}
    for link in problem.links:
        if not link.field or link.loose or link.producer.variable is not None:
            continue
        have, want = link.layouts(solution.chosen[link.producer], solution.chosen[link.user])
        move = _Move(link.producer.origin, link.value.name, want) if have != want else None
        place = link.user.instruction.place(link.field)
        found[place] = move if found.get(place, move) == move else None
    return {place: move for place, move in found.items() if move is not None}


def _moved(definition: syntax.Definition, moves: dict[Origin, _Move]) -> syntax.Block:
    """The body with relayouts: of a name behind the statement that binds it, else in place."""
    nodes = list(syntax.walk(definition))
    bound = {(n, b.value.origin) for b in nodes if isinstance(b, syntax.Bind) for n in b.names}
    taken = {n.text for n in nodes if isinstance(n, syntax.Name)} | {name for name, _ in bound}
    names: dict[_Move, str] = {}
    for move in moves.values():
        if (move.name, move.made) in bound and move not in names:
            numbered = (f"{move.name}_moved{n or ''}" for n in count())
            names[move] = next(name for name in numbered if name not in taken)
            taken.add(names[move])

    def relayout(node: syntax.Expression, move: _Move) -> syntax.Call:
        arguments = (node, static_syntax(move.layout))
        return syntax.Call(Relayout.opcode, arguments, (), node.origin)

    def binds(statement: Any) -> Iterator[syntax.Bind]:
        if isinstance(statement, syntax.Bind):
            for move, name in names.items():
                if move.name in statement.names and move.made == statement.value.origin:
                    value = relayout(syntax.Name(move.name, statement.origin), move)
                    yield syntax.Bind((name,), value, statement.origin)

    def changed(node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(changed(part) for part in node)
        if not is_dataclass(node) or isinstance(node, (Origin, syntax.Trivia)):
            return node
        move = moves.get(node.origin) if isinstance(node, syntax.Expression) else None
        made = replace(node, **{f.name: changed(getattr(node, f.name)) for f in fields(node)})
        if isinstance(made, syntax.Block):
            statements = (each for s in made.statements for each in (s, *binds(s)))
            return replace(made, statements=tuple(statements))
        if move is None:
            return made
        return syntax.Name(names[move], node.origin) if move in names else relayout(made, move)

    return changed(definition.body)


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
