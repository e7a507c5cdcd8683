"""Machine level to C++: one prelude call for each instruction, plain C++ for the rest.

The same text compiles for GPUs and for the emulator. Integers and truth values that are scalars or
per-thread values are C++ variables; every other register tensor is a `vm_register<T, N>`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.compiler.launch_memory import launch_memory
from vm.compiler.rewrite import is_per_thread
from vm.compiler.words import EXPANDED, is_on_files, together
from vm.errors import InternalError, Origin, VmError, fail
from vm.isa import (
    asynchronous,
    control,
    debugging,
    elementwise,
    gpu,
    gpu_atomics,
    lanes,
    memory,
    nvidia,
    nvidia_words,
    randomness,
    registers,
    tables,
)
from vm.isa import synchronization as sync
from vm.isa.conversion import entry_boundaries
from vm.isa.dtypes import DType
from vm.isa.instruction import INSTRUCTIONS, Attribute, Instruction
from vm.isa.kernel import Kernel
from vm.isa.randomness import U64
from vm.isa.types import GlobalType, Immediate, ScalarType, Tile, Value
from vm.runtime.scalars import NUMBERS, cpp_type

# Ids of named barriers from the last down belong to the compiler: one for each group.
_LAST_BARRIER = 15

# What the runtime gives a launch besides, behind the arguments.
WORKSPACE, SEMAPHORES = "vm_workspace", "vm_semaphores"

_EMITTERS: dict[type[Instruction], Callable[[Any, Any], Iterator[str]]] = {}


def emits(*kinds: type[Instruction]) -> Callable:
    """Registers how instructions of these kinds are written."""

    def register(function: Callable) -> Callable:
        for kind in kinds:
            _EMITTERS[kind] = function
        return function

    return register


def emit(kernel: Kernel, shared_bytes: int, blocks_per_multiprocessor: int = 1) -> str:
    """The C++ text of a kernel of the machine level."""
    return _Emitter(kernel).text(shared_bytes, blocks_per_multiprocessor)


def is_plain(type_: Any) -> bool:
    """Whether a value of this type is a C++ number."""
    scalar = isinstance(type_, ScalarType) or is_per_thread(type_)
    return scalar and type_.dtype.name in NUMBERS


def unsupported(what: str, origin: Origin | None) -> VmError:
    """The error for what compiled kernels cannot do."""
    return fail(
        "E0901", f"compiled kernels have no {what} yet", origin, "needed here",
        fix="run it on the reference machine",
    )  # fmt: skip


def tag(dtype: DType) -> str:
    """The prelude's name of an element type; that of a codebook, which `codebook_type` defines."""
    if dtype.kind == "codebook":
        return f"vm_{dtype.name}_{zlib.crc32(repr(dtype.table).encode()):08x}"
    if dtype.kind == "float" and dtype.bits <= 8:
        return f"vm_float<{dtype.bits}, {dtype.exponent_bits}, {dtype.mantissa_bits}>"
    return f"vm_{dtype.name}"


def codebook_type(dtype: DType) -> str:
    """The definition of a codebook, of which the prelude knows but the form."""
    values = dtype.decode(np.arange(1 << dtype.bits, dtype=dtype.storage))
    order, limits = entry_boundaries(dtype)
    entries = ", ".join(f"0x{word:x}" for word in values.view(np.uint32).tolist())
    ordered = ", ".join(map(str, order.tolist()))
    bounds = ", ".join(f"0x{words:x}ull" for words in limits.view(np.uint64).tolist())
    return (
        f"typedef vm_codebook<{dtype.bits}, vm_entries<{entries}>, vm_limits<{bounds}>, "
        f"vm_ordered<{ordered}>> {tag(dtype)};"
    )


def _codebooks(kernel: Kernel) -> list[DType]:
    """The codebooks among the types of a kernel's values, in order."""
    results = (value for each in control.walk(kernel.body) for value in each.results)
    kinds = (getattr(value.type, "dtype", None) for value in (*kernel.parameters, *results))
    return list(dict.fromkeys(k for k in kinds if k is not None and k.kind == "codebook"))


@dataclass(frozen=True)
class _OpenGroup:
    """Where the threads of a group are, and the barrier of its first copy; others have those
    below."""

    first: int
    threads: int
    barrier: int

    def thread(self) -> str:
        return f"(VM_THREAD - {self.first})" if self.first else "VM_THREAD"

    def index(self, copies: int) -> str:
        return "0" if copies == 1 else f"vm_warp_uniform({self.thread()} / {self.threads})"


class _Emitter:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.names: dict[Value, str] = {}
        self.lines: list[str] = []
        self.indent = "  "
        self.said: tuple[str, int] | None = None
        self.groups: dict[str, _OpenGroup] = {}
        self.next_barrier = _LAST_BARRIER

    def text(self, shared_bytes: int, blocks: int) -> str:
        kernel = self.kernel
        given = (*pointers(kernel), *kernel.sizes, *scalars(kernel))
        memory = launch_memory(kernel)
        owned = {WORKSPACE: memory.owns_workspace, SEMAPHORES: memory.owns_semaphores}
        parameters = ", ".join((
            *map(self.parameter, given),
            *(f"unsigned char* {name}" for name, is_owned in owned.items() if is_owned),
        ))  # fmt: skip
        self.block(kernel.body)
        head = [
            f"// {kernel.name}: emitted from the program of that name",
            '#include "vm.h"',
            *map(codebook_type, _codebooks(kernel)),
            "",
            f"VM_KERNEL({kernel_symbol(kernel)}, {kernel.threads}, {blocks})({parameters}) {{",
            f"  VM_SHARED({shared_bytes});",
        ]
        return "\n".join([*head, *self.lines, "}", ""])

    def parameter(self, value: Value) -> str:
        name = self.name(value)
        type_ = value.type
        if isinstance(type_, GlobalType):
            const = "const " if not type_.is_written else ""
            return f"{const}unsigned char* {name}"
        kind = cpp_type(type_.dtype)
        if is_plain(type_):
            return f"{kind} {name}"
        self.lines.append(
            f"  const {register_type(type_)} {name} = "
            f"vm_constant<{tag(type_.dtype)}>({name}_code);"
        )
        return f"{kind} {name}_code"

    # --- statements ---
    def block(self, statements: list[Instruction]) -> None:
        for instruction, *others in together(statements):
            self.comment(instruction.origin)
            if is_on_files(instruction):
                lines = _words_together(self, [instruction, *others])
            else:
                lines = self.emitter(type(instruction))(self, instruction)
            self.lines += [self.indent + line for line in lines]

    def nested(self, statements: list[Instruction]) -> None:
        outer, self.indent = self.indent, self.indent + "  "
        self.block(statements)
        self.indent = outer

    def emitter(self, kind: type[Instruction]) -> Callable:
        for base in kind.__mro__:
            if base in _EMITTERS:
                return _EMITTERS[base]
        raise InternalError(f"nothing says how `{kind.opcode}` is written in C++")

    def comment(self, origin: Origin) -> None:
        """The line of the program that what follows comes from, once."""
        place = (origin.file, origin.line)
        if origin.line < 1 or place == self.said:
            return
        self.said = place
        text = origin.text_line().strip()
        # A backslash at its end would carry the comment to the next line.
        printable = "".join(c if c.isprintable() and c != "\\" else " " for c in text)
        self.lines.append(f"{self.indent}// {origin.line}: {printable}")

    # --- values ---
    def name(self, value: Value) -> str:
        if value not in self.names:
            stem = value.name if value.name else "t"
            self.names[value] = f"{stem}_{len(self.names)}"
        return self.names[value]

    def declare(self, value: Value) -> str:
        """The declaration of a value without its initializer."""
        if is_plain(value.type):
            return f"{NUMBERS[value.type.dtype.name]} {self.name(value)}"
        return f"{register_type(value.type)} {self.name(value)}"

    def target(self, instruction: Instruction) -> tuple[list[str], str]:
        """(the declaration that comes first, the name) of a result that is a register."""
        value = instruction.result
        if value.mutable:
            return [], self.name(value)
        return [f"{self.declare(value)};"], self.name(value)

    def plain(self, operand: Any) -> str:
        """An operand as a C++ number."""
        if isinstance(operand, Immediate):
            return literal(operand)
        if not is_plain(operand.type):
            return f"vm_get<0>({self.name(operand)})"
        return self.name(operand)

    def register(self, operand: Any) -> str:
        """An operand as a register tensor."""
        if isinstance(operand, Immediate):
            return constant(operand)
        if is_plain(operand.type):
            return f"vm_wrap<{tag(operand.type.dtype)}>({self.name(operand)})"
        return self.name(operand)

    def words(self, operand: Value | Immediate) -> str:
        """The words of a register tensor or of a constant."""
        if isinstance(operand, Immediate):
            return f"{constant(operand)}.words"
        if is_plain(operand.type):
            return f"(unsigned*)&{self.name(operand)}"
        return f"{self.name(operand)}.words"

    def assign(self, instruction: Instruction, expression: str) -> str:
        """The statement that gives a plain result its value."""
        value = instruction.result
        if value.mutable:
            return f"{self.name(value)} = {expression};"
        return f"const {self.declare(value)} = {expression};"

    def predicate(self, operand: Any) -> str:
        return "" if operand is None else f", {self.plain(operand)}"


def pointers(kernel: Kernel) -> list[Value]:
    """The parameters in global memory, in the order of the text."""
    return [p for p in kernel.parameters if isinstance(p.type, GlobalType)]


def scalars(kernel: Kernel) -> list[Value]:
    """The scalar parameters, in the order of the text."""
    return [p for p in kernel.parameters if isinstance(p.type, ScalarType)]


def kernel_symbol(kernel: Kernel) -> str:
    """The name of the function in the compiled code."""
    return f"vm_kernel_{kernel.name}"


def register_type(type_: Any) -> str:
    slots = 1 if isinstance(type_, ScalarType) else type_.layout.slots
    return f"vm_register<{tag(type_.dtype)}, {slots}>"


def literal(operand: Immediate) -> str:
    """A C++ number."""
    value = operand.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if operand.dtype is not None and operand.dtype.is_float:
        raise InternalError("floats are written as registers")
    value = int(value)
    suffix = {"i64": "ll", "u64": "ull", "u32": "u"}.get(operand.dtype.name if operand.dtype
                                                       else "", "")  # fmt: skip
    if value == -(2**31) and not suffix:
        return "(-2147483647 - 1)"
    if value == -(2**63):
        return "(-9223372036854775807ll - 1)"
    return f"{value}{suffix}"


def constant(operand: Immediate) -> str:
    """A register of one element."""
    dtype = operand.dtype
    mode = "ieee" if dtype.kind == "float" else "saturate"
    rounding = "nearest_entry" if dtype.kind == "codebook" else "nearest_even"
    code = int(np.asarray(dtype.encode(np.float64(operand.value), mode, rounding)))
    return f"vm_constant<{tag(dtype)}>(0x{code:x})"


# --- arithmetic ---
_INFIX = {
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&&", "or": "||",
    "bit_and": "&", "bit_or": "|", "bit_xor": "^",
}  # fmt: skip
_WRAPPING = {"add": "+", "sub": "-", "mul": "*"}
_PREFIX = {"not": "!", "bit_not": "~"}
# Where the prelude's name is not the opcode.
_CALLS = {
    "bit_and": "and", "bit_or": "or", "bit_xor": "xor", "bit_not": "not",
}  # fmt: skip


@emits(elementwise.Elementwise)
def _arithmetic(e: _Emitter, i: elementwise.Elementwise) -> Iterator[str]:
    operands = [getattr(i, name) for name in i.fields]
    plain = all(isinstance(o, Immediate) or is_plain(o.type) for o in operands)
    floats = any(o.type is not None and o.type.dtype.is_float for o in operands)
    if is_plain(i.result.type) and plain and not floats:
        yield e.assign(i, _plain_arithmetic(e, i, operands))
        return
    name = _CALLS.get(i.opcode, i.opcode)
    if i.opcode == "div" and not i.kind.is_float:
        name = "floordiv"
    arguments = ", ".join(e.register(operand) for operand in operands)
    yield from _into_register(e, i, f"vm_{name}", arguments)


def _plain_arithmetic(e: _Emitter, i: elementwise.Elementwise, operands: list[Any]) -> str:
    texts = [e.plain(operand) for operand in operands]
    opcode, kind = i.opcode, i.kind
    if opcode in _INFIX:
        return f"{texts[0]} {_INFIX[opcode]} {texts[1]}"
    if opcode in _PREFIX:
        return f"{_PREFIX[opcode]}{texts[0]}"
    if opcode == "where":
        return f"{texts[0]} ? {texts[1]} : {texts[2]}"
    if opcode in _WRAPPING and kind.kind == "unsigned":
        return f"{texts[0]} {_WRAPPING[opcode]} {texts[1]}"
    divisor = operands[1].value if len(operands) > 1 and isinstance(operands[1], Immediate) else 0
    if opcode in ("div", "mod") and divisor > 0 and divisor & (divisor - 1) == 0:
        # Shifts and masks floor, for negative numbers too.
        shift = divisor.bit_length() - 1
        return f"{texts[0]} >> {shift}" if opcode == "div" else f"{texts[0]} & {divisor - 1}"
    if opcode in ("div", "mod") and divisor > 0 and kind.kind == "unsigned":
        return f"{texts[0]} {'/' if opcode == 'div' else '%'} {texts[1]}"
    return f"vm_index_{opcode}<{NUMBERS[kind.name]}>({', '.join(texts)})"


@emits(registers.Cast)
def _cast(e: _Emitter, i: registers.Cast) -> Iterator[str]:
    source = i.x.type
    if is_plain(i.result.type) and (isinstance(i.x, Immediate) or is_plain(source)):
        kinds = {source.dtype.name, i.dtype.name}
        if i.dtype.name == "bool":
            yield e.assign(i, f"{e.plain(i.x)} != 0")
        elif i.overflow == "saturate" and not kinds <= {"bool", *_widening(source.dtype, i.dtype)}:
            yield e.assign(
                i, f"vm_index_cast<{NUMBERS[i.dtype.name]}, {NUMBERS[source.dtype.name]}>"
                f"({e.plain(i.x)})",
            )  # fmt: skip
        else:
            yield e.assign(i, f"({NUMBERS[i.dtype.name]}){e.plain(i.x)}")
        return
    way = {"toward_zero": "_toward_zero", "stochastic": "_stochastic"}.get(i.rounding, "")
    mode = "" if i.overflow == "saturate" else f"<vm_overflow_{i.overflow}>"
    random = "" if i.random is None else f", {e.register(i.random)}"
    yield from _into_register(e, i, f"vm_cast{way}{mode}", f"{e.register(i.x)}{random}")


def _into_register(e: _Emitter, i: Any, function: str, arguments: str) -> Iterator[str]:
    """A call of a function that writes a register, also where the result is a C++ number."""
    if is_plain(i.result.type):
        temporary = f"{e.name(i.result)}_register"
        yield f"{register_type(i.result.type)} {temporary};"
        yield f"{function}({temporary}, {arguments});"
        yield e.assign(i, f"vm_get<0>({temporary})")
        return
    declaration, target = e.target(i)
    yield from declaration
    yield f"{function}({target}, {arguments});"


@emits(randomness.Philox)
def _philox(e: _Emitter, i: randomness.Philox) -> Iterator[str]:
    stream = Immediate(0, U64) if i.stream is None else i.stream
    arguments = ", ".join(e.register(operand) for operand in (i.seed, i.counter, stream))
    yield from _into_register(e, i, "vm_philox", arguments)


@emits(tables.Lookup)
def _lookup(e: _Emitter, i: tables.Lookup) -> Iterator[str]:
    yield from _into_register(e, i, "vm_lookup", f"{e.register(i.codes)}, {e.register(i.table)}")


def _widening(source: DType, target: DType) -> set[str]:
    """Both names where every value of the source is one of the target."""
    fits = target.min <= source.min and source.max <= target.max
    return {source.name, target.name} if fits else set()


# --- registers ---
@emits(lanes.ThreadIndex)
def _thread_index(e: _Emitter, i: lanes.ThreadIndex) -> Iterator[str]:
    group = e.groups.get(i.scope.group)
    thread = "VM_THREAD"
    if group is not None:
        thread = group.thread() if i.scope.copies == 1 else f"{group.thread()} % {group.threads}"
    yield e.assign(i, thread)


@emits(sync.GroupIndex)
def _group_index(e: _Emitter, i: sync.GroupIndex) -> Iterator[str]:
    yield e.assign(i, e.groups[i.scope.group].index(i.scope.copies))


@emits(control.Copy, lanes.Spread, lanes.Uniform)
def _copy(e: _Emitter, i: Any) -> Iterator[str]:
    if is_plain(i.result.type):
        yield e.assign(i, e.plain(i.x))
        return
    declaration, target = e.target(i)
    yield from declaration
    source = e.register(i.x)
    slots = 1 if isinstance(i.result.type, ScalarType) else i.result.type.layout.slots
    yield f"{target} = {source};" if slots > 1 or not isinstance(i.x, Immediate) else (
        f"vm_fill({target}, {source});"
    )


@emits(lanes.Undefined)
def _undefined(e: _Emitter, i: lanes.Undefined) -> Iterator[str]:
    declaration, _ = e.target(i)
    yield from declaration


@emits(registers.Fill)
def _fill(e: _Emitter, i: registers.Fill) -> Iterator[str]:
    if is_plain(i.result.type):
        yield e.assign(i, e.plain(i.value))
        return
    declaration, target = e.target(i)
    yield from declaration
    yield f"vm_fill({target}, {e.register(i.value)});"


@emits(registers.View)
def _view(e: _Emitter, i: registers.View) -> Iterator[str]:
    if is_plain(i.result.type):
        temporary = f"{e.name(i.result)}_register"
        yield f"{register_type(i.result.type)} {temporary};"
        yield f"vm_view({temporary}, {e.register(i.x)});"
        yield e.assign(i, f"vm_get<0>({temporary})")
        return
    declaration, target = e.target(i)
    yield from declaration
    yield f"vm_view({target}, {e.register(i.x)});"


@emits(lanes.Pick)
def _pick(e: _Emitter, i: lanes.Pick) -> Iterator[str]:
    if is_plain(i.result.type):
        yield e.assign(
            i, e.plain(i.x) if is_plain(i.x.type) else f"vm_get<{i.slots[0]}>({e.name(i.x)})"
        )
        return
    declaration, target = e.target(i)
    yield from declaration
    identity = i.slots == tuple(range(i.x.type.layout.slots))
    if identity:
        yield f"{target} = {e.register(i.x)};"
    elif len(set(i.slots)) == 1 and i.x.type.layout.slots == 1:
        yield f"vm_fill({target}, {e.register(i.x)});"
    else:
        yield f"vm_pick<{', '.join(map(str, i.slots))}>({target}, {e.register(i.x)});"


@emits(lanes.Pad)
def _pad(e: _Emitter, i: lanes.Pad) -> Iterator[str]:
    yield from _into_register(e, i, "vm_pad", e.register(i.x))


@emits(lanes.Interleave)
def _interleave(e: _Emitter, i: lanes.Interleave) -> Iterator[str]:
    yield from _into_register(e, i, "vm_interleave", ", ".join(map(e.register, i.parts)))


@emits(nvidia_words.WordInstruction)
def _words(e: _Emitter, i: nvidia_words.WordInstruction) -> Iterator[str]:
    """An instruction on one word of each thread, or on other numbers than words."""
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
    yield from _into_register(e, i, _function(i), ", ".join(map(e.register, operands)))


def _words_together(e: _Emitter, run: Sequence[nvidia_words.WordInstruction]) -> Iterator[str]:
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


def _word_at_i(e: _Emitter, operand: Value) -> str:
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


@emits(lanes.SlotConstants)
def _slot_constants(e: _Emitter, i: lanes.SlotConstants) -> Iterator[str]:
    codes = i.dtype.encode(np.asarray(i.values, i.dtype.array))
    if is_plain(i.result.type):
        yield e.assign(i, literal(Immediate(i.values[0], i.dtype)))
        return
    declaration, target = e.target(i)
    yield from declaration
    for slot, code in enumerate(codes):
        yield f"vm_set_code({target}, {slot}, 0x{int(code):x});"


# --- control ---
@emits(control.If)
def _if(e: _Emitter, i: control.If) -> Iterator[str]:
    e.lines.append(f"{e.indent}if ({e.plain(i.condition)}) {{")
    e.nested(i.then)
    if i.otherwise:
        e.lines.append(f"{e.indent}}} else {{")
        e.nested(i.otherwise)
    yield "}"


@emits(control.For)
def _for(e: _Emitter, i: control.For) -> Iterator[str]:
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


def _bound(e: _Emitter, operand: Any, name: str, kind: str) -> str:
    """A bound of a loop: what a variable held at its beginning, whatever it is assigned inside."""
    if not isinstance(operand, Value) or not operand.mutable:
        return e.plain(operand)
    e.lines.append(f"{e.indent}const {kind} {name} = {e.plain(operand)};")
    return name


@emits(control.While)
def _while(e: _Emitter, i: control.While) -> Iterator[str]:
    e.lines.append(f"{e.indent}while (true) {{")
    e.nested(i.body)
    yield "}"


@emits(control.Group)
def _group(e: _Emitter, i: control.Group) -> Iterator[str]:
    width = e.kernel.warp_width
    first = i.first_warp * width
    last = first + i.copies * i.warps * width
    e.groups[i.name] = _OpenGroup(first, i.warps * width, e.next_barrier)
    if i.warps > 1:
        e.next_barrier -= i.copies
    low = f"VM_THREAD >= {first} && " if first else ""
    e.lines.append(f"{e.indent}if ({low}VM_THREAD < {last}) {{  // group {i.name}")
    e.nested(i.body)
    yield "}"
    if any(isinstance(each, sync.Exit) for each in control.walk(i.body)):
        yield f"{_end_of_group(e, i.name)}:;"


def _end_of_group(e: _Emitter, name: str) -> str:
    return f"end_of_group_{list(e.groups).index(name)}"


@emits(control.Declare)
def _declare(e: _Emitter, i: control.Declare) -> Iterator[str]:
    yield f"{e.declare(i.variable)};"


@emits(control.Jump)
def _jump(e: _Emitter, i: control.Jump) -> Iterator[str]:
    yield f"{i.kind};"


@emits(sync.Exit)
def _exit(e: _Emitter, i: sync.Exit) -> Iterator[str]:
    group = i.scope.group
    yield "return;" if group is None else f"goto {_end_of_group(e, group)};"


# --- blocks and barriers ---
@emits(sync.BlockIndex, sync.GridSize)
def _coordinates(e: _Emitter, i: Any) -> Iterator[str]:
    macro = "VM_BLOCK_INDEX" if isinstance(i, sync.BlockIndex) else "VM_GRID_SIZE"
    for axis, value in enumerate(i.results):
        yield f"const {e.declare(value)} = {macro}({axis});"


@emits(sync.Synchronize)
def _synchronize(e: _Emitter, i: sync.Synchronize) -> Iterator[str]:
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
def _barrier(e: _Emitter, i: sync.Barrier) -> Iterator[str]:
    name = "vm_barrier_arrive" if i.arrive else "vm_barrier"
    yield f"{name}({i.id}, {i.warps * e.kernel.warp_width});"


@emits(sync.GridLaunchDependents)
def _grid_launch_dependents(e: _Emitter, i: sync.GridLaunchDependents) -> Iterator[str]:
    yield "vm_grid_launch_dependents();"


@emits(sync.GridWait)
def _grid_wait(e: _Emitter, i: sync.GridWait) -> Iterator[str]:
    yield "vm_grid_wait();"


@emits(asynchronous.CommitAsync)
def _commit(e: _Emitter, i: asynchronous.CommitAsync) -> Iterator[str]:
    yield "vm_commit_async();"


@emits(asynchronous.WaitAsync)
def _wait(e: _Emitter, i: asynchronous.WaitAsync) -> Iterator[str]:
    yield f"vm_wait_async<{i.pending}>();"


# --- memory ---
@emits(memory.SharedAllocate)
def _shared(e: _Emitter, i: memory.SharedAllocate) -> Iterator[str]:
    yield (
        f"// {i.result.name or 'scratch'}: {i.dtype.name}{list(i.shape)} in shared memory from "
        f"byte {i.address}"
    )


@emits(memory.GlobalView)
def _global_view(e: _Emitter, i: memory.GlobalView) -> Iterator[str]:
    base, value = e.name(i.base.base), i.result
    const = "const " if not value.type.is_written else ""
    offset = "0" if i.offset is None else e.plain(i.offset)
    behind = "" if i.byte_offset is None else f" + {e.plain(i.byte_offset)}"
    yield (
        f"{const}unsigned char* const {e.name(value)} = "
        f"{base} + (long long){offset} * {i.dtype.bits} / 8{behind};"
    )


def _address(e: _Emitter, tile: Tile, offset: Any, plus: int) -> str:
    moved = f" + {plus}" if plus else ""
    return f"{e.name(tile.base)} + {e.plain(offset)}{moved}"


def _plus(e: _Emitter, address: Any, plus: int) -> str:
    moved = f" + {plus}u" if plus else ""
    return f"(unsigned){e.plain(address)}{moved}"


def _partial(e: _Emitter, i: Instruction, before: Value | None = None) -> Iterator[str]:
    """What comes before an instruction that replaces part of x, or of another operand: its result
    begins as that."""
    before = i.x if before is None else before
    if i.result is before:
        return
    declaration, target = e.target(i)
    yield from declaration
    value = e.plain(before) if is_plain(i.result.type) else e.register(before)
    yield f"{target} = {value};"


def _cache(i: Any) -> str:
    return "" if i.cache == "default" else f", vm_cache_{i.cache}"


def _words_of_load(e: _Emitter, i: Any, load: Callable[[str], str]) -> Iterator[str]:
    """A load into the words of its result. A C++ bool is no word: NVRTC takes what is written to it
    as one for undefined, and codes above 1 read as true."""
    yield from _partial(e, i)
    if not _is_plain_bool(i.result):
        yield load(e.words(i.result))
        return
    name = e.name(i.result)
    yield f"{{ unsigned {name}_word = 0; {load(f'&{name}_word')} {name} = {name}_word != 0; }}"


def _words_of_store(e: _Emitter, i: Any, store: Callable[[str], str]) -> Iterator[str]:
    """A store of the words of its operand."""
    if not _is_plain_bool(i.x):
        yield store(e.words(i.x))
        return
    name = e.name(i.x)
    yield f"{{ unsigned {name}_word = {name}; {store(f'&{name}_word')} }}"


def _is_plain_bool(value: Value) -> bool:
    return is_plain(value.type) and value.type.dtype.name == "bool"


@emits(gpu.LoadGlobal)
def _load_global(e: _Emitter, i: gpu.LoadGlobal) -> Iterator[str]:
    yield from _words_of_load(e, i, lambda words: (
        f"vm_load_global<{i.bytes}{_cache(i)}>({words}, {i.at}, "
        f"{_address(e, i.base, i.offset, i.plus)}{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.StoreGlobal)
def _store_global(e: _Emitter, i: gpu.StoreGlobal) -> Iterator[str]:
    yield from _words_of_store(e, i, lambda words: (
        f"vm_store_global<{i.bytes}{_cache(i)}>({_address(e, i.base, i.offset, i.plus)}, "
        f"{words}, {i.at}{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.LoadShared)
def _load_shared(e: _Emitter, i: gpu.LoadShared) -> Iterator[str]:
    yield from _words_of_load(e, i, lambda words: (
        f"vm_load_shared<{i.bytes}>({words}, {i.at}, {_plus(e, i.address, i.plus)}"
        f"{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.StoreShared)
def _store_shared(e: _Emitter, i: gpu.StoreShared) -> Iterator[str]:
    yield from _words_of_store(e, i, lambda words: (
        f"vm_store_shared<{i.bytes}>({_plus(e, i.address, i.plus)}, {words}, {i.at}"
        f"{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.LoadGlobalBits)
def _load_global_bits(e: _Emitter, i: gpu.LoadGlobalBits) -> Iterator[str]:
    yield from _partial(e, i)
    yield (
        f"vm_load_bits_global({e.name(i.result)}, {i.slot}, {e.name(i.base.base)}, "
        f"{e.plain(i.bit)}{e.predicate(i.predicate)});"
    )


@emits(gpu.StoreGlobalBits)
def _store_global_bits(e: _Emitter, i: gpu.StoreGlobalBits) -> Iterator[str]:
    yield (
        f"vm_store_bits_global({e.name(i.base.base)}, {e.plain(i.bit)}, {e.register(i.x)}, "
        f"{i.slot}{e.predicate(i.predicate)});"
    )


@emits(gpu.LoadSharedBits)
def _load_shared_bits(e: _Emitter, i: gpu.LoadSharedBits) -> Iterator[str]:
    yield from _partial(e, i)
    yield (
        f"vm_load_bits_shared({e.name(i.result)}, {i.slot}, 0u, {e.plain(i.bit)}"
        f"{e.predicate(i.predicate)});"
    )


@emits(gpu.StoreSharedBits)
def _store_shared_bits(e: _Emitter, i: gpu.StoreSharedBits) -> Iterator[str]:
    yield (
        f"vm_store_bits_shared(0u, {e.plain(i.bit)}, {e.register(i.x)}, {i.slot}"
        f"{e.predicate(i.predicate)});"
    )


@emits(nvidia.CopyAsync)
def _copy_async(e: _Emitter, i: nvidia.CopyAsync) -> Iterator[str]:
    yield (
        f"vm_copy_async<{i.bytes}>({_plus(e, i.address, i.plus)}, "
        f"{_address(e, i.base, i.offset, 0)}{e.predicate(i.predicate)});"
    )


@emits(nvidia.LoadMatrix)
def _load_matrix(e: _Emitter, i: nvidia.LoadMatrix) -> Iterator[str]:
    yield from _partial(e, i)
    transposed = "true" if i.transposed else "false"
    yield (
        f"vm_ldmatrix<{i.count}, {transposed}>({e.words(i.result)} + {i.at}, "
        f"{_plus(e, i.address, i.plus)});"
    )


@emits(nvidia.StoreMatrix)
def _store_matrix(e: _Emitter, i: nvidia.StoreMatrix) -> Iterator[str]:
    transposed = "true" if i.transposed else "false"
    yield (
        f"vm_stmatrix<{i.count}, {transposed}>({_plus(e, i.address, i.plus)}, "
        f"{e.words(i.x)} + {i.at});"
    )


@emits(gpu.MatrixMultiply)
def _matrix_multiply(e: _Emitter, i: gpu.MatrixMultiply) -> Iterator[str]:
    if i.result is not i.c:
        declaration, target = e.target(i)
        yield from declaration
        yield f"{target} = {e.register(i.c)};"
    shape = "_".join(i.fragment.split("_")[:2])
    kinds = ", ".join(tag(o.type.dtype) for o in (i.a, i.b, i.c))
    places = [_word_range(e, o, at) for o, at in ((i.result, i.at_c), (i.a, i.at_a), (i.b, i.at_b))]
    setup = [line for line, _ in places if line]
    call = f"vm_{shape}<{kinds}>({', '.join(text for _, text in places)});"
    if setup:
        yield "{ " + " ".join(setup) + f" {call} }}"
    else:
        yield call


def _word_range(e: _Emitter, operand: Value, at: tuple[int, ...]) -> tuple[str, str]:
    """(what comes first, the pointer) for words that an instruction takes as neighbours."""
    words = e.words(operand)
    if at == tuple(range(at[0], at[0] + len(at))):
        return "", f"{words} + {at[0]}"
    name = f"{e.name(operand)}_words"
    listed = ", ".join(f"{words}[{w}]" for w in at)
    return f"const unsigned {name}[] = {{{listed}}};", name


@emits(gpu.ShuffleXor)
def _shuffle(e: _Emitter, i: gpu.ShuffleXor) -> Iterator[str]:
    yield from _into_register(e, i, "vm_shuffle_xor", f"{e.register(i.x)}, {i.mask}")


@emits(gpu.Vote)
def _vote(e: _Emitter, i: gpu.Vote) -> Iterator[str]:
    yield from _into_register(e, i, f"vm_vote_{i.op}", e.register(i.x))


def _operation(e: _Emitter, i: Any) -> str:
    return f"vm_atomic_{i.op}, {tag(i.x.type.dtype)}"


def _shares_words(i: Any) -> bool:
    """Whether elements are narrower than a word: they are handed over with their register."""
    return i.x.type.dtype.bits < 32


def _slot_words(e: _Emitter, operand: Value, slot: int) -> str:
    per_slot = operand.type.dtype.bits // 32
    return f"{e.words(operand)} + {slot * per_slot}"


@emits(gpu_atomics.AtomicGlobal)
def _atomic_global(e: _Emitter, i: gpu_atomics.AtomicGlobal) -> Iterator[str]:
    yield from _partial(e, i, i.old)
    if _shares_words(i):
        yield (
            f"vm_atomic_slot_global<vm_atomic_{i.op}>({e.register(i.result)}, {i.slot}, "
            f"{_address(e, i.base, i.offset, i.plus)}, {e.register(i.x)}"
            f"{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_atomic_global<{_operation(e, i)}>({_slot_words(e, i.result, i.slot)}, "
        f"{_address(e, i.base, i.offset, i.plus)}, {_slot_words(e, i.x, i.slot)}"
        f"{e.predicate(i.predicate)});"
    )


@emits(gpu_atomics.ReduceGlobal)
def _reduce_global(e: _Emitter, i: gpu_atomics.ReduceGlobal) -> Iterator[str]:
    if _shares_words(i):
        yield (
            f"vm_reduce_slot_global<vm_atomic_{i.op}>({_address(e, i.base, i.offset, i.plus)}, "
            f"{e.register(i.x)}, {i.slot}{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_reduce_global<{_operation(e, i)}>({_address(e, i.base, i.offset, i.plus)}, "
        f"{_slot_words(e, i.x, i.slot)}{e.predicate(i.predicate)});"
    )


@emits(gpu_atomics.AtomicShared)
def _atomic_shared(e: _Emitter, i: gpu_atomics.AtomicShared) -> Iterator[str]:
    yield from _partial(e, i, i.old)
    if _shares_words(i):
        yield (
            f"vm_atomic_slot_shared<vm_atomic_{i.op}>({e.register(i.result)}, {i.slot}, "
            f"{_plus(e, i.address, i.plus)}, {e.register(i.x)}{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_atomic_shared<{_operation(e, i)}>({_slot_words(e, i.result, i.slot)}, "
        f"{_plus(e, i.address, i.plus)}, {_slot_words(e, i.x, i.slot)}{e.predicate(i.predicate)});"
    )


@emits(gpu_atomics.ReduceShared)
def _reduce_shared(e: _Emitter, i: gpu_atomics.ReduceShared) -> Iterator[str]:
    if _shares_words(i):
        yield (
            f"vm_reduce_slot_shared<vm_atomic_{i.op}>({_plus(e, i.address, i.plus)}, "
            f"{e.register(i.x)}, {i.slot}{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_reduce_shared<{_operation(e, i)}>({_plus(e, i.address, i.plus)}, "
        f"{_slot_words(e, i.x, i.slot)}{e.predicate(i.predicate)});"
    )


# --- debugging ---
@emits(debugging.Print)
def _print(e: _Emitter, i: debugging.Print) -> Iterator[str]:
    label = "".join(c if c.isalnum() or c in " _-=:.,()[]" else "?" for c in i.label)
    yield f'vm_print("{label}", {e.register(i.x)});'


@emits(debugging.Assert)
def _assert(e: _Emitter, i: debugging.Assert) -> Iterator[str]:
    yield f"vm_assert_all({e.register(i.condition)});"


def unwritten() -> list[str]:
    """Opcodes of the machine level that nothing here writes, nor a pass before in other words: for
    the completeness test."""
    return sorted(
        opcode
        for opcode, kind in INSTRUCTIONS.items()
        if opcode.startswith(("nv.", "amd."))
        and kind not in EXPANDED
        and not any(base in _EMITTERS for base in kind.__mro__)
    )


