"""Kernels that call the prelude, with what they must give: run on the emulator, and on a GPU.

A battery is one `Text` with many kernels and the launches of them. Most kernels are maps: each
thread loads register operands, calls functions, and stores registers; `Text.map` writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.compiler.prelude import oracle
from vm.runtime.emulator import HostOptions, compile_host, run

Argument = np.ndarray | int | float


@dataclass(frozen=True)
class Register:
    """Codes of `count` elements of a type in each thread; `codes` has a row for each."""

    type: str
    count: int
    codes: np.ndarray

    @property
    def words(self) -> np.ndarray:
        return oracle.pack(self.codes, oracle.bits_of(self.type))


@dataclass(frozen=True)
class Launch:
    """One launch; `check` takes the arguments after it and raises where they are wrong.

    `least` is the architecture (80, 89, 90) from which the kernel exists.
    """

    kernel: str
    grid: tuple[int, ...]
    threads: int
    shared_bytes: int
    arguments: Callable[[], list[Argument]]
    check: Callable[[list[Argument]], None]


@dataclass
class Text:
    """A text under construction, and the launches of its kernels."""

    name: str
    least: int = 80
    orders: tuple[str, ...] = ("forward",)
    parts: list[str] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)

    @property
    def source(self) -> str:
        return '#include "vm.h"\n' + "\n".join(self.parts)

    def kernel(
        self,
        text: str,
        kernel: str,
        arguments: Callable[[], list[Argument]],
        check: Callable[[list[Argument]], None],
        grid: tuple[int, ...] = (1,),
        threads: int = 128,
        shared_bytes: int = 0,
    ) -> None:
        self.parts.append(text)
        self.launches.append(Launch(kernel, grid, threads, shared_bytes, arguments, check))

    def map(
        self,
        kernel: str,
        inputs: Sequence[Register],
        outputs: Sequence[tuple[str, int]],
        body: str,
        expected: Sequence[np.ndarray | Callable[[np.ndarray], None]],
    ) -> None:
        """A kernel whose threads each compute registers y0, y1 ... from x0, x1 ... by `body`.

        An output's expectation is its codes (compared bit for bit, any NaN with any), or a function
        that judges them.
        """
        rows = len(inputs[0].codes)
        shapes = [(each.type, each.count) for each in inputs]
        self.parts.append(_map_text(kernel, shapes, outputs, body))
        data = [each.words for each in inputs]
        sizes = [-(-oracle.bits_of(type_) * count // 32) for type_, count in outputs]

        def arguments() -> list[Argument]:
            poison = [np.full((rows, size), 0xDEADBEEF, np.uint32) for size in sizes]
            return [*(each.copy() for each in data), *poison, rows]

        def check(after: list[Argument]) -> None:
            results = after[len(data) : -1]
            for (type_, count), words, wanted in zip(outputs, results, expected, strict=True):
                codes = oracle.unpack(words, oracle.bits_of(type_), count)
                if callable(wanted):
                    wanted(codes)
                    continue
                wrong = ~oracle.same(type_, codes, wanted)
                if wrong.any():
                    row, column = np.argwhere(wrong)[0]
                    given = [
                        f"{each.type} {each.codes[row, min(column, each.count - 1)]:#x}"
                        for each in inputs
                    ]
                    raise AssertionError(
                        f"{self.name}.{kernel}: {wrong.sum()} of {wrong.size} wrong; row {row} "
                        f"slot {column}: {', '.join(given)} gave {type_} {codes[row, column]:#x}, "
                        f"expected {wanted[row, column]:#x}"
                    )

        self.launches.append(Launch(kernel, (-(-rows // 128),), 128, 0, arguments, check))


def tag(type_: str) -> str:
    """The prelude's name of a type."""
    if type_ in oracle.SMALL_FLOATS:
        exponent, mantissa, _, _ = oracle.format_of(type_)
        return f"vm_float<{oracle.bits_of(type_)}, {exponent}, {mantissa}>"
    if oracle.is_integer(type_):
        return f"vm_{'unsigned' if type_[0] == 'u' else 'signed'}<{type_[1:]}>"
    return f"vm_{type_}"


def _map_text(
    kernel: str, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]], body: str
) -> str:
    names = [f"in{i}" for i in range(len(inputs))] + [f"out{i}" for i in range(len(outputs))]
    parameters = ", ".join(f"unsigned char* {name}" for name in names)
    lines = [
        f"VM_KERNEL({kernel}, 128, 1)({parameters}, int rows) {{",
        "  const int row = VM_BLOCK_INDEX(0) * 128 + VM_THREAD;",
        "  const bool inside = row < rows;",
    ]
    for i, (type_, count) in enumerate(inputs):
        words = -(-oracle.bits_of(type_) * count // 32)
        lines += [
            f"  vm_register<{tag(type_)}, {count}> x{i};",
            f"  VM_UNROLL for (int i = 0; i < {words}; i++)",
            f"    vm_load_global<4>(x{i}.words, 4 * i, in{i} + (row * {words} + i) * 4, inside);",
        ]
    lines += [
        f"  vm_register<{tag(type_)}, {count}> y{i};" for i, (type_, count) in enumerate(outputs)
    ]
    lines.append(f"  {body}")
    for i, (type_, count) in enumerate(outputs):
        words = -(-oracle.bits_of(type_) * count // 32)
        lines += [
            f"  VM_UNROLL for (int i = 0; i < {words}; i++)",
            f"    vm_store_global<4>(out{i} + (row * {words} + i) * 4, y{i}.words, 4 * i, inside);",
        ]
    return "\n".join([*lines, "}"])


def run_on_emulator(text: Text, objects: Path, **options) -> None:
    """Every launch of a text on the emulator, each checked. They are short: optimizing them would
    take longer than it saves."""
    target = compile_host(text.source, objects, HostOptions(optimization=0, **options), text.name)
    for launch in text.launches:
        for order in text.orders:
            arguments = launch.arguments()
            run(
                target,
                launch.kernel,
                launch.grid,
                launch.threads,
                launch.shared_bytes,
                arguments,
                order,
            )
            launch.check(arguments)
