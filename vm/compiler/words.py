"""The pass that writes casts of packed numbers as the instructions on words that they are made of.

The rules of a target leave such a cast whole, as one `nv.dequantize` or `nv.fields`, which later
rules change and merge. Here each becomes the steps that `casts` finds for it: each value of the
steps is a file with a word for each group of the source that is cast alike, so that one machine
instruction is written for each step however many groups there are.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from vm.compiler import casts, casts_fields
from vm.compiler.casts import Plan
from vm.compiler.casts_steps import Constant, instruction_of
from vm.compiler.rewrite import Rewriter
from vm.isa import control
from vm.isa.elementwise import Subtract
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.lanes import WORD, Interleave, Pad, Pick, like
from vm.isa.nvidia_packed import Dequantize, Fields
from vm.isa.registers import Cast, View
from vm.isa.types import Immediate, RegisterType, Value
from vm.layouts import RegisterLayout

EXPANDED = (Dequantize, Fields)


def write_words(kernel: Kernel) -> Kernel:
    """The kernel with instructions on words in place of casts of packed numbers."""
    if not any(isinstance(each, EXPANDED) for each in control.walk(kernel.body)):
        return kernel
    return _Words(kernel).run()


class _Words(Rewriter):
    def rewrite(self, instruction: Instruction) -> None:
        if not isinstance(instruction, EXPANDED):
            self.copy(instruction)
            return
        x, value = self.operand(instruction.x), instruction.result
        into = self.values[value] if value.mutable else None
        source = x.type
        if isinstance(instruction, Fields):
            found = casts_fields.plan(
                source.dtype, instruction.slots, instruction.at, source.layout.slots
            )
        else:
            found = casts.plan(source.dtype, instruction.dtype, instruction.slots,
                               source.layout.slots, instruction.offset)  # fmt: skip
        if found is None or not _has_copies(source.layout, value.type.layout):
            made = self._one_by_one(instruction, x, into)
        else:
            words = self._steps(found, self._words_of(x))
            made = self._numbers(words, value, into)
        if into is None:
            self.values[value] = made

    def _one_by_one(self, i: Dequantize, x: Value, into: Value | None) -> Value:
        """The general way: each number by itself."""
        picked = self.emit(Pick, x=x, slots=i.slots, layout=i.layout)
        name = i.result.name
        if not i.offset:
            return self.emit(Cast, into, name, x=picked, dtype=i.dtype)
        floats = self.emit(Cast, x=picked, dtype=i.dtype)
        return self.emit(Subtract, into, name, x=floats, y=Immediate(float(i.offset), i.dtype))

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
        values: dict[int, Value] = {}

        def value(number: int) -> Value:
            if number not in values:  # a word of the source
                slots = tuple(group * steps.words + number for group in found.groups)
                values[number] = words if slots == tuple(range(layout.slots)) else self.emit(
                    Pick, x=words, slots=slots, layout=like(layout, len(slots))
                )  # fmt: skip
            return values[number]

        for number, step in enumerate(steps.steps, start=steps.words):
            kind, attributes = instruction_of(step)
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

    def _numbers(self, words: Value, result: Value, into: Value | None) -> Value:
        """The result, of words that hold its slots and perhaps one more."""
        type_: RegisterType = result.type
        slots = words.type.layout.slots * WORD.bits // type_.dtype.bits
        if slots == type_.layout.slots:
            return self.emit(View, into, result.name, x=words, dtype=type_.dtype,
                             layout=type_.layout)  # fmt: skip
        more = self.emit(View, x=words, dtype=type_.dtype, layout=like(words.type.layout, slots))
        return self.emit(Pick, into, result.name, x=more, slots=tuple(range(type_.layout.slots)),
                         layout=type_.layout)  # fmt: skip


def _has_copies(held: RegisterLayout, wanted: RegisterLayout) -> bool:
    """Whether threads that hold copies in `wanted` hold copies in `held`. Where they need not, they
    may hold the same by what they computed, which views do not know."""
    if wanted.replication == 1:
        return True
    groups = like(wanted, 1).flat()[:, 0].tolist()
    pairs = set(zip(groups, like(held, 1).flat()[:, 0].tolist(), strict=True))
    return len(pairs) == len(set(groups))


def _fields(kind: type[Instruction], operands: list[Any], attributes: tuple[Any, ...]) -> dict:
    return dict(zip(kind.fields, (*operands, *attributes), strict=True))
