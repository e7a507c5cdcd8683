"""Use of the target of an asynchronous copy that no wait has covered.

A forward data-flow over the structured program. The state holds the copies that are under way on
every path to a point; where paths meet, what is under way on only one of them is forgotten, so
that whatever is reported is wrong on all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vm.errors import Diagnostic, Label
from vm.isa import control
from vm.isa.asynchronous import CommitAsync, CopyAsync, WaitAsync
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.synchronization import Exit
from vm.isa.types import Immediate, SharedType, Tile, Value

# A copy with more commit groups behind it than this is forgotten: loops end there.
_MAXIMUM_GROUPS = 64


@dataclass(frozen=True)
class _UnderWay:
    """A copy; `later` counts the commit groups closed after its own, -1 while its own is open."""

    later: int


# None where no path comes.
_State = dict[CopyAsync, _UnderWay] | None


def check_copies(kernel: Kernel) -> Iterator[Diagnostic]:
    """E0407: the target of a copy is touched before it has been waited for."""
    flow = _Flow()
    flow.block(kernel.body, {})
    yield from flow.found.values()


class _Flow:
    def __init__(self) -> None:
        self.found: dict[tuple[Instruction, CopyAsync], Diagnostic] = {}
        self.breaks: list[_State] = []
        self.continues: list[_State] = []

    def block(self, statements: list[Instruction], state: _State) -> _State:
        """The state behind the statements."""
        for instruction in statements:
            if state is None:
                return None
            state = self.statement(instruction, state)
        return state

    def statement(self, instruction: Instruction, state: dict[CopyAsync, _UnderWay]) -> _State:
        match instruction:
            case control.If():
                return _meet(*(self.block(b, dict(state)) for b in instruction.blocks()))
            case control.For():
                return self.loop(instruction, state, may_skip=True)
            case control.While():
                return self.loop(instruction, state, may_skip=False)
            case control.Group():
                # Commit groups belong to the threads that run: a group begins with none.
                _Flow.block(self, instruction.body, {})
                return {}
            case control.Jump(kind="break"):
                self.breaks.append(state)
                return None
            case control.Jump():
                self.continues.append(state)
                return None
            case Exit() | control.Return():
                return None
        self.touch(instruction, state)
        match instruction:
            case CopyAsync():
                return {**state, instruction: _UnderWay(-1)}
            case CommitAsync():
                return {
                    copy: replace(under_way, later=under_way.later + 1)
                    for copy, under_way in state.items()
                    if under_way.later < _MAXIMUM_GROUPS
                }
            case WaitAsync():
                return {c: u for c, u in state.items() if u.later < instruction.pending}
        return state

    def loop(
        self, instruction: Instruction, state: dict[CopyAsync, _UnderWay], may_skip: bool
    ) -> _State:
        (body,) = instruction.blocks()
        inside = {result for each in control.walk(body) for result in each.results}
        inside |= {getattr(instruction, "variable", None)}
        entry: _State = state
        while True:
            outer = self.breaks, self.continues
            self.breaks, self.continues = [], []
            found = dict(self.found)
            end = _meet(self.block(body, dict(entry)), *self.continues)
            left, (self.breaks, self.continues) = self.breaks, outer
            again = _meet(state, _carried(end, inside))
            if again == entry:
                break
            # Not yet stable: what was found with too much under way is found again, or is not so.
            self.found, entry = found, again
        normal = entry if may_skip else None
        return _meet(normal, *left)

    def touch(self, instruction: Instruction, state: dict[CopyAsync, _UnderWay]) -> None:
        """Reports the operands of `instruction` that a copy under way is writing."""
        for operand in instruction.operands():
            if not isinstance(operand, Tile) or not isinstance(operand.type, SharedType):
                continue
            for copy, under_way in state.items():
                if _surely_overlap(operand, copy.target):
                    self.found[instruction, copy] = _fault(operand, copy, under_way)


def _fault(tile: Tile, copy: CopyAsync, under_way: _UnderWay) -> Diagnostic:
    if under_way.later < 0:
        fix = "close its group and wait for it before: commit_async(), then wait_async(0)"
    else:
        fix = f"wait for it before: wait_async({under_way.later}), or a smaller number"
    return Diagnostic(
        "E0407",
        f"`{tile.base.name}` is still being copied into",
        (Label(tile.origin, "used here"),
         Label(copy.origin, "no wait covers this copy on any way to there")),
        (), fix,
    )  # fmt: skip


def _meet(*states: _State) -> _State:
    """What is under way in all of the states; those that no path reaches do not count."""
    reached = [state for state in states if state is not None]
    if not reached:
        return None
    first, *others = reached
    return {
        copy: _UnderWay(max(state[copy].later for state in reached))
        for copy in first
        if all(copy in state for state in others)
    }


def _carried(state: _State, inside: set[Value]) -> _State:
    """What the next turn of a loop sees: offsets computed in this turn mean other places there."""
    if state is None:
        return None
    return {
        copy: under_way
        for copy, under_way in state.items()
        if not any(offset in inside for offset in copy.target.offsets if isinstance(offset, Value))
    }


def _surely_overlap(one: Tile, other: Tile) -> bool:
    if one.base is not other.base:
        return False
    return all(
        _ranges_meet(*ranges, whole)
        for *ranges, whole in zip(
            zip(one.offsets, one.extents, strict=True),
            zip(other.offsets, other.extents, strict=True),
            one.base.type.shape,
            strict=True,
        )
    )


def _ranges_meet(one: tuple, other: tuple, whole: int) -> bool:
    """Whether two ranges of a dimension of `whole` positions certainly share one."""
    (first, extent), (second, other_extent) = one, other
    if whole in (extent, other_extent):
        return True  # everything; the other lies inside, or the access is a fault anyway
    if isinstance(first, Immediate) and isinstance(second, Immediate):
        begin = max(first.value, second.value)
        end = min(first.value + (extent or 1), second.value + (other_extent or 1))
        return begin < end
    return first is second and not first.mutable
