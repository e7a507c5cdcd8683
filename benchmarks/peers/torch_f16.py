"""cuBLAS through torch, on weights dequantized to the type of the activations beforehand: what
quantization must beat."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.problem import Point
from benchmarks.timing import rotation

if TYPE_CHECKING:
    from benchmarks.laboratory import Problem


def prepare(point: Point, problem: Problem) -> Prepared:
    import torch

    weight = problem.dequantized()
    copies = [weight] + [weight.clone() for _ in range(rotation(2 * point.n * point.k) - 1)]
    outputs = problem.new_outputs(len(copies))
    launches = tuple(
        partial(torch.matmul, problem.activations, copy.t(), out=output)
        for copy, output in zip(copies, outputs, strict=True)
    )
    return Prepared(launches, outputs, "torch.matmul")


def torch_version() -> str:
    import torch

    if not torch.cuda.is_available():
        raise ImportError("torch has no CUDA device")
    return version("torch")


TORCH_F16 = Peer("torch_f16", "cuBLAS f16", torch_version, lambda point: True, prepare)
