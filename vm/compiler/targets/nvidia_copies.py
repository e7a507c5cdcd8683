"""Asynchronous copies on NVIDIA GPUs: cp.async."""

from __future__ import annotations

from vm.compiler.addresses import GlobalAccess, SharedAccess, Vector
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection
from vm.compiler.targets.nvidia_rules import NVIDIA
from vm.isa import asynchronous, nvidia
from vm.isa.elementwise import Add
from vm.layouts import default_layout

rule = NVIDIA.rule


@rule(asynchronous.CopyAsync)
def copy_with_cp_async(s: Selection, i: asynchronous.CopyAsync) -> None:
    """cp.async of 16, 8 or 4 bytes by each thread."""
    source, target = s.operand(i.source), s.operand(i.target)
    bits = source.dtype.bits
    if 128 % bits:
        raise Refused(f"16 bytes are no whole number of {source.dtype.name}")
    for size in (16, 8, 4):
        count = size * 8 // bits
        if count == 0 or source.shape[-1] % count:
            continue
        layout = default_layout(source.shape, i.scope.threads, count)
        here = GlobalAccess(s, source, layout, i.inside)
        there = SharedAccess(s, target, layout)
        if here.vector % count == 0 and there.vector % count == 0:
            break
    else:
        raise Refused("no run of 4 bytes is aligned on both sides")
    first = s.first_copy(layout, s.thread())
    vectors = [Vector(v, count, tuple(int(x) for x in layout.table()[0, v]))
               for v in range(0, layout.slots, count)]  # fmt: skip
    places = there.addresses([v.slot for v in vectors])
    for vector, (address, plus) in zip(vectors, places, strict=True):
        offset, more = here.offset(vector)
        offset = s.compute(Add, offset, more) if more else offset
        predicate = here.predicate(vector)
        if first is not None:
            # A false predicate would write zeros over what the first copy brings.
            raise Refused("several threads would copy the same elements")
        s.emit(nvidia.CopyAsync, address=address, base=here.whole, offset=offset,
               predicate=predicate, plus=plus, bytes=size)  # fmt: skip
