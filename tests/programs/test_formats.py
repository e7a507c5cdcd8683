"""Checkpoint formats: every element exactly as decoders of their own, or gguf itself, give it."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from programs.checkpoints import Format, dequantizer
from programs.formats import FORMATS, main, options_of
from programs.formats_gguf import BLOCK_TYPES, gguf
from programs.formats_words import awq, compressed_tensors, gptq
from tests.programs import checkpoint_examples as examples
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.reference import run


def restored(form: Format, example: examples.Example) -> np.ndarray:
    """What a format's program makes of the tensors of a checkpoint."""
    kernel = dequantizer(form)["dequantize"].instantiate()
    given = {**example.tensors, "W": None, **example.sizes}
    return run(kernel, given).outputs["W"].values()


def check(form: Format, example: examples.Example) -> None:
    np.testing.assert_array_equal(restored(form, example), example.weight)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("K", "N", "groups"), [(32, 32, 1), (96, 64, 3), (160, 32, 7)])
def test_gptq(bits, version, K, N, groups):
    check(gptq(bits, version), examples.gptq(bits, version, K, N, groups))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_gptq_of_sizes_that_fill_no_tile(bits):
    unit = 32 // bits
    check(gptq(bits), examples.gptq(bits, 1, 5 * unit, 3 * unit, 2))


@pytest.mark.parametrize(("K", "N", "group"), [(128, 64, 128), (192, 72, 64), (64, 8, 32)])
def test_awq(K, N, group):
    check(awq(group), examples.awq(K, N, group))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("N", "K", "group"), [(32, 128, 128), (96, 64, 32)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_compressed_tensors(bits, N, K, group, symmetric):
    example = examples.compressed_tensors(bits, N, K, group, symmetric)
    check(compressed_tensors(bits, group, symmetric), example)


def test_mxfp4_has_every_code_with_every_scale():
    example = examples.mxfp4(5, 51, np.arange(255).astype(np.uint8).reshape(5, 51))  # 255 is NaN
    want = example.weight
    # Above 2^127 a product has no value in bf16, whose overflow is infinity.
    want = np.where(np.abs(want) < 2.0**128, want, np.copysign(np.inf, want))
    np.testing.assert_array_equal(restored(FORMATS["mxfp4"](), example), want)


def test_mxfp4_bytes_are_a_tensor_as_they_stand():
    example = examples.mxfp4(3, 2, np.full((3, 2), 127, np.uint8))
    tensor = Tensor("f4e2m1", (3, 64), example.tensors["blocks"].reshape(3, 32))
    np.testing.assert_array_equal(tensor.values(), example.weight)


@pytest.mark.parametrize(
    ("rows", "blocks", "block"), [(1, 1, 64), (1, 33, 64), (70, 140, 64), (5, 40, 128), (3, 9, 32)]
)
def test_nf4(rows, blocks, block):
    check(FORMATS["nf4"](block=block), examples.nf4(rows, blocks, block))


@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (1, 256), (4, 300), (100, 300)])
def test_nested_nf4(rows, blocks):
    check(FORMATS["nf4"](nested=True), examples.nested_nf4(rows, blocks))


@pytest.mark.parametrize("name", BLOCK_TYPES)
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (5, 7), (3, 40)])
def test_gguf_of_random_blocks(name, rows, blocks):
    check(gguf(name), examples.gguf(name, rows, blocks))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q8_0", "MXFP4"])
def test_gguf_of_weights_that_gguf_has_quantized(name):
    kind = GGMLQuantizationType[name]
    weight = examples.numbers(np.random.default_rng(6), 9, 96, dtype=np.float32)
    raw = quantize(weight, kind)
    check(gguf(name), examples.Example({"B": raw}, dequantize(raw, kind), {}))


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
