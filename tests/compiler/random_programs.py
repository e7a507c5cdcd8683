"""Random programs that are right by construction, and the two ways in which their compiled form is
held to the meaning: the reference machine on every stage, and the emitted C++ on the emulator.

`python -m tests.compiler.random_programs --seconds 600` goes on for ten minutes with fresh
seeds and prints every program whose lowering differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tests.compiler.translation import copied
from vm.compiler import pipeline
from vm.compiler.facts import VARIANTS
from vm.errors import InternalError, VmError
from vm.isa.dtypes import DType
from vm.isa.elementwise import ARITHMETIC
from vm.isa.kernel import Kernel
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.isa.types import GlobalType
from vm.layouts import LayoutError, dot_layout
from vm.runtime import emulator, reference
from vm.runtime.compiled import _host_arguments, variant_for
from vm.runtime.reference_arguments import bind

TARGET = "sm_80"
INTEGERS = ("i32", "u32", "i8", "u8", "i16", "u4", "i6", "u3")
FLOATS = ("f32", "f16", "bf16")
EXTENTS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 32)
SMALLEST = {"u8": 0, "u32": 0}


@dataclass(frozen=True)
class Tensors:
    """A register tensor of the program that is being written."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        return self.kind in FLOATS


class ProgramWriter:
    """Writes one program: every step takes tensors that are there and makes another."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.name = f"p{seed}"
        self.threads = self.random.choice((32, 32, 64, 96, 128))
        self.lines: list[str] = []
        self.indent = "  "
        self.tensors: list[Tensors] = []
        self.inputs: list[str] = []
        self.parameters: list[str] = []
        self.facts: list[str] = []
        self.count = 0

    # --- small choices ---
    def fresh(self) -> str:
        self.count += 1
        return f"x{self.count}"

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    def shape(self) -> tuple[int, int]:
        while True:
            shape = (self.random.choice(EXTENTS), self.random.choice(EXTENTS))
            if prod(shape) <= 512:
                return shape

    def layout(self, shape: tuple[int, ...]) -> str:
        """A layout of the shape over all threads, copies included."""
        left, shares = self.threads, []
        for extent in shape:
            share = self.random.choice([d for d in range(1, extent + 1)
                                        if extent % d == 0 and left % d == 0])  # fmt: skip
            shares.append(share)
            left //= share
        rest = [e // s for e, s in zip(shape, shares, strict=True)]
        inner = [self.random.choice([d for d in range(1, r + 1) if r % d == 0]) for r in rest]
        outer = [r // i for r, i in zip(rest, inner, strict=True)]
        spread = self.random.choice(("spatial", "column_spatial"))
        within = self.random.choice(("local", "column_local"))
        parts = [f"{spread}({_joined(shares)})"]
        if left > 1:
            parts.insert(self.random.randrange(2), f"replicated({left})")
        if prod(inner) > 1:
            parts.append(f"{within}({_joined(inner)})")
        if prod(outer) > 1:
            parts.insert(self.random.randrange(len(parts)), f"local({_joined(outer)})")
        return ".".join(parts)

    def maybe_layout(self, shape: tuple[int, ...]) -> str:
        return f", layout={self.layout(shape)}" if self.random.random() < 0.4 else ""

    def made(self, kind: str, shape: tuple[int, ...], expression: str) -> Tensors:
        made = Tensors(self.fresh(), kind, shape)
        self.line(f"{made.name} = {expression}")
        self.tensors.append(made)
        return made

    def pick(self) -> Tensors:
        return self.random.choice(self.tensors)

    def number(self, *, integers: bool | None = None) -> Tensors:
        """A tensor that can be computed with."""
        found = [
            t for t in self.tensors
            if t.kind in ARITHMETIC and (integers is None or t.is_float != integers)
        ]  # fmt: skip
        if found:
            return self.random.choice(found)
        kinds = FLOATS if integers is False else ("i32", "i8") if integers else ("f32", "i32")
        return self.load(kinds)

    # --- steps ---
    def input(self, kind: str) -> str:
        name = f"A{len(self.inputs)}"
        self.inputs.append(name)
        self.parameters.append(f"{name}: global({kind})[M, N]")
        return name

    def offset(self, extent: int, limit: str) -> str:
        """Mostly where the block's tile begins; before the beginning and past the end too."""
        return self.random.choice(
            (f"i * {extent}", f"i * {extent}", "0", f"{limit} - {extent}", f"i * {extent} - 3",
             f"i * {extent} + 5")
        )  # fmt: skip

    def load(self, kinds: tuple[str, ...] = INTEGERS + FLOATS) -> Tensors:
        kind, shape = self.random.choice(kinds), self.shape()
        name = self.input(kind)
        rows, columns = self.offset(shape[0], "M"), self.offset(shape[1], "N")
        tile = f"{name}[{rows} +: {shape[0]}, {columns} +: {shape[1]}]"
        return self.made(kind, shape, f"load({tile}{self.maybe_layout(shape)})")

    def partner(self, x: Tensors) -> str:
        """A second operand of the same dtype: a tensor that broadcasts, or a constant."""
        found = [
            t for t in self.tensors
            if t.kind == x.kind and len(t.shape) == len(x.shape)
            and all(a in (1, b) for a, b in zip(t.shape, x.shape, strict=True))
        ]  # fmt: skip
        if found and self.random.random() < 0.7:
            return self.random.choice(found).name
        if x.is_float:
            return self.random.choice(("1.5", "-0.25", "2.0", "0.0"))
        return str(self.random.randrange(SMALLEST.get(x.kind, -4), 4))

    def binary(self) -> None:
        x = self.number()
        operators = ["add", "sub", "mul", "min", "max"]
        operators += [] if x.is_float else ["bit_and", "bit_or", "bit_xor"]
        self.made(x.kind, x.shape, f"{self.random.choice(operators)}({x.name}, {self.partner(x)})")

    def divide(self) -> None:
        x = self.number(integers=True)
        divisor = self.random.choice((1, 2, 3))
        self.made(x.kind, x.shape, f"{self.random.choice(('div', 'mod'))}({x.name}, {divisor})")

    def shift(self) -> None:
        x = self.number(integers=True)
        self.made(x.kind, x.shape, f"{self.random.choice(('shl', 'shr'))}({x.name}, 2)")

    def unary(self) -> None:
        x = self.number()
        self.made(x.kind, x.shape, f"{self.random.choice(('neg', 'abs'))}({x.name})"
                  if x.is_float else f"bit_not({x.name})")  # fmt: skip

    def fma(self) -> None:
        x = self.number(integers=False)
        self.made(x.kind, x.shape, f"fma({x.name}, {self.partner(x)}, {self.partner(x)})")

    def choose(self) -> None:
        x = self.number()
        test = f"{x.name} {self.random.choice(('<', '<=', '==', '!='))} {self.partner(x)}"
        self.made(x.kind, x.shape, f"where({test}, {x.name}, {self.partner(x)})")

    def cast(self) -> None:
        x = self.pick()
        kind = self.random.choice(INTEGERS + FLOATS)
        self.made(kind, x.shape, f"cast({x.name}, {kind})")

    def view(self) -> None:
        x = self.pick()
        same = {"f32": ("i32", "u32"), "i32": ("u32",), "u8": ("i8",), "i8": ("u8",),
                "f16": ("i16",), "bf16": ("i16",)}  # fmt: skip
        if x.kind in same:
            kind, layout = self.random.choice(same[x.kind]), self.layout(x.shape)
            held = self.made(x.kind, x.shape, f"relayout({x.name}, layout={layout})")
            self.made(kind, x.shape, f"view({held.name}, {kind}, layout={layout})")

    def transpose(self) -> None:
        x = self.pick()
        if len(x.shape) == 2:
            self.made(x.kind, x.shape[::-1], f"transpose({x.name})")

    def reshape(self) -> None:
        x = self.pick()
        size = prod(x.shape)
        rows = self.random.choice([d for d in range(1, size + 1) if size % d == 0])
        shape = (rows, size // rows)
        self.made(x.kind, shape, f"reshape({x.name}, {list(shape)})")

    def broadcast(self) -> None:
        x = self.pick()
        shape = tuple(self.random.choice((3, 4)) if e == 1 else e for e in x.shape)
        if shape != x.shape and prod(shape) <= 512:
            self.made(x.kind, shape, f"broadcast({x.name}, {list(shape)})")

    def repeat(self) -> None:
        x = self.pick()
        axis, count = self.random.randrange(len(x.shape)), self.random.choice((2, 3))
        if prod(x.shape) * count <= 512:
            shape = tuple(e * count if a == axis else e for a, e in enumerate(x.shape))
            self.made(x.kind, shape, f"repeat({x.name}, {count}, axis={axis})")

    def reduce(self) -> None:
        x = self.number()
        axis = self.random.randrange(len(x.shape))
        op = self.random.choice(("max", "min") if x.is_float else ("max", "min", "sum"))
        shape = tuple(1 if a == axis else e for a, e in enumerate(x.shape))
        self.made(x.kind, shape, f'reduce({x.name}, {axis}, op="{op}")')

    def iota(self) -> None:
        shape = self.shape()
        axis = self.random.randrange(2)
        self.made("i32", shape, f"iota(i32, {list(shape)}, axis={axis})")

    def relayout(self) -> None:
        x = self.pick()
        self.made(x.kind, x.shape, f"relayout({x.name}, layout={self.layout(x.shape)})")

    def shared(self) -> None:
        """Written in one layout and read in another, in stages, or a slice of it."""
        x = self.pick()
        if len(x.shape) != 2:
            return
        memory, stages = self.fresh(), self.random.choice((0, 0, 2, 3))
        leading = [stages] if stages else []
        self.line(f"{memory} = shared_alloc({x.kind}, {[*leading, *x.shape]})")
        place = f"{memory}[{self.random.randrange(stages)}]" if stages else memory
        self.line(f"store({place}, {x.name})")
        self.line("synchronize()")
        rows = x.shape[0]
        part = self.random.choice([d for d in range(1, rows + 1) if rows % d == 0])
        if stages or part == rows:
            self.made(x.kind, x.shape, f"load({place}{self.maybe_layout(x.shape)})")
        else:
            shape = (part, x.shape[1])
            first = part * self.random.randrange(rows // part)
            tile = f"{memory}[{first} +: {part}, :]"
            self.made(x.kind, shape, f"load({tile}{self.maybe_layout(shape)})")

    def copy_async(self) -> None:
        kind, shape = self.random.choice(("f32", "f16", "u8", "i32")), self.shape()
        name, memory = self.input(kind), self.fresh()
        rows, columns = self.offset(shape[0], "M"), self.offset(shape[1], "N")
        self.line(f"{memory} = shared_alloc({kind}, {list(shape)})")
        self.line(f"copy_async({memory}, {name}[{rows} +: {shape[0]}, {columns} +: {shape[1]}])")
        for call in ("commit_async()", "wait_async(0)", "synchronize()"):
            self.line(call)
        self.made(kind, shape, f"load({memory}{self.maybe_layout(shape)})")

    def gather(self) -> None:
        kind = self.random.choice(("f32", "i32", "f16", "u8"))
        extent, columns = self.random.choice((2, 4, 6, 8)), self.random.choice((4, 8, 16))
        index = self.made("i32", (extent,), f"bit_and(iota(i32, [{extent}]) * 3 + i, 7)")
        name = self.input(kind)
        self.made(kind, (extent, columns),
                  f"gather({name}[0 +: 8, 0 +: {columns}], {index.name}, axis=0)")  # fmt: skip

    def loop(self) -> None:
        x = self.number()
        kept, outside = list(self.tensors), self.indent
        variable = self.fresh()
        self.line(f"var {variable} = {x.name}")
        count = self.random.choice(("3", "n", "i + 1"))
        self.line(f"for k{variable} in range({count}) {{")
        self.indent += "  "
        y = self.random.choice((variable, f"add({variable}, {self.partner(x)})"))
        self.line(f"{variable} := max({y}, {self.partner(x)})")
        if self.random.random() < 0.5:
            self.line(f"if k{variable} == 1 {{")
            self.line(f"  {variable} := add({variable}, {self.partner(x)})")
            self.line("}")
        self.indent, self.tensors = outside, kept
        self.line("}")
        self.made(x.kind, x.shape, variable)

    def branch(self) -> None:
        x = self.number()
        variable = self.fresh()
        self.line(f"var {variable} = {x.name}")
        self.line(f"if {self.random.choice(('i < n', 'i == 0', 'n < 3'))} {{")
        self.line(f"  {variable} := sub({variable}, {self.partner(x)})")
        self.line("}")
        self.made(x.kind, x.shape, variable)

    def scalar(self) -> None:
        kind = self.random.choice(("f32", "i32"))
        name = self.input(kind)
        value = self.fresh()
        self.line(f"{value} = load_scalar({name}[i, {self.random.randrange(4)}])")
        shape = self.shape()
        self.made(kind, shape, f"fill({value}, {kind}, {list(shape)})")

    def dot(self) -> None:
        """Of quarters, so that sums are exact; operands from registers or from shared memory."""
        shapes = [(16, 8, 16), (32, 16, 16), (64, 32, 32), (32, 64, 16), (16, 64, 32), (64, 64, 16)]
        m, n, k = self.random.choice(shapes)
        try:
            dot_layout(m, n, k, 16, self.threads // 32)
        except LayoutError:
            return
        kind = self.random.choice(("f16", "bf16"))
        a, b = self.operand(kind, (m, k)), self.operand(kind, (k, n))
        self.made("f32", (m, n), f"dot({a}, {b})")

    def operand(self, kind: str, shape: tuple[int, int]) -> str:
        source, held = self.input(kind), self.fresh()
        rows, columns = self.offset(shape[0], "M"), self.offset(shape[1], "N")
        tile = f"{source}[{rows} +: {shape[0]}, {columns} +: {shape[1]}]"
        way = self.random.choice(("load", "shared", "turned", "small"))
        if way == "load":
            self.line(f"{held} = load({tile})")
            return held
        if way == "small":
            source = self.input("u4")
            tile = f"{source}[{rows} +: {shape[0]}, {columns} +: {shape[1]}]"
            self.line(f"{held} = sub(cast(load({tile}), {kind}), 8.0)")
            return held
        memory = self.fresh()
        extents = shape[::-1] if way == "turned" else shape
        self.line(f"{memory} = shared_alloc({kind}, {list(extents)})")
        value = f"transpose(load({tile}))" if way == "turned" else f"load({tile})"
        self.line(f"store({memory}, {value})")
        self.line("synchronize()")
        loaded = f"transpose(load({memory}))" if way == "turned" else f"load({memory})"
        self.line(f"{held} = {loaded}")
        return held

    def scatter(self) -> None:
        """Rows go to places of their own, or are added up where they meet."""
        extent, columns = self.random.choice((2, 4, 8)), self.random.choice((4, 8, 16))
        op, factor = self.random.choice((("store", 3), ("add", 2), ("max", 4)))
        index = self.made("i32", (extent,), f"bit_and(iota(i32, [{extent}]) * {factor}, 7)")
        shape, axis = (extent, columns), self.random.randrange(2)
        value = self.made("i32", shape, f"iota(i32, {list(shape)}, axis={axis})")
        target = f"R{self.count}"
        place = f"{target}[i, 0 +: 8, 0 +: {columns}]"
        self.parameters.append(f"{target}: inout(global(i32))[G, 8, 16]")
        self.line(f'scatter({place}, {index.name}, {value.name}, axis=0, op="{op}")')

    def group(self) -> None:
        """Some warps work on their own, in one copy or several."""
        warps = self.threads // 32
        own = self.random.randint(1, warps)
        copies = self.random.choice([c for c in (1, 2, 4) if c * own <= warps])
        kind, shape = self.random.choice(("f32", "i32")), self.shape()
        source, name, x, y = self.input(kind), f"g{self.count}", self.fresh(), self.fresh()
        target = f"T{self.count}"
        self.parameters.append(f"{target}: inout(global({kind}))[G, {copies}, {_joined(shape)}]")
        self.line(f"group {name}(warps={own}, copies={copies}) {{")
        self.line(f"  c{name} = group_index()")
        self.line(f"  {x} = load({source}[c{name} * {shape[0]} +: {shape[0]}, 0 +: {shape[1]}])")
        axis = self.random.randrange(2)
        self.line(f'  {y} = {x} + reduce({x}, {axis}, op="max")')
        self.line(f"  store({target}[i, c{name}, :, :], {y})")
        self.line("}")

    # --- outputs ---
    def outputs(self) -> None:
        """Every tensor that was made, whole; some of them clipped by an extent that is none of
        theirs, and some added up by all blocks."""
        for number, x in enumerate(self.tensors):
            whole = ", ".join(["G", *map(str, x.shape)])
            self.parameters.append(f"O{number}: inout(global({x.kind}))[{whole}]")
            self.line(f"store(O{number}[i{', :' * len(x.shape)}], {x.name})")
            if len(x.shape) != 2:
                continue
            if self.random.random() < 0.3:
                self.parameters.append(f"C{number}: inout(global({x.kind}))[M, N]")
                rows = f"i * {x.shape[0]}"
                tile = f"{rows} +: {x.shape[0]}, {self.random.choice((0, 3))} +: {x.shape[1]}"
                self.line(f"store(C{number}[{tile}], {x.name})")
            elif x.kind in ("i32", "u32") and self.random.random() < 0.4:
                self.parameters.append(f"S{number}: inout(global({x.kind}))[M, N]")
                op = self.random.choice(("add", "max", "xor"))
                tile = f"0 +: {x.shape[0]}, 1 +: {x.shape[1]}"
                self.line(f'atomic(S{number}[{tile}], {x.name}, op="{op}")')

    STEPS = (
        load, binary, binary, binary, divide, shift, unary, fma, choose, cast, cast, view,
        transpose, reshape, broadcast, repeat, reduce, reduce, iota, relayout, shared, shared,
        copy_async, gather, loop, branch, scalar, dot, scatter, group,
    )  # fmt: skip

    def text(self) -> str:
        self.line("i = block_index()")
        self.load()
        for _ in range(self.random.randint(3, 9)):
            self.random.choice(self.STEPS)(self)
        self.outputs()
        where = ["G > 0"]
        where += self.random.choice(([], ["N % 8 == 0"], ["N % 4 == 0", "aligned(A0, 16)"]))
        parameters = ", ".join([*self.parameters, "n: i32"])
        return "\n".join(
            [f"program {self.name}({parameters}) grid (G) threads {self.threads}",
             f"  where {', '.join(where)}", "{", *self.lines, "}", ""]
        )  # fmt: skip


def _joined(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def random_program(seed: int) -> str:
    """The text of a program named p<seed>."""
    return ProgramWriter(seed).text()


def random_arguments(kernel: Kernel, seed: int) -> dict[str, Any]:
    """Arguments for a random program: small numbers, and tensors of which rows may be odd."""
    choices = np.random.default_rng(seed)
    facts = " ".join(str(f) for f in kernel.where)
    columns = int(choices.choice([8, 16, 24, 64]))
    if "'%'" not in facts and choices.random() < 0.7:
        columns = int(choices.integers(8, 40))
    sizes = {"M": int(choices.integers(8, 40)), "N": columns, "G": 2}
    values: dict[str, Any] = {"n": int(choices.integers(0, 4))}
    for parameter in kernel.parameters:
        type_ = parameter.type
        if isinstance(type_, GlobalType):
            extents = tuple(e if isinstance(e, int) else sizes[e.text] for e in type_.shape)
            values[parameter.name] = random_tensor(type_.dtype, extents, choices)
    return values


def random_tensor(kind: DType, shape: tuple[int, ...], choices: np.random.Generator) -> Tensor:
    """Small numbers that floats hold exactly, or any codes of narrow integers."""
    if kind.is_float:
        return Tensor.from_values(kind, choices.integers(-16, 17, shape) / 4.0)
    low, high = max(kind.min, -100), min(kind.max, 100)
    return Tensor.from_values(kind, choices.integers(low, high + 1, shape).astype(kind.array))


@dataclass
class Trial:
    """A program, what it is given and what it should give."""

    kernel: Kernel
    arguments: dict[str, Any]
    expected: dict[str, Tensor]
    variants: tuple[str, ...]


def trial(seed: int) -> Trial:
    """The program of a seed, run as it is written."""
    text = "vm 1\n" + random_program(seed)
    kernel = parse(text, f"p{seed}.vm")[f"p{seed}"].instantiate()
    arguments = random_arguments(kernel, seed)
    expected = reference.run(kernel, copied(arguments)).outputs
    tensors = bind(kernel, copied(arguments), checks=False).tensors
    allowed = VARIANTS if variant_for(kernel, tensors) == VARIANTS[0] else VARIANTS[1:]
    return Trial(kernel, arguments, expected, allowed)


def differences(expected: dict[str, Tensor], got: dict[str, Tensor]) -> list[str]:
    """The names of outputs that differ in a bit, NaN equal to NaN."""
    found = []
    for name, tensor in expected.items():
        same = tensor.codes() == got[name].codes()
        if tensor.dtype.is_float:
            same |= np.isnan(tensor.values()) & np.isnan(got[name].values())
        if not same.all():
            place = tuple(int(v[0]) for v in np.nonzero(~same))
            found.append(f"{name}{list(place)}: {got[name].values()[place]} instead of "
                         f"{tensor.values()[place]}, {np.count_nonzero(~same)} in all")  # fmt: skip
    return found


def check_on_machine(each: Trial) -> list[str]:
    """Runs every stage on the reference machine: what differs, by stage."""
    found = []
    for variant in each.variants:
        made = pipeline.stages(each.kernel, pipeline.target(TARGET), variant)
        for stage, kernel in made.items():
            if stage != "instantiate":
                got = reference.run(kernel, copied(each.arguments)).outputs
                found += [f"{variant}, {stage}: {d}" for d in differences(each.expected, got)]
    return found


def check_on_emulator(trials: list[Trial], folder: Path, **options: Any) -> Iterator[str]:
    """Compiles the C++ of all programs at once and runs each: what differs, by program."""
    for variant in VARIANTS:
        chosen = [each for each in trials if variant in each.variants]
        if not chosen:
            continue
        emitted = [
            pipeline.compile_source(each.kernel, pipeline.target(TARGET), variant)
            for each in chosen
        ]
        settings = emulator.HostOptions(optimization=0, **options)
        source = "\n".join(each.source for each in emitted)
        library = emulator.compile_host(source, folder, settings)
        for each, made in zip(chosen, emitted, strict=True):
            bound = bind(each.kernel, copied(each.arguments), checks=False)
            for order in ("forward", "reverse"):
                again = bind(each.kernel, copied(each.arguments), checks=False)
                emulator.run(
                    library, made.manifest.kernel, bound.grid, each.kernel.threads,
                    made.manifest.shared_bytes, _host_arguments(made, again), order,
                )  # fmt: skip
                got = {name: again.tensors[name] for name in each.expected}
                for difference in differences(each.expected, got):
                    yield f"{each.kernel.name}, {variant}, emulator {order}: {difference}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--batch", type=int, default=20, help="programs compiled at once")
    parser.add_argument("--no-emulator", action="store_true")
    arguments = parser.parse_args()
    started, seed, failures = time.monotonic(), arguments.first, 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - started < arguments.seconds:
            trials = []
            for number in range(seed, seed + arguments.batch):
                try:
                    each = trial(number)
                    found = check_on_machine(each)
                except VmError as error:
                    found = [f"{error}"]
                except (InternalError, ArithmeticError, AssertionError, AttributeError, LookupError,
                        RuntimeError, TypeError, ValueError):  # fmt: skip
                    found = [traceback.format_exc()]
                if found:
                    failures += 1
                    print(random_program(number), *found, sep="\n", flush=True)
                else:
                    trials.append(each)
            if not arguments.no_emulator:
                for line in check_on_emulator(trials, Path(folder)):
                    failures += 1
                    print(line, flush=True)
            seed += arguments.batch
    print(f"seeds {arguments.first} to {seed - 1}: {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
