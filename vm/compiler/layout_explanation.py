"""Why each register tensor has the layout it has, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vm.compiler.layout_costs import relayout_kind
from vm.compiler.layout_problem import LayoutProblem, Link, Node, Solution, layout_of
from vm.compiler.layouts import chain, has_all_layouts, solve, working_layout
from vm.errors import Origin
from vm.isa.kernel import Kernel
from vm.isa.types import RegisterType, Value
from vm.layouts import RegisterLayout


@dataclass(frozen=True)
class Moved:
    """A relayout of a value: to which layout, for whom, how, and at what cost.

    `means` is "renaming" (the same slots under other numbers), "select" (other slots in each
    thread), "shuffles" (within warps) or "shared" (through shared memory); `bytes_moved` are those
    that leave their thread, of all threads together.
    """

    layout: RegisterLayout
    user: Origin
    means: str
    bytes_moved: int


@dataclass(frozen=True)
class Explained:
    """The layout of one value: who forced it, and the 32-bit registers of each thread for it."""

    name: str
    origin: Origin
    type: RegisterType
    because: str
    registers: int
    moved: tuple[Moved, ...]

    def __str__(self) -> str:
        dtype, shape = self.type.dtype.name, list(self.type.shape)
        lines = [
            f"{self.origin.line}:{self.origin.column} {self.name}: {dtype}{shape}, "
            f"{self.registers} registers",
            f"    {self.type.layout}",
            f"    because of {self.because}",
        ]
        lines += [
            f"    moved for {each.user.line}:{each.user.column} to {each.layout} "
            f"({each.means}, {each.bytes_moved} bytes)"
            for each in self.moved
        ]
        return "\n".join(lines)


def explain_layouts(kernel: Kernel) -> tuple[Explained, ...]:
    """What `infer_layouts` chooses and why, for every register tensor in the order of the text.

    A kernel that has its layouts already is explained by what is written in it. Errors as
    `infer_layouts`.
    """
    if kernel.kind == "reference":
        return ()
    problem, solution = _written(kernel) if has_all_layouts(kernel) else solve(kernel)
    return tuple(
        _explained(value, node, problem, solution) for value, node in _values(problem)
    )


def _written(kernel: Kernel) -> tuple[LayoutProblem, Solution]:
    """The solution that a kernel with all its layouts is."""
    problem = LayoutProblem(kernel)
    problem.propose()
    chosen = {}
    for node in problem.nodes:
        if node.variable is not None:
            working = node.variable.type.layout
        else:
            working = working_layout(node.instruction)
        node.candidates.setdefault(working, "the layouts of its operands")
        chosen[node] = working
    return problem, Solution(0.0, chosen)


def _values(problem: LayoutProblem) -> Iterator[tuple[Value, Node]]:
    for node in problem.nodes:
        if node.variable is not None:
            yield node.variable, node
            continue
        for value in node.instruction.results:
            if isinstance(value.type, RegisterType) and not value.mutable:
                yield value, node


def _explained(
    value: Value, node: Node, problem: LayoutProblem, solution: Solution
) -> Explained:
    working = solution.chosen[node]
    _, relation = problem.producers[value]
    type_ = RegisterType(value.type.dtype, value.type.shape, layout_of(relation, working))
    moved: dict[RegisterLayout, Moved] = {}
    for link in problem.links:
        if link.value is value and link.producer is node:
            each = _moved(link, solution)
            if each is not None:
                moved.setdefault(each.layout, each)
    return Explained(
        value.name or node.instruction.opcode, value.origin, type_, chain(node, working),
        registers_of(type_), tuple(moved.values()),
    )  # fmt: skip


def _moved(link: Link, solution: Solution) -> Moved | None:
    user = link.user
    have, want = link.layouts(solution.chosen[link.producer], solution.chosen[user])
    if have == want:
        return None
    means, elements = relayout_kind(have, want, user.scope.warp_width)
    bits = link.value.type.dtype.bits
    place = user.instruction.place(link.field) if link.field else user.origin
    return Moved(want, place, means, -(-elements * bits // 8))


def registers_of(type_: RegisterType) -> int:
    """The 32-bit registers of each thread that hold a tensor, packed without gaps."""
    return -(-type_.layout.slots * type_.dtype.bits // 32)
