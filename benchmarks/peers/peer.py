"""What the harness asks of a kernel that it times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.problem import Point

if TYPE_CHECKING:
    import torch

    from benchmarks.laboratory import Problem


@dataclass(frozen=True)
class Prepared:
    """A kernel ready to run on one problem, over several copies of its packed weights."""

    launches: tuple[Callable[[], None], ...]
    """One per copy: enqueues one product on torch's current stream. Capturable in a graph."""
    outputs: tuple[torch.Tensor, ...]
    """C of each launch, [M, N]; no two share memory."""
    configuration: str
    """The schedule that was chosen, for the record."""


def compile_nothing(points: Sequence[Point]) -> None:
    """For a peer that has nothing to compile before the first call."""


@dataclass(frozen=True)
class Peer:
    """One kernel family under one setting.

    All functions may raise what their libraries raise; the harness records it and goes on.
    """

    name: str
    label: str
    """For tables and legends."""
    version: Callable[[], str]
    """Version of the library; ImportError or OSError where it cannot run."""
    supports: Callable[[Point], bool]
    prepare: Callable[[Point, Problem], Prepared]
    """Packs the problem's weights the peer's own way and tunes, if it tunes."""
    compile_ahead: Callable[[Sequence[Point]], None] = compile_nothing
    """Compiles for all points at once, in parallel where the peer can. Optional."""
