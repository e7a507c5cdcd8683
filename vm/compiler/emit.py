"""Machine level to C++: one prelude call for each instruction, plain C++ for the rest. How each
instruction is written is in emit_*.py, by family; this has what they share.

The same text compiles for GPUs and for the emulator. Integers and truth values that are scalars or
per-thread values are C++ variables; every other register tensor is a `vm_register<T, N>`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.compiler.launch_memory import launch_memory
from vm.compiler.rewrite import is_per_thread
from vm.compiler.words import EXPANDED, together
from vm.errors import InternalError, Origin, VmError, fail
from vm.isa import control
from vm.isa.conversion import entry_boundaries
from vm.isa.dtypes import DType
from vm.isa.instruction import INSTRUCTIONS, Instruction
from vm.isa.kernel import Kernel
from vm.isa.types import GlobalType, Immediate, ScalarType, Value
from vm.runtime.scalars import NUMBERS, cpp_type

# Ids of named barriers from the last down belong to the compiler: one for each group.
LAST_BARRIER = 15

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
    return Emitter(kernel).text(shared_bytes, blocks_per_multiprocessor)


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
class OpenGroup:
    """Where the threads of a group are, and the barrier of its first copy; others have those
    below."""

    first: int
    threads: int
    barrier: int

    def thread(self) -> str:
        return f"(VM_THREAD - {self.first})" if self.first else "VM_THREAD"

    def index(self, copies: int) -> str:
        return "0" if copies == 1 else f"vm_warp_uniform({self.thread()} / {self.threads})"


class Emitter:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.names: dict[Value, str] = {}
        self.lines: list[str] = []
        self.indent = "  "
        self.said: tuple[str, int] | None = None
        self.groups: dict[str, OpenGroup] = {}
        self.next_barrier = LAST_BARRIER

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
            lines = self.emitter(type(instruction))(self, instruction, *others)
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


def into_register(e: Emitter, i: Any, function: str, arguments: str) -> Iterator[str]:
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


