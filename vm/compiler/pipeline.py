"""The way of a kernel from what an author wrote to C++: the list of passes, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vm.compiler import (  # noqa: F401  (they register how these are written)
    emit_control,
    emit_launch_memory,
    emit_matrices,
    emit_memory,
    emit_nvidia_bulk,
    emit_values,
    emit_words,
)
from vm.compiler.emit import emit, kernel_symbol, pointers, scalars, unsupported
from vm.compiler.facts import ALIGNED, Facts
from vm.compiler.launch_memory import extent_facts, launch_memory
from vm.compiler.layouts import infer_layouts
from vm.compiler.selection import Choice, select
from vm.compiler.shared_memory import plan_shared, planned_bytes
from vm.compiler.targets.amd import TARGETS as AMD_TARGETS
from vm.compiler.targets.nvidia import TARGETS as NVIDIA_TARGETS
from vm.compiler.targets.target import Target
from vm.compiler.words import write_words
from vm.errors import Origin, fail
from vm.isa import control, syntax
from vm.isa.dtypes import DType
from vm.isa.instruction import nearest
from vm.isa.kernel import Kernel
from vm.isa.printer import format_expression
from vm.isa.static import known_dtype
from vm.isa.synchronization import GridWait
from vm.runtime.manifest import Manifest, PointerArgument, ScalarArgument, SizeArgument

TARGETS: dict[str, Target] = {**NVIDIA_TARGETS, **AMD_TARGETS}

# The names of the stages, as `vm compile --after` takes them.
STAGES = ("instantiate", "layouts", "shared", "select", "words")


def target(name: str) -> Target:
    """The target of that name; raises E0902 for one that is not there."""
    if name not in TARGETS:
        close = nearest(name, TARGETS, cutoff=0.85)  # sm_90 for sm_90a, but not sm_75 for sm_89
        raise fail(
            "E0902", f"there is no target {name}", None,
            fix=f"did you mean {close}?" if close else f"one of: {', '.join(TARGETS)}",
        )  # fmt: skip
    return TARGETS[name]


@dataclass(frozen=True)
class Lowered:
    """A kernel of the machine level, and what the passes have to say of it."""

    kernel: Kernel
    target: Target
    variant: str
    shared_bytes: int
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Emitted:
    """C++ and what a launch of it needs to know."""

    source: str
    manifest: Manifest
    lowered: Lowered


def stages(kernel: Kernel, target: Target, variant: str = ALIGNED) -> dict[str, Kernel]:
    """The kernel after each pass, by the pass's name."""
    _check_warps(kernel, target)
    found = {"instantiate": kernel}
    found["layouts"] = infer_layouts(found["instantiate"])
    found["shared"] = plan_shared(found["layouts"], target.shared_bytes, target.banks)
    selected = select(found["shared"], target, planned_bytes(found["shared"]), variant)
    found["select"] = selected.kernel
    found["words"] = write_words(found["select"], target, selected.shared_bytes)
    return found


def lower(kernel: Kernel, target: Target, variant: str = ALIGNED) -> Lowered:
    """The kernel at the machine level of a target; raises `VmError` for what it cannot do."""
    _check_warps(kernel, target)
    planned = plan_shared(infer_layouts(kernel), target.shared_bytes, target.banks)
    selected = select(planned, target, planned_bytes(planned), variant)
    kernel = write_words(selected.kernel, target, selected.shared_bytes)
    shared_bytes = max(selected.shared_bytes, planned_bytes(kernel))
    return Lowered(kernel, target, variant, shared_bytes, tuple(selected.choices))


def compile_source(
    kernel: Kernel, target: Target, variant: str = ALIGNED
) -> Emitted:
    """The C++ of a kernel for a target."""
    lowered = lower(kernel, target, variant)
    source = emit(lowered.kernel, lowered.shared_bytes, kernel.resident_blocks or 1)
    return Emitted(source, manifest_of(lowered), lowered)


def manifest_of(lowered: Lowered) -> Manifest:
    """What the compiled kernel expects of its caller."""
    kernel = lowered.kernel
    known = Facts(kernel, lowered.variant)
    memory = launch_memory(kernel)
    facts = [fact for fact in kernel.where if not syntax.is_hint(fact)]
    facts += extent_facts(kernel)
    shaping = {
        node.text
        for expression in (*kernel.grid, *facts, memory.workspace_bytes, memory.semaphores)
        if isinstance(expression, syntax.Expression)
        for node in syntax.walk(expression)
        if isinstance(node, syntax.Name)
    }
    return Manifest(
        program=kernel.name,
        kernel=kernel_symbol(kernel),
        pointers=tuple(
            PointerArgument(
                p.name, p.type.dtype.name, tuple(_text(e) for e in p.type.shape),
                p.type.access if p.type.is_written else "in",
                known.alignment(p),
                strides=None if p.type.strides is None else tuple(map(_text, p.type.strides)),
            )
            for p in pointers(kernel)
        ),
        sizes=tuple(SizeArgument(size.name) for size in kernel.sizes),
        scalars=tuple(
            ScalarArgument(s.name, _named(s.type.dtype, s.origin).name, s.name in shaping)
            for s in scalars(kernel)
        ),
        threads=kernel.threads,
        shared_bytes=lowered.shared_bytes,
        workspace_bytes=_text(memory.workspace_bytes),
        semaphores=_text(memory.semaphores),
        pdl=any(isinstance(i, GridWait) for i in control.walk(kernel.body)),
        facts=tuple(map(_text, facts)),
    )


def _named(kind: DType, origin: Origin) -> DType:
    """The dtype of a scalar parameter; E0901 for a codebook of the program's own: who launches
    knows dtypes by their names."""
    if known_dtype(kind.name) != kind:
        raise unsupported("scalar parameters of a codebook without a name", origin)
    return kind


def _check_warps(kernel: Kernel, target: Target) -> None:
    if kernel.warp_width != target.warp_width:
        raise fail(
            "E0903", f"the kernel is for warps of {kernel.warp_width} lanes, those of "
            f"{target.name} have {target.warp_width}", kernel.origin, "instantiated here",
            fix=f"instantiate it with warp_width={target.warp_width}",
        )  # fmt: skip


def _text(extent: Any) -> str:
    return str(extent) if isinstance(extent, int) else format_expression(extent)
