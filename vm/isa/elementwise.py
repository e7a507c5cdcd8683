"""Arithmetic on scalars and on register tensors, element by element.

One class serves both: on scalars the result is uniform, on tensors shapes broadcast as in NumPy.
Every operation is rounded once, in the operands' own type; integers wrap. Types that only store
(tf32, floats and integers below 8 bits, scales, codebooks) are cast before they are computed with.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from vm.isa.conversion import convert
from vm.isa.dtypes import DType, dtype
from vm.isa.instruction import Instruction, Operand, describe, layout_of, shape_of
from vm.isa.layout_constraints import SAME, Broadcasts, LayoutConstraint
from vm.isa.types import CONSTANT_DTYPES, RegisterType, ScalarType, Type

ARITHMETIC = frozenset(
    ["bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64"]
)
BOOL, F32, F64 = dtype("bool"), dtype("f32"), dtype("f64")


def wrap(value: int, kind: DType) -> int:
    """The integer modulo 2^bits, in the range of `kind`."""
    if kind.kind == "bool":
        return bool(value)
    value &= (1 << kind.bits) - 1
    return value - (1 << kind.bits) if kind.kind == "signed" and value > kind.max else value


def broadcast_shapes(instruction: Instruction, names: list[str]) -> tuple[int, ...]:
    """The common shape of the operands `names`; raises E0302 where there is none."""
    result: tuple[int, ...] = ()
    for name in names:
        shape = shape_of(getattr(instruction, name))
        try:
            result = np.broadcast_shapes(result, shape)
        except ValueError:
            others = [(instruction.place(n), f"{list(shape_of(getattr(instruction, n)))}")
                      for n in names if n != name]  # fmt: skip
            raise instruction.refuse(
                "E0302", f"shapes {list(result)} and {list(shape)} do not broadcast", name,
                f"{list(shape)}", others=others,
                fix="extents must be equal or 1 in each dimension, counted from the last",
            ) from None  # fmt: skip
    return result


class Elementwise(Instruction):
    """Computes each element of the result from the elements at the same index."""

    # Kinds of dtype that the operation has a meaning for.
    kinds: ClassVar[tuple[str, ...]] = ("integer", "float")
    # The fields that share one dtype; the others are given by `conditions`.
    conditions: ClassVar[tuple[str, ...]] = ()
    compute: ClassVar[Callable[..., Any]]

    def check(self) -> Type:
        values = [name for name in self.fields if name not in self.conditions]
        for name in self.conditions:
            self.give_dtype(name, BOOL)
            if self.dtype_of(getattr(self, name)) != BOOL:
                raise self._no_meaning(name, "a condition is bool")
        self.kind = self._common_dtype(values)
        for name in values:
            self.give_dtype(name, self.kind)
        shape = broadcast_shapes(self, list(self.fields))
        registers = [n for n in self.fields if isinstance(getattr(self, n).type, RegisterType)]
        result = self.result_dtype(self.kind)
        if not registers:
            return ScalarType(result)
        layouts = {
            layout_of(getattr(self, n)) for n in registers if shape_of(getattr(self, n)) == shape
        } - {None}
        return RegisterType(result, shape, layouts.pop() if len(layouts) == 1 else None)

    def constrain(self) -> LayoutConstraint | None:
        """Operands of the result's shape have its layout, the others that without their axes."""
        registers = {
            name: shape_of(getattr(self, name))
            for name in self.fields
            if isinstance(getattr(self, name).type, RegisterType)
        }
        if not registers:
            return None
        shape = broadcast_shapes(self, list(self.fields))
        return LayoutConstraint(
            shape,
            {
                name: SAME if own == shape else Broadcasts(own, shape)
                for name, own in registers.items()
            },
        )

    def _common_dtype(self, names: list[str]) -> DType:
        found: dict[DType, str] = {}
        for name in names:
            kind = self.dtype_of(getattr(self, name))
            if kind is not None:
                found.setdefault(kind, name)
        if len(found) > 1:
            (first, first_name), (second, second_name) = list(found.items())[:2]
            raise self.refuse(
                "E0205", f"`{self.symbol}` of {first.name} and {second.name}", second_name,
                f"this is {describe(getattr(self, second_name))}",
                others=(
                    (self.place(first_name), f"this is {describe(getattr(self, first_name))}"),
                ),
                fix=f"cast one side: cast(x, {first.name})",
            )  # fmt: skip
        kind = next(iter(found), None) or self._dtype_of_literals(names)
        name = found.get(kind, names[0])
        if self.scope.reference and kind.name not in ARITHMETIC and kind.is_float:
            return kind
        if kind.name not in ARITHMETIC:
            wide = "f16" if kind.is_float else "i32"
            raise self.refuse(
                "E0212", f"{kind.name} is a type of storage, not of arithmetic", name,
                f"this is {describe(getattr(self, name))}", fix=f"cast it: cast(x, {wide})",
            )  # fmt: skip
        family = "bool" if kind.kind == "bool" else "integer" if kind.is_integer else "float"
        if family not in self.kinds:
            raise self._no_meaning(name, f"it takes {' or '.join(self.kinds)}")
        return kind

    def _dtype_of_literals(self, names: list[str]) -> DType:
        """Rule Valid/untyped: what operands are that are literals, all of them."""
        values = [getattr(self, name).value for name in names]
        return next(CONSTANT_DTYPES[kind] for kind in (float, int, bool)
                    if any(type(value) is kind for value in values))  # fmt: skip

    @property
    def symbol(self) -> str:
        return self.operator or self.opcode

    def _no_meaning(self, name: str, wants: str):
        return self.refuse(
            "E0205", f"`{self.symbol}` has no meaning here: {wants}", name,
            f"this is {describe(getattr(self, name))}", fix="cast it, or use another instruction",
        )  # fmt: skip

    def result_dtype(self, kind: DType) -> DType:
        return kind

    def run(self, machine: Any) -> Any:
        values = [machine.value(getattr(self, name)) for name in self.fields]
        kind = self.kind
        result_kind = self.result_dtype(kind)
        scalar = not any(isinstance(value, np.ndarray) for value in values)
        if scalar and not kind.is_float and hasattr(self, "fold"):
            return wrap(self.fold(*values), result_kind)
        work = kind.array if kind.is_integer or kind.kind == "bool" or kind == F64 else np.float32
        arrays = [
            np.asarray(value, np.bool_ if name in self.conditions else work)
            for name, value in zip(self.fields, values, strict=True)
        ]
        with np.errstate(all="ignore"):
            result = type(self).compute(*arrays)
        result = round_result(result, result_kind)
        return result.item() if scalar else result

    def magnitude(self, *magnitudes: np.ndarray) -> np.ndarray:
        """The largest absolute value the result could have had, for error bounds."""
        return np.abs(type(self).compute(*magnitudes))


def round_result(result: Any, kind: DType) -> np.ndarray:
    """A computed array, rounded once to `kind`."""
    result = np.asarray(result)
    if kind.name == "bf16":
        return convert(result, F32 if result.dtype != np.float64 else F64, kind, overflow="ieee")
    return result.astype(kind.array, copy=False)


class Unary(Elementwise):
    """An operation on one operand."""

    x = Operand("register", "scalar")


class Binary(Elementwise):
    """An operation on two operands of one dtype."""

    x = Operand("register", "scalar")
    y = Operand("register", "scalar")


class Add(Binary, opcode="add", operator="+"):
    """x + y, rounded to nearest even; integers wrap."""

    compute = staticmethod(operator.add)
    fold = staticmethod(operator.add)


class Subtract(Binary, opcode="sub", operator="-"):
    """x - y, rounded to nearest even; integers wrap."""

    compute = staticmethod(operator.sub)
    fold = staticmethod(operator.sub)

    def magnitude(self, *magnitudes: np.ndarray) -> np.ndarray:
        return magnitudes[0] + magnitudes[1]


class Multiply(Binary, opcode="mul", operator="*"):
    """x * y, rounded to nearest even; integers wrap."""

    compute = staticmethod(operator.mul)
    fold = staticmethod(operator.mul)


class _Quotient(Binary):
    """What division and remainder share: an integer divisor of 0 is a fault."""

    def run(self, machine: Any) -> Any:
        if self.kind.is_integer and np.any(np.asarray(machine.value(self.y)) == 0):
            raise machine.trap("E0502", "division by zero", self, "y")
        return super().run(machine)


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.floor_divide(x, y) if x.dtype.kind in "iu" else np.true_divide(x, y)


class Divide(_Quotient, opcode="div", operator="/"):
    """x / y: floats rounded to nearest even, integers rounded down (towards minus infinity).

    An integer division by 0 traps; the smallest integer divided by -1 wraps.
    """

    compute = staticmethod(_divide)
    fold = staticmethod(lambda x, y: x // y if isinstance(x, int) and isinstance(y, int) else x / y)


def _modulo(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.mod(x, y)


class Modulo(_Quotient, opcode="mod", operator="%"):
    """x - y * (x / y) with the floored quotient: the result has the sign of y. Integers only."""

    kinds = ("integer",)
    compute = staticmethod(_modulo)
    fold = staticmethod(operator.mod)


class CeilDivide(_Quotient, opcode="ceil_div"):
    """The quotient of integers rounded up (towards plus infinity)."""

    kinds = ("integer",)
    compute = staticmethod(lambda x, y: np.floor_divide(x, y) + (np.mod(x, y) != 0))
    fold = staticmethod(lambda x, y: -(-x // y))


class Minimum(Binary, opcode="min"):
    """The smaller operand; where one is NaN, the other."""

    compute = staticmethod(np.fmin)
    fold = staticmethod(min)


class Maximum(Binary, opcode="max"):
    """The larger operand; where one is NaN, the other."""

    compute = staticmethod(np.fmax)
    fold = staticmethod(max)


class Negate(Unary, opcode="neg", operator="-"):
    """-x; integers wrap."""

    compute = staticmethod(np.negative)
    fold = staticmethod(operator.neg)


class Absolute(Unary, opcode="abs"):
    """The absolute value; that of the smallest signed integer wraps to itself."""

    compute = staticmethod(np.abs)
    fold = staticmethod(abs)


def fused_multiply_add(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z with one rounding to float64 "to odd", so that a second rounding is harmless.

    For operands of at most 24 significant bits the product is exact in float64. The sum is made
    exact by Knuth's two-sum and its last bit set where anything was lost: Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums" (2008).
    """
    product = x.astype(np.float64) * y.astype(np.float64)
    addend = z.astype(np.float64)
    total = product + addend
    back = total - product
    lost = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    inexact = (lost != 0) & np.isfinite(total) & (bits & 1 == 0)
    outwards = np.signbit(lost) == np.signbit(total)
    return np.where(inexact, bits + np.where(outwards, 1, -1), bits).view(np.float64)


class FusedMultiplyAdd(Elementwise, opcode="fma"):
    """x * y + z with a single rounding. Floats up to 32 bits."""

    kinds = ("float",)
    x = Operand("register", "scalar")
    y = Operand("register", "scalar")
    z = Operand("register", "scalar")
    compute = staticmethod(lambda x, y, z: fused_multiply_add(*np.broadcast_arrays(x, y, z)))

    def check(self) -> Type:
        type_ = super().check()
        if self.kind == F64:
            raise self._no_meaning("x", "it takes floats of at most 32 bits")
        return type_


class Equal(Binary, opcode="eq", operator="=="):
    """Whether x equals y: bool. NaN equals nothing, and -0 equals +0."""

    kinds = ("integer", "float", "bool")
    compute = staticmethod(operator.eq)
    fold = staticmethod(operator.eq)

    def result_dtype(self, kind: DType) -> DType:
        return BOOL


class NotEqual(Equal, opcode="ne", operator="!="):
    """Whether x differs from y: bool. NaN differs from everything."""

    compute = staticmethod(operator.ne)
    fold = staticmethod(operator.ne)


class Less(Equal, opcode="lt", operator="<"):
    """Whether x < y: bool. False where one is NaN."""

    kinds = ("integer", "float")
    compute = staticmethod(operator.lt)
    fold = staticmethod(operator.lt)


class LessEqual(Less, opcode="le", operator="<="):
    """Whether x <= y: bool. False where one is NaN."""

    compute = staticmethod(operator.le)
    fold = staticmethod(operator.le)


class Greater(Less, opcode="gt", operator=">"):
    """Whether x > y: bool. False where one is NaN."""

    compute = staticmethod(operator.gt)
    fold = staticmethod(operator.gt)


class GreaterEqual(Less, opcode="ge", operator=">="):
    """Whether x >= y: bool. False where one is NaN."""

    compute = staticmethod(operator.ge)
    fold = staticmethod(operator.ge)


class And(Binary, opcode="and", operator="and"):
    """Whether both hold. Both are computed."""

    kinds = ("bool",)
    compute = staticmethod(np.logical_and)
    fold = staticmethod(lambda x, y: x and y)


class Or(Binary, opcode="or", operator="or"):
    """Whether at least one holds. Both are computed."""

    kinds = ("bool",)
    compute = staticmethod(np.logical_or)
    fold = staticmethod(lambda x, y: x or y)


class Not(Unary, opcode="not", operator="not"):
    """Whether x does not hold."""

    kinds = ("bool",)
    compute = staticmethod(np.logical_not)
    fold = staticmethod(operator.not_)


class BitAnd(Binary, opcode="bit_and", operator="&"):
    """The bits set in both."""

    kinds = ("integer",)
    compute = staticmethod(operator.and_)
    fold = staticmethod(operator.and_)


class BitOr(Binary, opcode="bit_or", operator="|"):
    """The bits set in at least one."""

    kinds = ("integer",)
    compute = staticmethod(operator.or_)
    fold = staticmethod(operator.or_)


class BitXor(Binary, opcode="bit_xor", operator="^"):
    """The bits set in exactly one."""

    kinds = ("integer",)
    compute = staticmethod(operator.xor)
    fold = staticmethod(operator.xor)


class BitNot(Unary, opcode="bit_not", operator="~"):
    """Every bit turned over."""

    kinds = ("integer",)
    compute = staticmethod(np.invert)
    fold = staticmethod(operator.invert)


class _Shift(Binary):
    """What the shifts share: by the number of bits or more, all bits leave."""

    kinds = ("integer",)

    def run(self, machine: Any) -> Any:
        if np.any(np.asarray(machine.value(self.y)) < 0):
            raise machine.trap("E0504", "a shift by a negative number of bits", self, "y")
        return super().run(machine)


def _shift_left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bits = x.dtype.itemsize * 8
    return np.where(y >= bits, x.dtype.type(0), np.left_shift(x, np.minimum(y, bits - 1)))


def _shift_right(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bits = x.dtype.itemsize * 8
    filled = np.right_shift(x, x.dtype.type(bits - 1)) if x.dtype.kind == "i" else x.dtype.type(0)
    return np.where(y >= bits, filled, np.right_shift(x, np.minimum(y, bits - 1)))


class ShiftLeft(_Shift, opcode="shl", operator="<<"):
    """x with its bits moved up by y, zeros moved in."""

    compute = staticmethod(_shift_left)
    fold = staticmethod(lambda x, y: x << min(y, 4096))


class ShiftRight(_Shift, opcode="shr", operator=">>"):
    """x with its bits moved down by y: zeros moved in, copies of the sign for signed types."""

    compute = staticmethod(_shift_right)
    fold = staticmethod(lambda x, y: x >> min(y, 4096))


class Where(Elementwise, opcode="where"):
    """x where the condition holds, else y. Both are computed."""

    kinds = ("integer", "float", "bool")
    conditions = ("condition",)
    condition = Operand("register", "scalar")
    x = Operand("register", "scalar")
    y = Operand("register", "scalar")
    compute = staticmethod(np.where)
    fold = staticmethod(lambda condition, x, y: x if condition else y)

    def magnitude(self, *magnitudes: np.ndarray) -> np.ndarray:
        return np.maximum(magnitudes[1], magnitudes[2])


class _Function(Unary):
    """A function of floats, computed in float64 and rounded once."""

    kinds = ("float",)
    # Errors are in proportion to the result: the function of a magnitude says nothing of it.
    magnitude = None

    def run(self, machine: Any) -> Any:
        value = machine.value(self.x)
        with np.errstate(all="ignore"):
            result = type(self).compute(np.asarray(value, np.float64))
        result = round_result(result, self.kind)
        return result if isinstance(value, np.ndarray) else result.item()


class Exponential(_Function, opcode="exp"):
    """e to the power x; other executors may be off by 2 ulp."""

    compute = staticmethod(np.exp)


class Exponential2(_Function, opcode="exp2"):
    """2 to the power x; other executors may be off by 2 ulp."""

    compute = staticmethod(np.exp2)


class Logarithm(_Function, opcode="log"):
    """The natural logarithm; other executors may be off by 2 ulp. NaN for negative x."""

    compute = staticmethod(np.log)


class Logarithm2(_Function, opcode="log2"):
    """The logarithm to base 2; other executors may be off by 2 ulp. NaN for negative x."""

    compute = staticmethod(np.log2)


class SquareRoot(_Function, opcode="sqrt"):
    """The square root, rounded to nearest even. NaN for negative x."""

    compute = staticmethod(np.sqrt)


class ReciprocalSquareRoot(_Function, opcode="rsqrt"):
    """1 / sqrt(x); other executors may be off by 2 ulp."""

    compute = staticmethod(lambda x: 1.0 / np.sqrt(x))


class Tangent(_Function, opcode="tanh"):
    """The hyperbolic tangent; other executors may be off by 2 ulp."""

    compute = staticmethod(np.tanh)


class Sine(_Function, opcode="sin"):
    """The sine of x in radians; other executors may be off by 2 ulp for |x| <= 48000."""

    compute = staticmethod(np.sin)


class Cosine(_Function, opcode="cos"):
    """The cosine of x in radians; other executors may be off by 2 ulp for |x| <= 48000."""

    compute = staticmethod(np.cos)


class Floor(_Function, opcode="floor"):
    """The largest whole number that is at most x."""

    compute = staticmethod(np.floor)
    fold = staticmethod(math.floor)


class Ceiling(_Function, opcode="ceil"):
    """The smallest whole number that is at least x."""

    compute = staticmethod(np.ceil)
    fold = staticmethod(math.ceil)


class Round(_Function, opcode="round"):
    """The nearest whole number, ties to the even one."""

    compute = staticmethod(np.rint)
