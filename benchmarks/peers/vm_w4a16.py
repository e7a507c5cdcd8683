"""The project's own kernels: compiled from programs/matmul_w4a16.vm."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.problem import GROUP, Point
from benchmarks.timing import rotation

if TYPE_CHECKING:
    from benchmarks.laboratory import Problem

TILE_N = 128
TILE_K = 64


def supports(point: Point) -> bool:
    if point.activation != "f16":
        return False
    return point.weight.name == "u4" and point.n % TILE_N == 0 and point.k % GROUP == 0


def vm_version() -> str:
    import subprocess

    import vm.runtime.compiled  # noqa: F401  (ImportError where it cannot run)

    shown = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or "working tree"


def prepare(point: Point, problem: Problem) -> Prepared:
    import torch

    import vm
    from vm.isa.program import load

    module = load("programs/matmul_w4a16.vm")
    rows = 16 if point.m <= 16 else 64
    pack = vm.compile(module["pack_weight"], BM=rows)
    matmul = vm.compile(module["matmul"], BM=rows)
    codes = problem.codes.t()
    pairs = (codes[:, 0::2] | codes[:, 1::2] << 4).contiguous()
    packed = torch.empty(
        (point.k // TILE_K, point.n // TILE_N, TILE_K * TILE_N // 2), dtype=torch.uint8,
        device="cuda",
    )  # fmt: skip
    pack(pairs, packed)
    scales = problem.scales.t().contiguous()
    zeros = torch.full((point.k // GROUP, point.n // 2), 0x88, dtype=torch.uint8, device="cuda")
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    copies = [(packed.clone(), scales.clone(), zeros.clone()) for _ in outputs]
    launches = tuple(
        partial(matmul, problem.activations, *copy, output)
        for copy, output in zip(copies, outputs, strict=True)
    )
    return Prepared(launches, outputs, f"matmul_w4a16.vm BM={rows}")


VM = Peer("vm", "vm (this project)", vm_version, supports, prepare)
