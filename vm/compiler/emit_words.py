"""How instructions on the words of threads are written in C++: word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vm.compiler.emit import Emitter, emits, into_register, is_plain, tag
from vm.compiler.words import is_on_files
from vm.isa import lanes, nvidia_words
from vm.isa.dtypes import DType
from vm.isa.instruction import Attribute
from vm.isa.types import Immediate, Value


@emits(nvidia_words.WordInstruction)
def _words(
    e: Emitter, i: nvidia_words.WordInstruction, *others: nvidia_words.WordInstruction
) -> Iterator[str]:
    """Those that work on files of equally many words; or one on a word of each thread, or on other
    numbers than words."""
    if is_on_files(i):
        yield from _words_together(e, [i, *others])
        return
    operands = list(i.operands())
    if i.takes == lanes.WORD:
        given = [_word(o) or e.plain(o) for o in operands]
        call = f"{_function(i)}({', '.join(given)})"
        if is_plain(i.result.type):
            yield e.assign(i, call)
            return
        declaration, target = e.target(i)
        yield from declaration
        yield f"{target}.words[0] = {call};"
        return
    yield from into_register(e, i, _function(i), ", ".join(map(e.register, operands)))


def _words_together(e: Emitter, run: Sequence[nvidia_words.WordInstruction]) -> Iterator[str]:
    """Instructions on files of equally many words: all for the first word, then the next."""
    targets = []
    for i in run:
        declaration, target = e.target(i)
        yield from declaration
        targets.append(target)
    yield f"VM_UNROLL for (int i = 0; i < {run[0].result.type.layout.slots}; i++) {{"
    for i, target in zip(run, targets, strict=True):
        given = ", ".join(_word(o) or _word_at_i(e, o) for o in i.operands())
        yield f"  {target}.words[i] = {_function(i)}({given});"
    yield "}"


def _word_at_i(e: Emitter, operand: Value) -> str:
    """Word i of a file, or the word that each thread has one of."""
    if is_plain(operand.type):
        return e.plain(operand)
    return f"{e.name(operand)}.words[{'i' if operand.type.layout.slots > 1 else 0}]"


def _function(i: nvidia_words.WordInstruction) -> str:
    """The function of the prelude, with attributes as arguments of the template."""
    arguments = ", ".join(
        hex(getattr(i, name)) if item.hexadecimal else _argument(getattr(i, name))
        for name, item in i.fields.items()
        if isinstance(item, Attribute)
    )
    return f"vm_{i.opcode.removeprefix('nv.')}" + (f"<{arguments}>" if arguments else "")


def _word(operand: Any) -> str | None:
    """A constant word; None for what is none."""
    return f"0x{operand.value:x}u" if isinstance(operand, Immediate) else None


def _argument(attribute: Any) -> str:
    """An attribute as an argument of a template."""
    if isinstance(attribute, DType):
        return tag(attribute)
    if isinstance(attribute, bool):
        return "true" if attribute else "false"
    return f"vm_overflow_{attribute}" if isinstance(attribute, str) else str(attribute)
