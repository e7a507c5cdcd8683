"""The pass that writes casts of packed numbers, and bits that change places, as the instructions on
words that they are made of.

The rules of a target leave such a cast whole, as one `nv.dequantize` or `nv.fields`, which later
rules change and merge. Here each becomes the steps that `casts` finds for it: each value of the
steps is a file with a word for each group of the source that is cast alike, so that one machine
instruction is written for each step however many groups there are.
"""

from __future__ import annotations

import copy as shallow
from collections.abc import Iterable, Iterator
from itertools import groupby
from math import gcd
from typing import TYPE_CHECKING, Any

from vm.compiler import casts, casts_fields
from vm.compiler.casts import Choice, Plan
from vm.compiler.casts_bits import moved_bits, repeated_part
from vm.compiler.casts_steps import Constant, Table, instruction_of
from vm.compiler.rewrite import Rewriter, is_per_thread
from vm.compiler.table_memory import cast_plan, tables_of
from vm.isa import control
from vm.isa.elementwise import Add, Less, Multiply, Subtract
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.lanes import (
    WORD,
    Interleave,
    Pad,
    Pick,
    SlotConstants,
    ThreadIndex,
    file_layout,
    holds_copies,
    like,
)
from vm.isa.memory import SharedAllocate
from vm.isa.nvidia import StoreShared
from vm.isa.nvidia_packed import F16, Dequantize, Fields, slots_held
from vm.isa.nvidia_words import ENTRY_BYTES, LANES, ShiftRight, WordInstruction
from vm.isa.registers import Cast, View
from vm.isa.synchronization import Synchronize
from vm.isa.types import Immediate, RegisterType, ScalarType, Value

if TYPE_CHECKING:
    from vm.compiler.targets.target import Target

EXPANDED = (Dequantize, Fields)
VECTOR = 16
"""Bytes that a thread stores at once where tables are filled."""


def write_words(kernel: Kernel, target: Target, shared_bytes: int) -> Kernel:
    """The kernel with instructions on words in place of casts of packed numbers, and of single bits
    that change places, where the target has such instructions. Of shared memory `shared_bytes` are
    taken; what casts look up lies behind them."""
    if target.family != "nvidia" or not any(map(_is_written, control.walk(kernel.body))):
        return kernel
    return _Words(kernel, tables_of(kernel, target, shared_bytes)).run()


def _is_written(i: Instruction) -> bool:
    return isinstance(i, EXPANDED) or (isinstance(i, Pick) and _moves_bits(i))


def _needs_tables(i: Instruction) -> bool:
    """Whether tables are filled at last before a statement of the block: the first that casts, or
    that is a group, beside which the next one may run."""
    return isinstance(i, control.Group) or any(
        isinstance(each, Dequantize) for each in control.walk([i])
    )


def _moves_bits(i: Pick) -> bool:
    """Whether bits of whole words change places."""
    held, slots = i.x.type.layout.slots, i.slots
    whole = held % WORD.bits == len(slots) % WORD.bits == 0
    return i.x.type.dtype.name == "u1" and whole and slots != tuple(range(held))


class _Words(Rewriter):
    """Writes casts anew and leaves everything else, values too, as it is. `tables` are those that
    casts look up, with their addresses."""

    def __init__(self, kernel: Kernel, tables: dict[Table, int]):
        super().__init__(kernel)
        self.tables = tables
        self.missing = bool(tables)  # until they are filled

    def rewrite(self, instruction: Instruction) -> None:
        if self.missing and _needs_tables(instruction):
            self.missing = False
            self._fill_tables()
        if _is_written(instruction):
            self._expand(instruction)
            return
        if any(True for _ in instruction.blocks()):
            instruction = shallow.copy(instruction)
            if isinstance(instruction, control.If):
                instruction.then = self.block(instruction.then)
                instruction.otherwise = self.block(instruction.otherwise)
            else:
                instruction.body = self.block(instruction.body)
        self.append(instruction)

    def _expand(self, i: Dequantize | Fields | Pick) -> None:
        found = _plan(i, self.tables)
        if found is not None:
            self._numbers(self._steps(found, self._words_of(i.x)), i.result)
        elif isinstance(i, Pick):
            self.append(i)
        else:
            self._one_by_one(i)

    def _one_by_one(self, i: Dequantize) -> None:
        """The general way: each number by itself."""
        x = i.x if i.source is None else self._in_order(i)
        picked = self.emit(Pick, x=x, slots=i.slots, layout=i.layout)
        if not i.offset:
            self.emit(Cast, i.result, x=picked, dtype=i.dtype)
            return
        numbers = self.emit(Cast, x=picked, dtype=i.dtype)
        offset = i.dtype.array.type(i.offset).item()
        self.emit(Subtract, i.result, x=numbers, y=Immediate(offset, i.dtype))

    def _in_order(self, i: Dequantize) -> Value:
        """The numbers whose bits x holds in an order of their own."""
        layout = i.x.type.layout
        order = i.bits or tuple(range(layout.slots))
        slots = tuple(
            first + bit for first in range(0, layout.slots, len(order)) for bit in order
        )
        bits = self.emit(Pick, x=i.x, slots=slots, layout=like(layout, layout.slots))
        return self.emit(View, x=bits, dtype=i.source, layout=like(layout, slots_held(i)))

    def _fill_tables(self) -> None:
        """Every thread of the block stores 16 bytes, part of an entry and its copies, and then
        others, as far on as all threads store together."""
        threads = self.scope.threads
        thread = self.emit(ThreadIndex)
        place = self.compute(Multiply, thread, VECTOR)
        number = self.emit(View, x=self.convert(thread, WORD), dtype=WORD,
                           layout=file_layout(threads, 1))  # fmt: skip
        for table, address in self.tables.items():
            self.emit(SharedAllocate, None, "table", dtype=WORD, address=address,
                      shape=(len(table.entries), LANES))  # fmt: skip
            vectors = table.bytes // VECTOR
            firsts = tuple(range(0, vectors, threads))
            words = self._entries(table, number, firsts)
            four = tuple(slot for slot in range(len(firsts)) for _ in range(VECTOR // 4))
            held = self.emit(Pick, x=words, slots=four, layout=file_layout(threads, len(four)))
            for k, first in enumerate(firsts):
                partial = first + threads > vectors
                inside = self.compute(Less, thread, vectors - first) if partial else None
                self.emit(StoreShared, address=place, x=held, predicate=inside, at=VECTOR * k,
                          plus=address + VECTOR * first, bytes=VECTOR)  # fmt: skip
        self.emit(Synchronize)

    def _entries(self, table: Table, number: Value, firsts: tuple[int, ...]) -> Value:
        """The entry of vector number + first, for each thread and first one."""
        layout = file_layout(number.type.layout.threads, len(firsts))
        numbers = self.emit(Pick, x=number, slots=(0,) * len(firsts), layout=layout)
        starts = self.emit(SlotConstants, values=firsts, dtype=WORD, layout=layout)
        vectors = self.emit(Add, x=numbers, y=starts)
        index = self.emit(ShiftRight, x=vectors, bits=(ENTRY_BYTES // VECTOR).bit_length() - 1)
        steps = casts.plan(table.source, table.target, (0, 1), 2).choice
        return self._steps(Plan(steps, tuple(range(len(firsts)))), index)

    def _words_of(self, x: Value) -> Value:
        """The words of x; slots that are added to fill the last are not defined."""
        layout, bits = x.type.layout, x.type.dtype.bits
        size = WORD.bits // gcd(bits, WORD.bits)
        more = -layout.slots % size
        slots = layout.slots + more
        if more:
            x = self.emit(Pad, x=x, layout=like(layout, slots))
        return self.emit(View, x=x, dtype=WORD, layout=like(layout, slots * bits // WORD.bits))

    def _steps(self, found: Plan, words: Value) -> Value:
        """The words of the result: the results of the steps, group after group."""
        steps, layout = found.choice.steps, words.type.layout
        table = (self.tables[steps.table], len(steps.table.entries)) if steps.table else ()
        values: dict[int, Value] = {}

        def value(number: int) -> Value:
            if number not in values:  # a word of the source
                slots = tuple(group * steps.words + number for group in found.groups)
                values[number] = words if slots == tuple(range(layout.slots)) else self.emit(
                    Pick, x=words, slots=slots, layout=like(layout, len(slots))
                )  # fmt: skip
            return values[number]

        # The words of the source first: instructions on words then follow each other.
        read = {o for step in steps.steps for o in step.operands if isinstance(o, int)}
        for number in sorted({*read, *steps.results}):
            if number < steps.words:
                value(number)
        for number, step in enumerate(steps.steps, start=steps.words):
            kind, attributes = instruction_of(step, *table)
            operands = [
                Immediate(o.word, WORD) if isinstance(o, Constant) else value(o)
                for o in step.operands
            ]
            values[number] = self.emit(kind, **_fields(kind, operands, attributes))
        results = [value(number) for number in steps.results]
        if len(results) == 1:
            return results[0]
        joined = like(layout, len(found.groups) * len(results))
        return self.emit(Interleave, parts=tuple(results), layout=joined)

    def _numbers(self, words: Value, result: Value) -> None:
        """The result, of words that hold its slots and perhaps one more."""
        type_: RegisterType = result.type
        slots = words.type.layout.slots * WORD.bits // type_.dtype.bits
        if slots == type_.layout.slots:
            self.emit(View, result, x=words, dtype=type_.dtype, layout=type_.layout)
            return
        more = self.emit(View, x=words, dtype=type_.dtype, layout=like(words.type.layout, slots))
        mine = tuple(range(type_.layout.slots))
        self.emit(Pick, result, x=more, slots=mine, layout=type_.layout)


def _plan(i: Dequantize | Fields | Pick, tables: dict[Table, int]) -> Plan | None:
    """The steps of an instruction; None where no rule is suited, or lanes hold what views do not
    know."""
    if isinstance(i, Dequantize):
        found = cast_plan(i, tables=True)
        table = found.choice.steps.table if found else None
        return found if table is None or table in tables else cast_plan(i, tables=False)
    if not holds_copies(i.x.type.layout, i.result.type.layout):
        return None
    if isinstance(i, Pick):  # the bits of words, alike in as many parts as can be
        held = i.x.type.layout.slots
        is_permutation = sorted(i.slots) == list(range(held))
        part = repeated_part(i.slots, WORD.bits) if is_permutation else i.slots
        parts = len(i.slots) // len(part)
        steps = moved_bits(part, held // parts // WORD.bits)
        return Plan(Choice(moved_bits.__name__, steps), tuple(range(parts)))
    kind, held = i.source or i.x.type.dtype, slots_held(i)
    if kind.is_integer:
        return casts_fields.plan(kind, i.slots, i.at, held)
    return casts.plan(kind, F16, i.slots, held, bits=i.bits, scaled=False)


def together(statements: Iterable[Instruction]) -> Iterator[list[Instruction]]:
    """The statements, those in a row that are instructions on files of equally many words as one.

    Written in C++ word by word, and not file by file, they keep few words alive, and ptxas finds
    registers for their constants: u8 to f16 takes 32 machine instructions so, and 46 otherwise."""
    for _, run in groupby(statements, key=_words_alike):
        run = list(run)
        if _words_alike(run[0]) is None:
            yield from ([each] for each in run)
        else:
            yield run


def is_on_files(i: Instruction) -> bool:
    """Whether an instruction on words has several of each thread to work on."""
    return _words_alike(i) is not None


def _words_alike(i: Instruction) -> int | None:
    """How many words of each thread an instruction on words makes; None where that is one, or
    something else."""
    if not isinstance(i, WordInstruction) or i.takes != WORD or is_per_thread(i.result.type):
        return None
    return None if isinstance(i.result.type, ScalarType) else i.result.type.layout.slots


def _fields(kind: type[Instruction], operands: list[Any], attributes: tuple[Any, ...]) -> dict:
    return dict(zip(kind.fields, (*operands, *attributes), strict=True))
