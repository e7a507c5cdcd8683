"""Checkpoint formats: every element exactly as decoders of their own, or gguf itself, give it."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

from programs.checkpoints import Format, dequantizer
from programs.formats import FORMATS, main, options_of
from programs.formats_gguf import BLOCK_TYPES, gguf
from programs.formats_words import awq, compressed_tensors, gptq
from tests.programs import format_decoders as decoders
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.reference import run


def weight_of(form: Format, arguments: dict[str, object], **sizes: int) -> np.ndarray:
    """What a format's program makes of the tensors of a checkpoint."""
    kernel = dequantizer(form)["dequantize"].instantiate()
    return run(kernel, {**arguments, "W": None, **sizes}).outputs["W"].values()


def words(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.integers(-(2**31), 2**31, shape).astype(np.int32)


def numbers(random: np.random.Generator, *shape: int, dtype: type = np.float16) -> np.ndarray:
    return random.normal(0, 0.1, shape).astype(dtype)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("K", "N", "groups"), [(32, 32, 1), (96, 64, 3), (160, 32, 7)])
def test_gptq(bits, version, K, N, groups):
    """`g_idx` in any order, as activation ordering makes it."""
    random = np.random.default_rng(bits)
    given = {
        "qweight": words(random, K * bits // 32, N),
        "qzeros": words(random, groups, N * bits // 32),
        "scales": numbers(random, groups, N),
        "g_idx": random.integers(0, groups, K).astype(np.int32),
    }
    want = decoders.gptq(*given.values(), bits, version)
    np.testing.assert_array_equal(weight_of(gptq(bits, version), given), want)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_gptq_of_sizes_that_fill_no_tile(bits):
    random = np.random.default_rng(1)
    unit = 32 // bits
    K, N = 5 * unit, 3 * unit
    given = {
        "qweight": words(random, K // unit, N),
        "qzeros": words(random, 2, N // unit),
        "scales": numbers(random, 2, N),
        "g_idx": np.sort(random.integers(0, 2, K)).astype(np.int32),
    }
    want = decoders.gptq(*given.values(), bits, 1)
    np.testing.assert_array_equal(weight_of(gptq(bits), given), want)


@pytest.mark.parametrize(("K", "N", "group"), [(128, 64, 128), (192, 72, 64), (64, 8, 32)])
def test_awq(K, N, group):
    random = np.random.default_rng(K)
    given = {
        "qweight": words(random, K, N // 8),
        "qzeros": words(random, K // group, N // 8),
        "scales": numbers(random, K // group, N),
    }
    want = decoders.awq(*given.values(), group)
    np.testing.assert_array_equal(weight_of(awq(group), given), want)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("N", "K", "group"), [(32, 128, 128), (96, 64, 32)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_compressed_tensors(bits, N, K, group, symmetric):
    random = np.random.default_rng(bits)
    packed, scales = words(random, N, K * bits // 32), numbers(random, N, K // group)
    given = {"weight_packed": packed, "weight_scale": scales}
    zeros = None if symmetric else words(random, N * bits // 32, K // group)
    if zeros is not None:
        given["weight_zero_point"] = zeros
    want = decoders.compressed_tensors(packed, zeros, scales, K, bits, group)
    got = weight_of(compressed_tensors(bits, group, symmetric), given, K=K)
    np.testing.assert_array_equal(got, want)


def test_mxfp4_has_every_code_with_every_scale():
    random = np.random.default_rng(4)
    scales = np.arange(255).astype(np.uint8).reshape(5, 51)  # 255 is NaN
    blocks = random.integers(0, 256, (5, 51, 16)).astype(np.uint8)
    blocks[:, :, :8] = np.arange(0, 256, 34)  # both nibbles, all codes
    got = weight_of(FORMATS["mxfp4"](), {"blocks": blocks, "scales": scales})
    want = decoders.mxfp4(blocks, scales)
    # Above 2^127 a product has no value in bf16, whose overflow is infinity.
    want = np.where(np.abs(want) < 2.0**128, want, np.copysign(np.inf, want))
    np.testing.assert_array_equal(got, want)


def test_mxfp4_bytes_are_a_tensor_as_they_stand():
    blocks = np.random.default_rng(5).integers(0, 256, (3, 2, 16)).astype(np.uint8)
    tensor = Tensor("f4e2m1", (3, 64), blocks.reshape(3, 32))
    ones = np.full((3, 2), 127, np.uint8)
    np.testing.assert_array_equal(tensor.values(), decoders.mxfp4(blocks, ones))


@pytest.mark.parametrize(
    ("rows", "blocks", "block"), [(1, 1, 64), (1, 33, 64), (70, 140, 64), (5, 40, 128), (3, 9, 32)]
)
def test_nf4(rows, blocks, block):
    random = np.random.default_rng(blocks)
    codes = random.integers(0, 256, (blocks * block // 2, 1)).astype(np.uint8)
    absmax = np.abs(numbers(random, blocks, dtype=np.float32))
    sizes = {"N": rows, "K": blocks * block // rows}
    got = weight_of(FORMATS["nf4"](block=block), {"codes": codes, "absmax": absmax}, **sizes)
    np.testing.assert_array_equal(got.reshape(-1), decoders.nf4(codes, absmax, block))


@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (1, 256), (4, 300), (100, 300)])
def test_nested_nf4(rows, blocks):
    random = np.random.default_rng(blocks)
    given = {
        "codes": random.integers(0, 256, (blocks * 32, 1)).astype(np.uint8),
        "absmax": random.integers(0, 256, blocks).astype(np.uint8),
        "nested_absmax": np.abs(numbers(random, -(-blocks // 256), dtype=np.float32)),
        "nested_quant_map": np.sort(numbers(random, 256, dtype=np.float32)),
        "nested_offset": 0.125,
    }
    absmax = decoders.nested_absmax(*list(given.values())[1:])
    got = weight_of(FORMATS["nf4"](nested=True), given, N=rows, K=blocks * 64 // rows)
    np.testing.assert_array_equal(got.reshape(-1), decoders.nf4(given["codes"], absmax))


# Where numbers in f16 stand in a block: random bytes there could be NaN.
F16_AT = {"Q4_0": (0,), "Q4_1": (0, 2), "Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,), "MXFP4": ()}


@pytest.mark.parametrize("name", BLOCK_TYPES)
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (5, 7), (3, 40)])
def test_gguf_of_random_blocks(name, rows, blocks):
    kind = GGMLQuantizationType[name]
    _, size = GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(rows)
    raw = random.integers(0, 256, (rows, blocks, size)).astype(np.uint8)
    for at in F16_AT[name]:
        raw[..., at : at + 2] = numbers(random, rows, blocks, 1).view(np.uint8)
    if name == "MXFP4":
        raw[..., 0] %= 255  # 255 is NaN, which gguf reads as a number
    raw = raw.reshape(rows, -1)
    np.testing.assert_array_equal(weight_of(gguf(name), {"B": raw}), dequantize(raw, kind))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q8_0", "MXFP4"])
def test_gguf_of_weights_that_gguf_has_quantized(name):
    kind = GGMLQuantizationType[name]
    raw = quantize(numbers(np.random.default_rng(6), 9, 96, dtype=np.float32), kind)
    np.testing.assert_array_equal(weight_of(gguf(name), {"B": raw}), dequantize(raw, kind))


@pytest.mark.parametrize("name", FORMATS)
def test_the_command_prints_a_module_that_means_the_same(name, capsys):
    assert main([name]) == 0
    printed = parse(capsys.readouterr().out)
    assert printed == dequantizer(FORMATS[name]())
    kernel = printed["dequantize"].instantiate()
    assert parse(f"vm 1\n{kernel}")["dequantize"].instantiate() == kernel


def test_the_command_lists_formats_and_refuses_what_they_have_not(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(FORMATS) and listed[0].split() == ["gptq", "bits=4,", "version=1"]
    assert options_of("gptq") == {"bits": 4, "version": 1}
    for arguments, says in (
        (["awq", "--set", "bits=3"], "awq does not vary in bits; it does in group"),
        (["gguf_q4_0", "--set", "bits=3"], "it does in nothing"),
        (["gptq", "--set", "bits=5"], "2, 3, 4 or 8 bits"),
        (["gptq", "--set", "bits=many"], "write a number, bits=4"),
        (["nf4", "--set", "nested=1"], "write nested=true or nested=false"),
        (["nf4", "--set", "block=48"], "a block has 32, 64, 128"),
    ):
        assert main(arguments) == 1
        assert says in capsys.readouterr().err
    asymmetric = ["--set", "bits=3", "--set", "symmetric=false", "--set", "group=32"]
    assert main(["compressed_tensors", *asymmetric]) == 0
    assert "weight_zero_point" in capsys.readouterr().out
