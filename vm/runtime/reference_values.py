"""References: whole tensors in f64, with the magnitudes that bounds of errors are made of.

Beside every value stands its *magnitude*: the sum of the absolute values of all that was added and
subtracted on the way to it, which is what rounding errors are proportional to where the value
itself cancels. An instruction says its own rule (`magnitude`), or says by `magnitude = None` that
the value's absolute value is it; all others only move elements, and move magnitudes alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.errors import InternalError, Origin, VmError, fail
from vm.isa import control, syntax
from vm.isa.dtypes import DType, DTypeError
from vm.isa.elementwise import F64
from vm.isa.instruction import Instruction, Operand
from vm.isa.kernel import Kernel
from vm.isa.program import Program
from vm.isa.tensor import Tensor
from vm.isa.types import Immediate, RegisterType, ScalarType, Type, Value
from vm.runtime.reference_arguments import rounded_number


@dataclass(frozen=True)
class ReferenceResult:
    """What a reference returns: f64 arrays of the result's shape."""

    values: np.ndarray
    magnitude: np.ndarray


def run_reference(
    definition: Program | Kernel,
    arguments: Mapping[str, Any],
    *,
    output: Callable[[str], None] = print,
) -> ReferenceResult:
    """Runs a `reference`; arguments are `Tensor`s, NumPy arrays or numbers by name.

    Every instruction computes in f64, whatever the dtypes say; a cast to a narrower dtype still
    rounds to it, and integers are integers. A `Program` is instantiated for the shapes of the
    arguments. Raises `VmError` E0509 for arguments that do not fit, and what programs trap with.
    """
    kernel = definition
    if isinstance(definition, Program):
        kernel = instantiate_reference(definition, arguments)
    machine = _ReferenceMachine(kernel, output)
    for parameter in kernel.parameters:
        if parameter.name not in arguments:
            raise _misfit(kernel.name, parameter, "is not given", "give it")
        machine.store(machine.wide[parameter], _value(kernel, parameter, arguments))
    try:
        with np.errstate(all="ignore"):  # what overflows or is no number is the result
            for _ in machine.execute(machine.body):
                raise InternalError("a reference waits")
    except _Finished:
        return ReferenceResult(*machine.finished)
    raise fail(
        "E0509", f"reference `{kernel.name}` returned nothing", kernel.origin, "no `return` here",
        fix="end it in `return value`",
    )  # fmt: skip


def instantiate_reference(program: Program, arguments: Mapping[str, Any]) -> Kernel:
    """The reference with every size that stands alone in a shape bound by the arguments."""
    sizes: dict[str, int] = {}
    places: dict[str, Origin] = {}
    for parameter in program.definition.parameters:
        given = arguments.get(parameter.name)
        extents = _extents(parameter.type)
        if not extents or given is None or np.isscalar(given):
            continue
        shape = tuple(given.shape)
        if len(shape) != len(extents):
            raise fail(
                "E0509", f"`{parameter.name}` of `{program.name}` has {len(extents)} dimensions, "
                f"not {len(shape)}", parameter.origin, f"{list(shape)} is given",
                fix="give a tensor of that rank",
            )  # fmt: skip
        for extent, actual in zip(extents, shape, strict=True):
            if not isinstance(extent, syntax.Name) or extent.text in program.constants:
                continue
            if sizes.setdefault(extent.text, actual) != actual:
                raise fail(
                    "E0509", f"{extent.text} is {actual} in `{parameter.name}` and "
                    f"{sizes[extent.text]} elsewhere", parameter.origin,
                    f"{list(shape)} is given", others=((places[extent.text], "first here"),),
                    fix="give tensors whose shapes agree",
                )  # fmt: skip
            places.setdefault(extent.text, parameter.origin)
    return program.instantiate(**sizes)


def _extents(type_: syntax.Expression) -> tuple[syntax.Expression | None, ...]:
    if not isinstance(type_, syntax.Subscript):
        return ()
    return tuple(index.offset for index in type_.indices)


def _misfit(name: str, parameter: Value, what: str, fix: str) -> VmError:
    return fail(
        "E0509", f"`{parameter.name}` of `{name}` {what}", parameter.origin,
        f"is {parameter.type}", fix=fix,
    )  # fmt: skip


def _value(kernel: Kernel, parameter: Value, arguments: Mapping[str, Any]) -> Any:
    """An argument as values: arrays of f64 for real numbers, else as the dtype holds them."""
    given, type_ = arguments[parameter.name], parameter.type
    if isinstance(type_, ScalarType):
        if isinstance(given, np.generic):
            given = given.item()
        if not isinstance(given, (int, float)):
            raise _misfit(kernel.name, parameter, f"is one number, not {given!r}", "give a number")
        return rounded_number(given, type_.dtype)
    if not isinstance(type_, RegisterType):
        raise _misfit(
            kernel.name, parameter, "is memory, and a reference takes whole tensors",
            f"declare it {type_.dtype.name}[...]",
        )  # fmt: skip
    try:
        tensor = given
        if not isinstance(given, Tensor):
            tensor = Tensor(type_.dtype, type_.shape, np.asarray(given))
    except DTypeError as error:
        raise _misfit(
            kernel.name, parameter, f"does not fit: {error}", "give that dtype and shape"
        ) from None
    if tensor.dtype != type_.dtype or tensor.shape != type_.shape:
        raise _misfit(
            kernel.name, parameter, f"is {type_.dtype.name}{list(type_.shape)}, not {tensor!r}",
            "give a tensor of that dtype and shape",
        )  # fmt: skip
    return tensor.values()


class _Finished(Exception):
    """A reference has come to its `return`."""


class _ReferenceMachine:
    """What the instructions of a reference run on: values, or for their magnitudes those."""

    def __init__(self, kernel: Kernel, output: Callable[[str], None]):
        self.kernel = kernel
        self.output = output
        self.wide: dict[Value, Value] = {}
        self.values: dict[Value, Any] = {}
        self.magnitudes: dict[Value, Any] = {}
        self.finished: tuple[np.ndarray, np.ndarray] | None = None
        for parameter in (*kernel.parameters, *kernel.sizes):
            self._widen_value(parameter)
        self.body = self._widen(kernel.body)
        self._registers = self.values

    # --- every float becomes f64 ---
    def _widen_value(self, value: Value) -> Value:
        if value not in self.wide:
            self.wide[value] = Value(
                value.name, _wide_type(value.type), value.origin, value.mutable
            )
        return self.wide[value]

    def _widen_operand(self, operand: Any) -> Any:
        if isinstance(operand, tuple):
            return tuple(self._widen_operand(part) for part in operand)
        if isinstance(operand, Value):
            return self._widen_value(operand)
        if isinstance(operand, Immediate) and operand.dtype is not None and operand.dtype.is_float:
            return Immediate(rounded_number(operand.value, operand.dtype), F64, operand.origin)
        return operand

    def _widen(self, statements: Sequence[Instruction]) -> list[Instruction]:
        result = []
        for instruction in statements:
            made = copy.copy(instruction)
            for name, item in made.fields.items():
                if isinstance(item, Operand):
                    setattr(made, name, self._widen_operand(getattr(made, name)))
            for name, held in vars(instruction).items():
                if name == "kind" and isinstance(held, DType) and held.is_float:
                    made.kind = F64
                elif isinstance(held, list):
                    setattr(made, name, self._widen(held))
                elif isinstance(held, Value) and name not in made.fields:
                    setattr(made, name, self._widen_value(held))
            made.results = tuple(self._widen_value(value) for value in instruction.results)
            result.append(made)
        return result

    # --- running ---
    def value(self, operand: Any) -> Any:
        if isinstance(operand, Immediate):
            return operand.value
        return self._registers[operand]

    def assign(self, variable: Value, data: Any) -> None:
        self.store(variable, data)

    def declare(self, variable: Value) -> None:
        self.values.pop(variable, None)

    def store(self, value: Value, data: Any, magnitude: Any = None) -> None:
        """Gives a name its value; reals are held in f64."""
        if value.type.dtype.is_float:
            data = np.asarray(data, np.float64) if isinstance(data, np.ndarray) else float(data)
        self.values[value] = data
        own = np.abs(np.asarray(data, np.float64))
        if magnitude is not None:
            own = np.fmax(own, np.abs(np.asarray(magnitude, np.float64)))
        self.magnitudes[value] = own if isinstance(data, np.ndarray) else float(own)

    def execute(self, statements: Sequence[Instruction]) -> Generator[Any, None, str | None]:
        for instruction in statements:
            if isinstance(instruction, control.Jump):
                return instruction.kind
            result = instruction.run(self)
            if instruction.suspends:
                jump = yield from result
                if jump is not None:
                    return jump
            elif len(instruction.results) == 1:
                (value,) = instruction.results
                self.store(value, result, self._magnitude(instruction))
        return None

    def _magnitude(self, instruction: Instruction) -> Any:
        """The magnitude of an instruction's result; None where it is the value's own."""
        rule = getattr(instruction, "magnitude", self._moved)
        if rule is None or not instruction.result.type.dtype.is_float:
            return None
        if rule == self._moved:
            return self._moved(instruction)
        return rule(*(self._magnitude_of(operand) for operand in instruction.operands()))

    def _magnitude_of(self, operand: Any) -> Any:
        if isinstance(operand, Immediate):
            return np.float64(abs(operand.value))
        return np.asarray(self.magnitudes[operand])

    def _moved(self, instruction: Instruction) -> Any:
        """What an instruction that only moves elements does to their magnitudes."""
        floats = all(
            operand.type.dtype.is_float for operand in instruction.operands()
            if not isinstance(operand, Immediate)
        )  # fmt: skip
        if not floats:
            return None
        self._registers = self.magnitudes
        try:
            return instruction.run(self)
        finally:
            self._registers = self.values

    def turn(self, instruction: Instruction) -> Generator[Any, None, None]:
        return
        yield

    def print(self, text: str) -> None:
        self.output(text)

    @property
    def block_index(self) -> str:
        return f"of `{self.kernel.name}`"

    def finish(self, operand: Any) -> None:
        values = np.asarray(self.value(operand), np.float64)
        magnitude = self._magnitude_of(operand)
        self.finished = (values, np.broadcast_to(np.asarray(magnitude), values.shape))
        raise _Finished

    def trap(
        self, code: str, message: str, instruction: Instruction, field: str | None = None,
        label: str = "", *, fix: str | None = None,
    ) -> VmError:  # fmt: skip
        notes = (f"in reference `{self.kernel.name}`",)
        return instruction.refuse(code, message, field, label, notes=notes, fix=fix)


def _wide_type(type_: Type) -> Type:
    """The type with f64 for every other real dtype."""
    if not isinstance(type_, (ScalarType, RegisterType)) or not type_.dtype.is_float:
        return type_
    if isinstance(type_, ScalarType):
        return ScalarType(F64)
    return RegisterType(F64, type_.shape, type_.layout)
