"""Layout inference as a choice: a working layout for each instruction and each variable.

Anchors propose layouts (what the author wrote, views, products, wide memory accesses, reductions),
which spread along the relations of the instructions. Where the producer of a value and a user of it
choose different ones a relayout is needed; its cost and the cost of the choices themselves are
summed, and the least sum is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from vm.compiler import layout_costs
from vm.compiler.elimination import Costs, cheapest
from vm.compiler.layout_candidates import contiguous, default_layouts, wide_layouts
from vm.errors import Origin, fail
from vm.isa import control
from vm.isa.instruction import Instruction, Operand, Scope
from vm.isa.kernel import Kernel
from vm.isa.layout_constraints import SAME, Given, LayoutConstraint, Relation, Working
from vm.isa.matrix import Dot
from vm.isa.types import RegisterType, Tile, Value
from vm.layouts import DotLayout, LayoutError, RegisterLayout, local, replicated

# Candidates of one instruction or variable; the closest to the strongest anchors come first.
MOST_CANDIDATES = 8

GIVEN = "given"
Loops = tuple[Instruction, ...]


@dataclass(eq=False)
class Node:
    """An instruction, or a variable, whose working layout is to be chosen.

    `candidates` maps each working layout that was proposed to where it came from: another node and
    its candidate, or the reason why it stands for itself.
    """

    index: int
    instruction: Instruction
    variable: Value | None
    constraint: LayoutConstraint
    loops: tuple[Instruction, ...]
    candidates: dict[Working, tuple[Node, Working] | str] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """How often it is taken to run."""
        return layout_costs.loop_weight(len(self.loops))

    @property
    def scope(self) -> Scope:
        return self.instruction.scope

    @property
    def origin(self) -> Origin:
        return self.instruction.origin


@dataclass(eq=False)
class Link:
    """A value between who makes it and who uses it.

    `field` is the user's operand, None where it is assigned to a variable. A `loose` link costs as
    a relayout but needs none, because its user is one. `before` is the outermost loop around the
    user in which the variable stays the same; a relayout of it can stand before that loop.
    """

    producer: Node
    produced: Relation
    user: Node
    field: str | None
    used: Relation
    value: Value
    loose: bool = False
    before: Instruction | None = None

    @property
    def weight(self) -> int:
        """How often a relayout on this link runs: where the value is made, if it stays the same."""
        if self.producer.variable is None:
            return self.producer.weight
        if self.before is not None:
            return layout_costs.loop_weight(self.user.loops.index(self.before))
        return self.user.weight

    def layouts(self, producer: Working, user: Working) -> tuple[RegisterLayout, RegisterLayout]:
        """What the value has and what it should have."""
        return layout_of(self.produced, producer), layout_of(self.used, user)

    def cost(self, producer: Working, user: Working) -> int:
        """The cost of the relayout, 0 where none is needed."""
        have, want = self.layouts(producer, user)
        if have == want:
            return 0
        type_, warp = self.value.type, self.user.scope.warp_width
        return self.weight * layout_costs.relayout_cost(have, want, type_.dtype.bits, warp)


@lru_cache(maxsize=1024)
def layout_of(relation: Relation, working: Working) -> RegisterLayout:
    """`relation.of(working)`, remembered."""
    return relation.of(working)


@lru_cache(maxsize=1024)
def asked_by(relation: Relation, layout: RegisterLayout) -> Working | None:
    """The working layout that a value's layout asks for; None where there is none."""
    try:
        return relation.back(layout)
    except LayoutError:
        return None


@lru_cache(maxsize=1024)
def gives_all(relations: tuple[Relation, ...], working: Working) -> bool:
    """Whether every value has a layout when this is the working layout."""
    try:
        for relation in relations:
            relation.of(working)
    except LayoutError:
        return False
    return True


@dataclass(frozen=True)
class Solution:
    """What was chosen: a working layout for each node, and the total cost."""

    cost: float
    chosen: dict[Node, Working]


class LayoutProblem:
    """The nodes and links of a kernel, and the candidates of each node."""

    def __init__(self, kernel: Kernel):
        self.nodes: list[Node] = []
        self.links: list[Link] = []
        self.producers: dict[Value, tuple[Node, Relation]] = {}
        self.of_instruction: dict[Instruction, Node] = {}
        self._queue: deque[tuple[Node, Working]] = deque()
        self._assigned: dict[Value, set[Instruction]] = {}
        self._collect(kernel.body, ())
        self._connect()

    # --- collecting ---
    def _collect(self, statements: list[Instruction], loops: Loops) -> None:
        for instruction in statements:
            if isinstance(instruction, control.Declare):
                if isinstance(instruction.variable.type, RegisterType):
                    self._variable(instruction, loops)
            elif isinstance(instruction, control.Control):
                is_loop = isinstance(instruction, (control.For, control.While))
                for block in instruction.blocks():
                    self._collect(block, (*loops, instruction) if is_loop else loops)
            else:
                self._instruction(instruction, loops)

    def _variable(self, declaration: control.Declare, loops: Loops) -> None:
        variable = declaration.variable
        layout = variable.type.layout
        choices = () if layout is None else (layout,)
        if layout is not None and layout.threads != declaration.scope.threads:
            raise fail(
                "E0304", f"a layout over {layout.threads} threads in a group of "
                f"{declaration.scope.threads}", variable.origin, f"declared as {variable.type}",
                fix=f"give a layout over {declaration.scope.threads} threads",
            )  # fmt: skip
        constraint = LayoutConstraint(variable.type.shape, choices=choices)
        node = self._node(declaration, variable, constraint, loops)
        self.producers[variable] = node, SAME

    def _instruction(self, instruction: Instruction, loops: Loops) -> None:
        constraint = instruction.constrain()
        if constraint is None:
            constraint = _as_given(instruction)
            if constraint is None:
                return
        node = self._node(instruction, None, constraint, loops)
        self.of_instruction[instruction] = node
        for value in instruction.results:
            if value.mutable:
                self._assigned.setdefault(value, set()).update(loops)
            if value.mutable or not isinstance(value.type, RegisterType):
                continue
            relation = constraint.result or Given(value.type.layout)
            self.producers[value] = node, relation

    def _node(self, instruction, variable, constraint: LayoutConstraint, loops: Loops) -> Node:
        node = Node(len(self.nodes), instruction, variable, constraint, loops)
        self.nodes.append(node)
        return node

    def _connect(self) -> None:
        for node in self.nodes:
            if node.variable is not None:
                continue
            for name, value in register_operands(node.instruction):
                relation = node.constraint.operands.get(name)
                producer, produced = self.producers[value]
                self._link(producer, produced, node, name, relation or SAME, value,
                           loose=relation is None)  # fmt: skip
            for value in node.instruction.results:
                if value.mutable and isinstance(value.type, RegisterType):
                    variable, _ = self.producers[value]
                    relation = node.constraint.result or Given(value.type.layout)
                    self._link(node, relation, variable, None, SAME, value)

    def _link(self, producer, produced, user, name, used, value, loose=False) -> None:
        if producer.scope.threads != user.scope.threads:
            raise fail(
                "E0304", f"a tensor of {producer.scope.threads} threads in a group of "
                f"{user.scope.threads}",
                user.instruction.place(name) if name else user.origin, "used here",
                others=((producer.origin, f"made by {producer.scope.threads} threads"),),
                fix="store it to shared memory and load it in the group",
            )  # fmt: skip
        before = None
        if producer.variable is not None and name is not None:
            changed = self._assigned.get(value, set())
            inside = user.loops[len(producer.loops) :]
            before = next((loop for loop in inside if loop not in changed), None)
        link = Link(producer, produced, user, name, used, value, loose, before)
        self.links.append(link)
        producer.links.append(link)
        if user is not producer:
            user.links.append(link)

    # --- candidates ---
    def propose(self) -> None:
        """Gives every node its candidates."""
        products = [node for node in self.nodes if isinstance(node.instruction, Dot)]
        for node in self.nodes:
            if node not in products:
                self._seed(node, node.constraint.choices, node.constraint.reason)
        self._spread()
        for node in products:
            self._seed(node, node.constraint.choices, node.constraint.reason)
        self._spread()
        # What is good for one access of a shape is a candidate for the others, so that tensors of
        # one shape can agree.
        wide: dict[tuple[tuple[int, ...], Scope], dict[RegisterLayout, str]] = {}
        for node in self.nodes:
            for layout, reason in wide_layouts(node.instruction, node.constraint):
                self._seed(node, (layout,), reason)
                wide.setdefault((node.constraint.shape, node.scope), {}).setdefault(layout, reason)
        for node in self.nodes:
            if node.constraint.accesses is not None or node.constraint.reduces is not None:
                for layout, reason in wide.get((node.constraint.shape, node.scope), {}).items():
                    self._seed(node, (layout,), reason)
        self._spread()
        for node in self.nodes:
            if not node.candidates:
                self._fall_back(node)
                self._spread()

    def _seed(self, node: Node, workings: tuple[Working, ...], reason: str) -> None:
        for working in workings:
            self._offer(node, working, reason)

    def _offer(self, node: Node, working: Working, why: tuple[Node, Working] | str) -> None:
        if working in node.candidates or len(node.candidates) >= MOST_CANDIDATES:
            return
        constraint = node.constraint
        if constraint.choices:
            possible = working in constraint.choices
        else:
            possible = working.threads == node.scope.threads and gives_all(
                tuple(constraint.relations()), working
            )
        if not possible:
            return
        node.candidates[working] = why
        self._queue.append((node, working))

    def _spread(self) -> None:
        """Offers each new candidate to the neighbours that it determines."""
        while self._queue:
            node, working = self._queue.popleft()
            for link in node.links:
                if link.producer is node and link.used.exact:
                    layout = layout_of(link.produced, working)
                    self._pass_on(link.user, asked_by(link.used, layout), node, working)
                if link.user is node and link.produced.exact:
                    layout = layout_of(link.used, working)
                    self._pass_on(link.producer, asked_by(link.produced, layout), node, working)

    def _pass_on(self, to: Node, asked: Working | None, node: Node, working: Working) -> None:
        if asked is not None:
            self._offer(to, asked, (node, working))

    def _fall_back(self, node: Node) -> None:
        """Candidates of a node that no anchor reached: what its neighbours suggest, and defaults.

        The last default, every thread holding everything in order, is possible always.
        """
        for link in node.links:
            for other, here, there in (
                (link.producer, link.used, link.produced),
                (link.user, link.produced, link.used),
            ):
                if other is node:
                    continue
                for working in list(other.candidates):
                    asked = asked_by(here, layout_of(there, working))
                    if asked is not None:
                        self._offer(node, asked, (other, working))
        shape, threads = node.constraint.shape, node.scope.threads
        for layout in default_layouts(shape, threads):
            self._offer(node, layout, "nothing else decides: the default")
        if not node.candidates:
            self._offer(node, replicated(threads) * local(*shape), "no other layout fits")

    # --- choosing ---
    def solve(self, relayouts: bool = True) -> Solution:
        """The cheapest choice; its cost is infinite where relayouts are needed but forbidden."""
        choices = [list(node.candidates) for node in self.nodes]
        costs = Costs([len(each) for each in choices])
        for node, workings in zip(self.nodes, choices, strict=True):
            own = [node.weight * node_cost(node, working) for working in workings]
            costs.add((node.index,), np.array(own, np.float64))
        for link in self.links:
            if link.user is link.producer:
                continue
            table = np.array(
                [
                    [self._link_cost(link, a, b, relayouts) for b in choices[link.user.index]]
                    for a in choices[link.producer.index]
                ],
                np.float64,
            )
            if table.any():
                costs.add((link.producer.index, link.user.index), table)
        total, best = cheapest(costs)
        return Solution(
            total, {node: choices[node.index][best[node.index]] for node in self.nodes}
        )

    def _link_cost(self, link: Link, a: Working, b: Working, relayouts: bool) -> float:
        cost = link.cost(a, b)
        return float("inf") if cost and not relayouts and not link.loose else cost


def register_operands(instruction: Instruction) -> Iterator[tuple[str, Value]]:
    """The operands that are register tensors, with their fields."""
    for name, item in instruction.fields.items():
        if isinstance(item, Operand) and not item.repeated:
            value = getattr(instruction, name)
            if isinstance(value, Value) and isinstance(value.type, RegisterType):
                yield name, value


def _as_given(instruction: Instruction) -> LayoutConstraint | None:
    """The constraint of an instruction that requires and gives all layouts itself."""
    operands = {
        name: Given(value.type.layout)
        for name, value in register_operands(instruction)
        if value.type.layout is not None
    }
    results = any(isinstance(value.type, RegisterType) for value in instruction.results)
    if not operands and not results:
        return None
    return LayoutConstraint((), operands, None, (GIVEN,), "the instruction gives its layouts")


def node_cost(node: Node, working: Working) -> int:
    """What one run of an instruction costs with a working layout."""
    constraint, warp = node.constraint, node.scope.warp_width
    if isinstance(working, DotLayout):
        return layout_costs.dot_cost(working.c, node.instruction.a.type.shape[1])
    if working == GIVEN or node.variable is not None:
        return 0
    if constraint.reduces is not None:
        return layout_costs.reduce_cost(working, constraint.reduces, warp)
    if constraint.accesses is None:
        return layout_costs.compute_cost(working)
    tile: Tile = getattr(node.instruction, constraint.accesses)
    layout = working if contiguous(tile) else working.unsqueeze(working.rank)
    if tile.base.type.space == "shared":
        return layout_costs.shared_cost(layout, tile.dtype.bits)
    return layout_costs.global_cost(layout, tile.dtype.bits, warp)
