"""How control is written in C++: branches, loops, groups, barriers, what is said to the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vm.compiler.emit import Emitter, OpenGroup, emits
from vm.isa import asynchronous, control, debugging
from vm.isa import synchronization as sync
from vm.isa.types import Immediate, Value
from vm.runtime.scalars import NUMBERS


@emits(control.If)
def _if(e: Emitter, i: control.If) -> Iterator[str]:
    e.lines.append(f"{e.indent}if ({e.plain(i.condition)}) {{")
    e.nested(i.then)
    if i.otherwise:
        e.lines.append(f"{e.indent}}} else {{")
        e.nested(i.otherwise)
    yield "}"


@emits(control.For)
def _for(e: Emitter, i: control.For) -> Iterator[str]:
    name, kind = e.name(i.variable), NUMBERS[i.variable.type.dtype.name]
    start = e.plain(i.start)
    stop, step = (_bound(e, o, f"{name}_{what}", kind) for o, what in
                  ((i.stop, "stop"), (i.step, "step")))  # fmt: skip
    if i.unroll == control.FULL:
        e.lines.append(f"{e.indent}VM_UNROLL")
    elif isinstance(i.unroll, int):
        e.lines.append(f"{e.indent}VM_UNROLL_BY({i.unroll})")
    if isinstance(i.step, Immediate):
        goes_on = f"{name} {'<' if i.step.value > 0 else '>'} {stop}"
    else:
        goes_on = f"{step} > 0 ? {name} < {stop} : {name} > {stop}"
    e.lines.append(f"{e.indent}for ({kind} {name} = {start}; {goes_on}; {name} += {step}) {{")
    e.nested(i.body)
    yield "}"


def _bound(e: Emitter, operand: Any, name: str, kind: str) -> str:
    """A bound of a loop: what a variable held at its beginning, whatever it is assigned inside."""
    if not isinstance(operand, Value) or not operand.mutable:
        return e.plain(operand)
    e.lines.append(f"{e.indent}const {kind} {name} = {e.plain(operand)};")
    return name


@emits(control.While)
def _while(e: Emitter, i: control.While) -> Iterator[str]:
    e.lines.append(f"{e.indent}while (true) {{")
    e.nested(i.body)
    yield "}"


@emits(control.Group)
def _group(e: Emitter, i: control.Group) -> Iterator[str]:
    width = e.kernel.warp_width
    first = i.first_warp * width
    last = first + i.copies * i.warps * width
    e.groups[i.name] = OpenGroup(first, i.warps * width, e.next_barrier)
    if i.warps > 1:
        e.next_barrier -= i.copies
    low = f"VM_THREAD >= {first} && " if first else ""
    e.lines.append(f"{e.indent}if ({low}VM_THREAD < {last}) {{  // group {i.name}")
    e.nested(i.body)
    yield "}"
    if any(isinstance(each, sync.Exit) for each in control.walk(i.body)):
        yield f"{_end_of_group(e, i.name)}:;"


def _end_of_group(e: Emitter, name: str) -> str:
    return f"end_of_group_{list(e.groups).index(name)}"


@emits(control.Declare)
def _declare(e: Emitter, i: control.Declare) -> Iterator[str]:
    yield f"{e.declare(i.variable)};"


@emits(control.Jump)
def _jump(e: Emitter, i: control.Jump) -> Iterator[str]:
    yield f"{i.kind};"


@emits(sync.Exit)
def _exit(e: Emitter, i: sync.Exit) -> Iterator[str]:
    group = i.scope.group
    yield "return;" if group is None else f"goto {_end_of_group(e, group)};"


@emits(sync.BlockIndex, sync.GridSize)
def _coordinates(e: Emitter, i: Any) -> Iterator[str]:
    macro = "VM_BLOCK_INDEX" if isinstance(i, sync.BlockIndex) else "VM_GRID_SIZE"
    for axis, value in enumerate(i.results):
        yield f"const {e.declare(value)} = {macro}({axis});"


@emits(sync.Synchronize)
def _synchronize(e: Emitter, i: sync.Synchronize) -> Iterator[str]:
    group = e.groups.get(i.scope.group)
    if group is None:
        yield "vm_synchronize();"
    elif i.scope.warps == 1:
        yield "vm_synchronize_warp();"
    else:
        index = group.index(i.scope.copies)
        number = f"{group.barrier}" if index == "0" else f"{group.barrier} - {index}"
        yield f"vm_barrier({number}, {i.scope.threads});"


@emits(sync.Barrier)
def _barrier(e: Emitter, i: sync.Barrier) -> Iterator[str]:
    name = "vm_barrier_arrive" if i.arrive else "vm_barrier"
    yield f"{name}({i.id}, {i.warps * e.kernel.warp_width});"


@emits(sync.GridLaunchDependents)
def _grid_launch_dependents(e: Emitter, i: sync.GridLaunchDependents) -> Iterator[str]:
    yield "vm_grid_launch_dependents();"


@emits(sync.GridWait)
def _grid_wait(e: Emitter, i: sync.GridWait) -> Iterator[str]:
    yield "vm_grid_wait();"


@emits(asynchronous.CommitAsync)
def _commit(e: Emitter, i: asynchronous.CommitAsync) -> Iterator[str]:
    yield "vm_commit_async();"


@emits(asynchronous.WaitAsync)
def _wait(e: Emitter, i: asynchronous.WaitAsync) -> Iterator[str]:
    yield f"vm_wait_async<{i.pending}>();"


@emits(debugging.Print)
def _print(e: Emitter, i: debugging.Print) -> Iterator[str]:
    label = "".join(c if c.isalnum() or c in " _-=:.,()[]" else "?" for c in i.label)
    yield f'vm_print("{label}", {e.register(i.x)});'


@emits(debugging.Assert)
def _assert(e: Emitter, i: debugging.Assert) -> Iterator[str]:
    yield f"vm_assert_all({e.register(i.condition)});"
