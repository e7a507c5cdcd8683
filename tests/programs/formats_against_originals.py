"""Checkpoint formats against the packages that they come from: run by `make test-formats`.

Not collected by `make test`, for the packages bring torch. What each original makes of random
checkpoint tensors must be what our program makes of them, element by element.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.metadata import files
from typing import Any

import bitsandbytes.functional as bitsandbytes
import numpy as np
import pytest
import torch
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import (
    pack_to_int32,
    unpack_from_int32,
)

from programs.formats import FORMATS
from programs.formats_words import awq, compressed_tensors, gptq
from vm.runtime.reference import run


def one_file(package: str, path: str) -> Any:
    """A module of a package on its own: importing all of the package needs a GPU."""
    (found,) = (f for f in files(package) or () if str(f) == path)
    specification = importlib.util.spec_from_file_location(found.stem, found.locate())
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def weight_of(module, arguments: dict[str, object], **sizes: int) -> np.ndarray:
    kernel = module["dequantize"].instantiate()
    return run(kernel, {**arguments, "W": None, **sizes}).outputs["W"].values()


def words(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.integers(-(2**31), 2**31, shape).astype(np.int32)


def scales(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(0, 0.1, shape).astype(np.float16)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_as_auto_gptq(bits):
    # Its module asks transformers only for a class that weights may have.
    sys.modules.setdefault("transformers", types.ModuleType("transformers"))
    layer = one_file("auto_gptq", "auto_gptq/nn_modules/qlinear/qlinear_cuda.py").QuantLinear
    random = np.random.default_rng(bits)
    K, N, group = 128, 64, 32
    given = {
        "qweight": words(random, K * bits // 32, N),
        "qzeros": words(random, K // group, N * bits // 32),
        "scales": scales(random, K // group, N),
        "g_idx": random.permutation(np.arange(K) // group).astype(np.int32),
    }
    linear = layer(bits, group, K, N, bias=False)
    for name, array in given.items():
        setattr(linear, name, torch.from_numpy(array))
    # A unit matrix gives back the weight.
    original = linear(torch.eye(K, dtype=torch.float16)).detach().numpy()
    np.testing.assert_array_equal(weight_of(gptq(bits), given), original)


def test_awq_as_autoawq():
    packing = one_file("autoawq", "awq/utils/packing_utils.py")
    random = np.random.default_rng(1)
    K, N, group = 256, 72, 64
    given = {
        "qweight": words(random, K, N // 8),
        "qzeros": words(random, K // group, N // 8),
        "scales": scales(random, K // group, N),
    }
    tensors = [torch.from_numpy(array) for array in given.values()]
    original = packing.dequantize_gemm(*tensors, 4, group).numpy()
    np.testing.assert_array_equal(weight_of(awq(group), given), original)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_compressed_tensors_as_itself(bits, symmetric):
    random = np.random.default_rng(bits)
    N, K, group = 64, 128, 32
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    codes = torch.from_numpy(random.integers(low, high, (N, K)).astype(np.int8))
    zeros = torch.from_numpy(random.integers(low, high, (N, K // group)).astype(np.int8))
    scale = scales(random, N, K // group)
    packed = pack_to_int32(codes, bits)
    assert torch.equal(unpack_from_int32(packed, bits, codes.shape), codes)
    given = {"weight_packed": packed.numpy(), "weight_scale": scale}
    difference = codes.to(torch.float16)
    if not symmetric:
        given["weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0).numpy()
        difference = difference - zeros.to(torch.float16).repeat_interleave(group, dim=1)
    original = difference * torch.from_numpy(scale).repeat_interleave(group, dim=1)
    got = weight_of(compressed_tensors(bits, group, symmetric), given, K=K)
    np.testing.assert_array_equal(got, original.numpy())


def test_mxfp4_as_compressed_tensors_reads_it():
    random = np.random.default_rng(2)
    blocks = random.integers(0, 256, (8, 4, 16)).astype(np.uint8)
    exponents = random.integers(100, 150, (8, 4)).astype(np.uint8)
    values = unpack_fp4_from_uint8(torch.from_numpy(blocks.reshape(8, 64)), 8, 128, torch.float32)
    powers = torch.exp2(torch.from_numpy(exponents).float() - 127)
    original = values * powers.repeat_interleave(32, dim=1)
    got = weight_of(FORMATS["mxfp4"](), {"blocks": blocks, "scales": exponents})
    np.testing.assert_array_equal(got, original.numpy())


@pytest.mark.parametrize("nested", [False, True])
def test_nf4_as_bitsandbytes(nested):
    torch.manual_seed(3)
    weight = torch.randn(96, 256) * 0.05
    codes, state = bitsandbytes.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=nested
    )
    original = bitsandbytes.dequantize_4bit(codes, state).numpy().reshape(-1)
    given: dict[str, object] = {"codes": codes.numpy(), "absmax": state.absmax.numpy()}
    if nested:
        given["nested_absmax"] = state.state2.absmax.numpy()
        given["nested_quant_map"] = state.state2.code.numpy()
        given["nested_offset"] = float(state.offset)
    np.testing.assert_array_equal(weight_of(FORMATS["nf4"](nested=nested), given), original)
