"""Casts that look up two numbers at once in a table in shared memory.

An entry is a pair of the target, for every pair of codes; each lane of a warp has a copy of the
table in a bank of its own, so that lanes never wait for each other. `vm/compiler/table_memory.py`
says where the table lies.
"""

from __future__ import annotations

from vm.compiler.casts_bits import HALF, views_of
from vm.compiler.casts_rules import Problem, Rule, codes_of_all, require
from vm.compiler.casts_steps import SELECT, Constant, Table, Writer
from vm.isa.nvidia_words import ENTRY_BYTES

LONGEST_CODE = 4
"""Bits of a code: pairs of longer ones would take tables of more than 32 KiB."""


def pairs_of_a_table(p: Problem, w: Writer) -> list[int]:
    """The bits of both codes, brought together by rotations, are the number of an entry; those of
    neighbours in memory lie together. Needs codebooks of at most 4 bits."""
    source = p.source
    require(source.kind == "codebook", "no codebook")
    require(source.bits <= LONGEST_CODE, "too many bits")
    require(p.offset == 0, "an offset")
    codes = codes_of_all(p)
    w.table = Table(source, p.target, tuple(low | high << HALF for high in codes for low in codes))
    lowest = ENTRY_BYTES.bit_length() - 1
    made = []
    for pair in p.pairs:
        masks: dict[tuple[int, int], int] = {}
        for half, element in enumerate(pair):
            for bit in range(source.bits):
                word, position = divmod(p.position(element, bit), 32)
                place = lowest + half * source.bits + bit
                view = word, (position - place) % 32
                masks[view] = masks.get(view, 0) | 1 << place
        (first, _), *others = views_of(w, masks)
        for view, mask in others:
            first = w("logic", view, first, Constant(mask), number=SELECT)
        made.append(w("look_up", first))
    return made


TABLE_RULES: list[Rule] = [pairs_of_a_table]
