"""Random tensors of checkpoints, and the weights that independent decoders make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from tests.programs import format_decoders as decoders

F16_AT = {"Q4_0": (0,), "Q4_1": (0, 2), "Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,), "MXFP4": ()}
"""Where numbers in f16 stand in a block: random bytes there could be NaN."""


@dataclass(frozen=True)
class Example:
    """The tensors of a checkpoint by name, sizes that their shapes do not tell, and the weight:
    [K, N], or [N, K] as the format has it."""

    tensors: dict[str, Any]
    weight: np.ndarray
    sizes: dict[str, int]


def words(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.integers(-(2**31), 2**31, shape).astype(np.int32)


def numbers(random: np.random.Generator, *shape: int, dtype: type = np.float16) -> np.ndarray:
    return random.normal(0, 0.1, shape).astype(dtype)


def gptq(bits: int, version: int, K: int, N: int, groups: int) -> Example:
    """`g_idx` in any order, as activation ordering makes it."""
    random = np.random.default_rng(bits)
    tensors = {
        "qweight": words(random, K * bits // 32, N),
        "qzeros": words(random, groups, N * bits // 32),
        "scales": numbers(random, groups, N),
        "g_idx": random.integers(0, groups, K).astype(np.int32),
    }
    return Example(tensors, decoders.gptq(*tensors.values(), bits, version), {})


def awq(K: int, N: int, group: int) -> Example:
    random = np.random.default_rng(K)
    tensors = {
        "qweight": words(random, K, N // 8),
        "qzeros": words(random, K // group, N // 8),
        "scales": numbers(random, K // group, N),
    }
    return Example(tensors, decoders.awq(*tensors.values(), group), {})


def compressed_tensors(bits: int, N: int, K: int, group: int, symmetric: bool) -> Example:
    random = np.random.default_rng(bits)
    packed, scales = words(random, N, K * bits // 32), numbers(random, N, K // group)
    tensors = {"weight_packed": packed, "weight_scale": scales}
    zeros = None if symmetric else words(random, N * bits // 32, K // group)
    if zeros is not None:
        tensors["weight_zero_point"] = zeros
    weight = decoders.compressed_tensors(packed, zeros, scales, K, bits, group)
    return Example(tensors, weight, {"K": K})


def mxfp4(N: int, blocks: int, scales: np.ndarray) -> Example:
    random = np.random.default_rng(4)
    codes = random.integers(0, 256, (N, blocks, 16)).astype(np.uint8)
    codes[:, :, :8] = np.arange(0, 256, 34)  # both nibbles, all codes
    return Example({"blocks": codes, "scales": scales}, decoders.mxfp4(codes, scales), {})


def nf4(N: int, blocks: int, block: int) -> Example:
    """`blocks` in all."""
    random = np.random.default_rng(blocks)
    codes = random.integers(0, 256, (blocks * block // 2, 1)).astype(np.uint8)
    absmax = np.abs(numbers(random, blocks, dtype=np.float32))
    weight = decoders.nf4(codes, absmax, block).reshape(N, -1)
    return Example({"codes": codes, "absmax": absmax}, weight, {"N": N, "K": weight.shape[1]})


def nested_nf4(N: int, blocks: int) -> Example:
    random = np.random.default_rng(blocks)
    tensors = {
        "codes": random.integers(0, 256, (blocks * 32, 1)).astype(np.uint8),
        "absmax": random.integers(0, 256, blocks).astype(np.uint8),
        "nested_absmax": np.abs(numbers(random, -(-blocks // 256), dtype=np.float32)),
        "nested_quant_map": np.sort(numbers(random, 256, dtype=np.float32)),
        "nested_offset": 0.125,
    }
    absmax = decoders.nested_absmax(*list(tensors.values())[1:])
    weight = decoders.nf4(tensors["codes"], absmax).reshape(N, -1)
    return Example(tensors, weight, {"N": N, "K": weight.shape[1]})


def gguf(name: str, N: int, blocks: int) -> Example:
    """Random blocks, restored by gguf itself."""
    kind = GGMLQuantizationType[name]
    _, size = GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(N)
    raw = random.integers(0, 256, (N, blocks, size)).astype(np.uint8)
    for at in F16_AT[name]:
        raw[..., at : at + 2] = numbers(random, N, blocks, 1).view(np.uint8)
    if name == "MXFP4":
        raw[..., 0] %= 255  # 255 is NaN, which gguf reads as a number
    raw = raw.reshape(N, -1)
    return Example({"B": raw}, dequantize(raw, kind), {})
