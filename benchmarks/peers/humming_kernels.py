"""humming-kernels (vLLM): just-in-time compiled GEMM for 1 to 8 bit weights.

Its own heuristic picks the schedule for each M. It is timed with programmatic dependent launch
(PDL) forced off and forced on; which of the two is its default is noted in `configuration`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.problem import GROUP, Point, pack_words
from benchmarks.timing import rotation

if TYPE_CHECKING:
    import torch

    from benchmarks.laboratory import Problem


def humming_version() -> str:
    import humming.layer  # noqa: F401  (the import is the question)

    return version("humming-kernels")


def supports(point: Point) -> bool:
    """Integers of 1 to 8 bits, signed floats with at most 5 exponent bits."""
    return not point.weight.codebook and point.weight.exponent_bits <= 5


def type_name(point: Point) -> str:
    weight = point.weight
    if weight.is_float:
        return f"float{weight.bits}e{weight.exponent_bits}m{weight.mantissa_bits}"
    return f"uint{weight.bits}"


def torch_type(point: Point) -> torch.dtype:
    from benchmarks.laboratory import TORCH_TYPES

    return TORCH_TYPES[point.activation]


def layer_config(point: Point) -> Any:
    from humming.schema import HummingWeightSchema
    from humming.transform import prepare_layer_config

    schema = HummingWeightSchema(b_dtype=type_name(point), weight_scale_group_size=GROUP)
    return prepare_layer_config(point.n, point.k, schema, torch_dtype=torch_type(point))


def tuning_config(config: Any, point: Point, use_pdl: bool) -> tuple[str, bool]:
    """The library's own choice for this M, as JSON, with PDL set; and its own default for PDL."""
    from humming.tune import get_heuristics_config

    chosen = dict(get_heuristics_config(config, shape_m=point.m))
    default = bool(chosen.get("use_pdl", False))
    chosen["use_pdl"] = use_pdl
    return json.dumps(chosen), default


def compile_ahead(use_pdl: bool, points: Sequence[Point]) -> None:
    import torch
    from humming.kernel.humming import HummingKernel

    device = torch.cuda.current_device()
    configs = [layer_config(point) for point in points]
    jobs = {
        (config.to_str(), tuning_config(config, point, use_pdl)[0])
        for config, point in zip(configs, points, strict=True)
    }
    with ThreadPoolExecutor(max_workers=14) as pool:
        for job in [
            pool.submit(HummingKernel.prepare_kernels, layer, None, tuning, device)
            for layer, tuning in sorted(jobs)
        ]:
            job.result()


def prepare(use_pdl: bool, point: Point, problem: Problem) -> Prepared:
    import torch
    from humming.forward import humming_forward
    from humming.layer import HummingLayer

    layer = HummingLayer(
        shape_n=point.n,
        shape_k=point.k,
        weight_config={"dtype": type_name(point), "group_size": GROUP},
        torch_dtype=torch_type(point),
    ).cuda()
    words = torch.stack(pack_words(problem.codes.to(torch.int64), point.weight.bits), dim=-1)
    words = (words - ((words >> 31) << 32)).to(torch.int32)
    layer.load_from_tensors(
        {
            "weight": words.reshape(point.n, -1),
            "weight_scale": problem.scales,
        }
    )
    layer.transform()
    config = layer.humming_config
    tuning, default = tuning_config(config, point, use_pdl)
    packed = {
        name: tensor
        for name in ("weight", "weight_scale", "weight_scale_2", "zero_point", "locks")
        if (tensor := getattr(layer, name, None)) is not None
    }
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    launches = tuple(
        partial(
            humming_forward,
            config,
            inputs=problem.activations,
            outputs=output,
            tuning_config=tuning,
            **{name: tensor.detach().clone() for name, tensor in packed.items()},
        )
        for output in outputs
    )
    return Prepared(launches, outputs, f"{tuning} (its default: use_pdl={default})")


HUMMING, HUMMING_PDL = (
    Peer(
        name,
        label,
        humming_version,
        supports,
        partial(prepare, use_pdl),
        partial(compile_ahead, use_pdl),
    )
    for name, label, use_pdl in (
        ("humming", "humming", False),
        ("humming_pdl", "humming + PDL", True),
    )
)
