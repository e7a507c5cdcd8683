"""What a format of weights in checkpoints is, and the program that restores such weights.

A format says which tensors the checkpoint has, which extents the weight has, and how a program
reads one tile of it: the dtype of the codes, the layouts of the views that take codes out of words
and bytes, and the rule by which an element finds its scale and zero point. `dequantizer` makes a
program of it that writes the weight; programs/quantized_matmul.py one that multiplies by it. Both
read the tensors where they lie.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from vm.isa.builder import Builder, Definition
from vm.isa.builder_expressions import Expression
from vm.isa.dtypes import dtype
from vm.isa.program import Module

Extent = Expression | int
"""A number, or constants of the module under construction."""

THREADS = 128
"""Threads of a block in every program that reads weights; layouts of formats are over so many."""


@dataclass(frozen=True)
class Stored:
    """A weight as a checkpoint stores it, in a module under construction.

    `about` says it in words. `parameters` are the checkpoint's tensors, by the names that they have
    there, with their types. `shape` are the extents of the weight, [K, N], or [N, K] where
    `transposed`; they are multiples of `multiple`, and `tile` is what is read at once. `unbound`
    names the sizes that the shapes of the tensors do not tell, `facts` is what must hold.

    `reader(*tensors)` is called in a program, whose other statements come behind it; what it gives
    is called with the two positions of a tile, counted in tiles, for the weights: a register tensor
    of `tile` in `element`, finite where nothing is stored. `example()` writes what else cases need,
    and gives a function of N and K that makes the tensors, in a case, at random.
    """

    about: str
    parameters: dict[str, Expression]
    shape: tuple[Expression, Expression]
    transposed: bool
    tile: tuple[Extent, Extent]
    multiple: tuple[int, int]
    element: str
    reader: Callable[..., Callable[[Expression, Expression], Expression]]
    example: Callable[[], Callable[[Expression, Expression], list[Expression]]]
    facts: tuple[Expression, ...] = ()
    unbound: tuple[str, ...] = ()


Format = Callable[[Builder], Stored]
"""Writes the constants and layouts of a format into a module, and says what is stored."""


def dequantizer(form: Format) -> Module:
    """The module whose program `dequantize` takes the tensors and writes the weight."""
    b = Builder()
    write_dequantize(b, form(b))
    return b.module()


def write_dequantize(b: Builder, stored: Stored) -> Definition:
    """Writes the program `dequantize` of a format into a module."""
    parameters = {**stored.parameters,
                  "W": b.out(b.global_(dtype(stored.element)))[stored.shape]}  # fmt: skip
    grid = [b.ceil_div(*pair) for pair in zip(stored.shape, stored.tile, strict=True)]

    def dequantize(*tensors: Expression) -> None:
        *tensors, W = tensors
        row, column = b.block_index()
        tile = stored.reader(*tensors)(row, column)
        rows, columns = stored.tile
        b.store(W[row * rows : +rows, column * columns : +columns], tile)

    return b.program(grid=grid, threads=THREADS, where=stored.facts)(
        with_parameters(dequantize, parameters, stored.about)
    )


def with_parameters(
    function: Callable[..., None], parameters: dict[str, Expression], about: str
) -> Callable[..., None]:
    """The function with those parameters, for the builder to make a program of."""
    function.__doc__ = about
    function.__signature__ = inspect.Signature([
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY, annotation=annotation)
        for name, annotation in parameters.items()
    ])  # fmt: skip
    return function
