"""tilus 0.2.0: the quantized matmul program of its own examples, run from a copy that you name.

The wheel holds the compiler and not the example, so the environment variable TILUS_EXAMPLE must be
the path of `examples/quantization/matmul_a16wx.py` of the v0.2.0 tag. As shipped the example pins
one schedule made for large M; here tilus tunes over SPACE, where its best schedules for small M lay
when all 90 of its own list were tried once.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.problem import GROUP, Point, pack_words
from benchmarks.timing import rotation

if TYPE_CHECKING:
    from benchmarks.laboratory import Problem

WEIGHT_TILE = (16, 16)
SPACE = {
    "warp_spatial": [[1, 4]],
    "warp_repeat": [[1, 8, 1], [1, 8, 2]],
    "num_stages": [4],
    "split_k_factor": [8, 16],
}


@cache
def example() -> Any:
    """The example as a module, with the short list of schedules."""
    path = os.environ.get("TILUS_EXAMPLE")
    if not path:
        raise ImportError("TILUS_EXAMPLE does not name the example's file")
    specification = importlib.util.spec_from_file_location("tilus_matmul_a16wx", path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.QuantizedMatmul.debug_schedule = None
    module.QuantizedMatmul._autotune_space = SPACE
    return module


def tilus_version() -> str:
    example()
    return f"{version('tilus')} with apache-tvm-ffi {version('apache-tvm-ffi')}"


def supports(point: Point) -> bool:
    """Signed integers, of widths that fill whole bytes of a thread's share of a 16 x 16 tile."""
    weight = point.weight
    return point.activation == "f16" and weight.is_integer and weight.bits in (2, 4, 6, 8)


def prepare(point: Point, problem: Problem) -> Prepared:
    import torch
    import tvm_ffi
    from tilus.hidet.ir import dtypes

    bits = point.weight.bits
    dtype = dtypes.int8 if bits == 8 else getattr(dtypes, f"int{bits}b")
    common = {"weight_tile": WEIGHT_TILE, "a_dtype": dtypes.float16, "b_dtype": dtype}
    # Two's complement instead of an offset of half the range: the same numbers.
    signed = (problem.codes ^ 2 ** (bits - 1)).t().contiguous().to(torch.int64)
    rows = torch.stack(pack_words(signed, bits), dim=-1)
    rows = (rows - ((rows >> 31) << 32)).to(torch.int32)
    packed = torch.empty(point.n * point.k * bits // 8, dtype=torch.uint8, device="cuda")
    change_layout = example().QuantizedMatmulChangeLayout(**common)
    change_layout(point.k, point.n, rows.data_ptr(), packed.data_ptr())
    torch.cuda.synchronize()
    scales = problem.scales.t().contiguous()
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    copies = [(packed.clone(), scales.clone()) for _ in outputs]
    kernel = example().QuantizedMatmul(group_size=GROUP, **common)

    def launch(weight: torch.Tensor, scale: torch.Tensor, output: torch.Tensor) -> None:
        pointers = tuple(each.data_ptr() for each in (problem.activations, weight, scale, output))
        with tvm_ffi.use_torch_stream():  # else it goes to the legacy stream, outside the graph
            kernel(point.m, point.n, point.k, *pointers)

    launches = tuple(
        partial(launch, *copy, output) for copy, output in zip(copies, outputs, strict=True)
    )
    return Prepared(launches, outputs, f"tuned by tilus over {SPACE}")


TILUS = Peer("tilus", "Tilus 0.2.0", tilus_version, supports, prepare)
