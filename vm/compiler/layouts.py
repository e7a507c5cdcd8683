"""Layout inference: after it every register tensor has a layout, and every instruction gets its
operands in the layouts that it asks for.

What the author wrote is kept. What is chosen is written into the program, as `layout` attributes,
as types of variables and as `relayout` instructions, so that the printed text says all of it.
"""

from __future__ import annotations

import copy as shallow
from typing import Any

from vm.compiler.layout_problem import (
    GIVEN,
    LayoutProblem,
    Link,
    Node,
    Solution,
    layout_of,
    register_operands,
)
from vm.compiler.rewrite import Rewriter
from vm.errors import InternalError, Origin, VmError, fail
from vm.isa import control
from vm.isa.instruction import Instruction, Operand, shape_of
from vm.isa.kernel import Kernel
from vm.isa.layout_constraints import Broadcasts, Working
from vm.isa.registers import Broadcast, Relayout
from vm.isa.types import RegisterType, Type, Value
from vm.layouts import LayoutError, RegisterLayout, difference


def infer_layouts(kernel: Kernel, *, relayouts: bool = True) -> Kernel:
    """The kernel with a layout for every register tensor; a kernel that has them all is returned as
    it is, and so is a reference, which has no threads.

    Raises E0313 where layouts meet that only a relayout could join and `relayouts` is false, E0304
    where a tensor is used by a group of other threads than those that hold it.
    """
    if kernel.kind == "reference" or has_all_layouts(kernel):
        return kernel
    problem, solution = solve(kernel, relayouts)
    return _LayoutWriter(kernel, problem, solution).run()


def solve(kernel: Kernel, relayouts: bool = True) -> tuple[LayoutProblem, Solution]:
    """The problem of a kernel and its cheapest solution; errors as `infer_layouts`."""
    problem = LayoutProblem(kernel)
    problem.propose()
    solution = problem.solve(relayouts)
    if solution.cost == float("inf"):
        raise _conflict(problem, problem.solve())
    return problem, solution


def has_all_layouts(kernel: Kernel) -> bool:
    """Whether every register tensor has a layout and every operand the one it should have."""
    for instruction in control.walk(kernel.body):
        values = [value for _, value in register_operands(instruction)]
        values += [v for v in instruction.results if isinstance(v.type, RegisterType)]
        if isinstance(instruction, control.Declare):
            values = [instruction.variable]
            values = [v for v in values if isinstance(v.type, RegisterType)]
        threads = instruction.scope.threads
        layouts = [value.type.layout for value in values]
        if any(layout is None or layout.threads != threads for layout in layouts):
            return False
        if working_layout(instruction) is None:
            return False
    return True


def working_layout(instruction: Instruction) -> Working | None:
    """The working layout that gives every operand and the result the layout it has; None where
    there is none. GIVEN for instructions that ask nothing."""
    constraint = instruction.constrain()
    if constraint is None:
        return GIVEN
    have = [
        (constraint.operands[name], value.type.layout)
        for name, value in register_operands(instruction)
        if name in constraint.operands
    ]
    if constraint.result is not None:
        have += [(constraint.result, value.type.layout) for value in instruction.results]
    proposed = constraint.choices
    if not proposed:
        proposed = tuple(relation.back(layout) for relation, layout in have if relation.exact)
    for working in proposed:
        try:
            if all(relation.of(working) == layout for relation, layout in have):
                return working
        except LayoutError:
            continue
    return None


def _conflict(problem: LayoutProblem, solution: Solution) -> VmError:
    """The error for the first place where the best solution would need a relayout."""
    for link in problem.links:
        if not link.loose and link.cost(solution.chosen[link.producer], solution.chosen[link.user]):
            return _two_layouts(link, solution)
    raise InternalError("layouts cannot be chosen, yet no two of them disagree")


def _two_layouts(link: Link, solution: Solution) -> VmError:
    producer, user = link.producer, link.user
    have, want = link.layouts(solution.chosen[producer], solution.chosen[user])
    place = user.instruction.place(link.field) if link.field else user.origin
    name = f"`{link.value.name}`" if link.value.name else "this tensor"
    return fail(
        "E0313", f"{name} has one layout and is needed in another, and relayouts are forbidden",
        place, f"needed as {want}", others=((producer.origin, f"made as {have}"),),
        notes=(
            f"first difference: {difference(have, want)}",
            f"made so because of {chain(producer, solution.chosen[producer])}",
            f"needed so because of {chain(user, solution.chosen[user])}",
        ),
        fix="write relayout(x, layout) where you want it, or give both sides one layout",
    )  # fmt: skip


def steps(node: Node, working: Working) -> list[tuple[Node, str | None]]:
    """The way from a node to the anchor that its layout came from; the last has the reason."""
    found: list[tuple[Node, str | None]] = []
    while True:
        why = node.candidates[working]
        if isinstance(why, str):
            return [*found, (node, why)]
        found.append((node, None))
        node, working = why


def chain(node: Node, working: Working) -> str:
    """That way in words."""
    way = steps(node, working)
    shown = " <- ".join(
        f"{name_of(each)} at {position(each.origin)}" for each, _ in way
    )
    return f"{shown} ({way[-1][1]})"


def name_of(node: Node) -> str:
    """An instruction by its opcode, a variable by its name."""
    return f"`{node.variable.name}`" if node.variable is not None else node.instruction.opcode


def position(origin: Origin) -> str:
    """line:column"""
    return f"{origin.line}:{origin.column}"


class _LayoutWriter(Rewriter):
    """Copies a kernel with the layouts of a solution."""

    def __init__(self, kernel: Kernel, problem: LayoutProblem, solution: Solution):
        super().__init__(kernel)
        self.problem = problem
        self.chosen = solution.chosen
        # Copies of values that stay the same, in the layouts that users ask for.
        self.versions: dict[tuple[Value, RegisterLayout], Value] = {}
        # What to make behind a value that stays the same, or before a loop in which it does.
        self.wanted: dict[Value | Instruction, dict[tuple[Value, RegisterLayout], None]] = {}
        for link in problem.links:
            have, want = link.layouts(self.chosen[link.producer], self.chosen[link.user])
            place = link.value if link.producer.variable is None else link.before
            if have != want and not link.loose and link.field and place is not None:
                self.wanted.setdefault(place, {})[link.value, want] = None

    def _make_versions(self, place: Value | Instruction) -> None:
        """Appends the relayouts that stand at a place."""
        for value, want in self.wanted.get(place, ()):
            self.versions[value, want] = self.emit(Relayout, x=self.values[value], layout=want)

    def result_type(self, value: Value) -> Type:
        if not isinstance(value.type, RegisterType):
            return value.type
        node, relation = self.problem.producers[value]
        layout = layout_of(relation, self.chosen[node])
        return RegisterType(value.type.dtype, value.type.shape, layout)

    def rewrite(self, instruction: Instruction) -> None:
        if isinstance(instruction, control.Control):
            self._make_versions(instruction)
            self.copy(instruction)
            for value, want in self.wanted.get(instruction, ()):
                del self.versions[value, want]
            return
        node = self.problem.of_instruction.get(instruction)
        made = shallow.copy(instruction)
        for name, item in instruction.fields.items():
            if isinstance(item, Operand):
                setattr(made, name, self._operand(node, name, getattr(instruction, name)))
        if node is None:
            made.results = tuple(self.define(value) for value in instruction.results)
            self.append(made)
            return
        self._write(node, instruction, made)

    def _operand(self, node: Node | None, name: str, operand: Any) -> Any:
        """The operand in the layout that the instruction asks for."""
        new = self.operand(operand)
        if node is None or not isinstance(operand, Value):
            return new
        relation = node.constraint.operands.get(name)
        if relation is None or not isinstance(operand.type, RegisterType):
            return new
        wanted = layout_of(relation, self.chosen[node])
        if new.type.layout == wanted:
            return new
        if (operand, wanted) in self.versions:
            return self.versions[operand, wanted]
        return self.emit(Relayout, x=new, layout=wanted)

    def _write(self, node: Node, instruction: Instruction, made: Instruction) -> None:
        """Appends an instruction with its layout written into it, and gives its results theirs."""
        working = self.chosen[node]
        layout = None
        if node.constraint.result is not None:
            layout = layout_of(node.constraint.result, working)
            if "layout" in made.fields:
                made.layout = layout
            else:
                self._show_layout(node, made)
        type_ = made.check()
        if layout is not None and type_.layout != layout:
            raise InternalError(f"{instruction.opcode} has {type_.layout}, chosen was {layout}")
        made.results = tuple(self._result(value, layout) for value in instruction.results)
        self.append(made)
        for value, result in zip(instruction.results, made.results, strict=True):
            if value.mutable and result is not self.values[value]:
                variable = self.values[value]
                self.emit(Relayout, into=variable, x=result, layout=variable.type.layout)
            self._make_versions(value)

    def _show_layout(self, node: Node, made: Instruction) -> None:
        """Makes one operand tell the layout of the result where all of them are broadcast."""
        relations = node.constraint.operands
        if not relations or not all(isinstance(r, Broadcasts) for r in relations.values()):
            return
        name = max(relations, key=lambda n: shape_of(getattr(made, n)))
        x = self.emit(Broadcast, x=getattr(made, name), shape=node.constraint.shape,
                      layout=self.chosen[node])  # fmt: skip
        setattr(made, name, x)

    def _result(self, value: Value, layout: RegisterLayout | None) -> Value:
        """The copy of a result: a variable only where it has the layout that is made."""
        if layout is None or not value.mutable or self.values[value].type.layout == layout:
            return self.define(value)
        return Value(None, RegisterType(value.type.dtype, value.type.shape, layout), self.origin)
