"""Fast casts of 3 bits to pairs by way of tables: the digits of a permutation are fields in bytes,
which vm/compiler/casts_bytes.py gathers."""

from __future__ import annotations

from collections.abc import Hashable

from vm.compiler.casts_bytes import Fields, Gatherer
from vm.compiler.casts_rules import Problem, Tables, codes_of_all, require, rule
from vm.compiler.casts_steps import Constant, Writer


@rule
def entries_of_fields(p: Problem, w: Writer) -> list[int]:
    """Eight fields in bytes are digits of permutations, each of which looks up the lower, or the
    upper, bytes of four codes. Needs floats or codebooks of 3 bits."""
    source = p.source
    require(source.kind in ("float", "codebook") and source.bits == 3, "not of 3 bits")
    require(p.offset == 0, "an offset")
    codes = codes_of_all(p)
    planes = [[code >> shift & 0xFF for code in codes] for shift in (0, 8)]
    fields, tables = Fields(source, p.words, w), Tables(w, 3, codes)
    gather = Gatherer(w)
    for number, plane in enumerate(planes):
        if len(set(plane)) == 1:
            gather.held[Constant(plane[0] * 0x01010101)] = (number,) * 4
    for names, digits in fields.digits({element for pair in p.pairs for element in pair}):
        for number, plane in enumerate(planes):
            if len(set(plane)) > 1:
                found = w("permute", *tables.constants(plane), digits)
                gather.held[found] = tuple((element, number) for element in names)

    def name(element: int, number: int) -> Hashable:
        return (element, number) if len(set(planes[number])) > 1 else number

    return [gather([name(e, number) for e in pair for number in (0, 1)]) for pair in p.pairs]
