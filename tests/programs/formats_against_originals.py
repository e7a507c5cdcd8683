"""Checkpoint formats against the packages that they come from: run by `make test-formats`.

Not collected by `make test`, for the packages bring torch. What each original makes of random
checkpoint tensors must be what our program makes of them, element by element, the sign of zero
aside. The result goes to benchmarks/results/formats_against_originals.json, which docs/types.md
shows.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import sys
import types
from collections.abc import Iterator
from importlib.metadata import files, version
from pathlib import Path
from typing import Any, NamedTuple

import bitsandbytes.functional as bitsandbytes
import numpy as np
import torch
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import (
    pack_to_int32,
    unpack_from_int32,
)

from programs.checkpoints import Format, dequantizer
from programs.formats import FORMATS, format_called
from programs.formats_gguf import BLOCK_TYPES
from tests.programs import checkpoint_examples as examples
from vm.runtime.reference import run

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "formats_against_originals.json"
PACKAGES = ("auto-gptq", "autoawq", "compressed-tensors", "bitsandbytes", "gguf", "torch")


class Comparison(NamedTuple):
    """A weight as a format's program restores it, and as the package that it comes from does."""

    format: str
    settings: tuple[str, ...]
    package: str
    restored: np.ndarray
    original: np.ndarray


def one_file(package: str, path: str) -> Any:
    """A module of a package on its own: importing all of the package needs a GPU."""
    (found,) = (f for f in files(package) or () if str(f) == path)
    specification = importlib.util.spec_from_file_location(found.stem, found.locate())
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def restored(form: Format, example: examples.Example) -> np.ndarray:
    kernel = dequantizer(form)["dequantize"].instantiate()
    given = {**example.tensors, "W": None, **example.sizes}
    return run(kernel, given).outputs["W"].values()


def gptq() -> Iterator[Comparison]:
    # Its module asks transformers only for a class that weights may have.
    sys.modules.setdefault("transformers", types.ModuleType("transformers"))
    layer = one_file("auto_gptq", "auto_gptq/nn_modules/qlinear/qlinear_cuda.py").QuantLinear
    K, N, group = 128, 64, 32
    for bits in (2, 3, 4, 8):
        example = examples.gptq(bits, 1, K, N, K // group)
        linear = layer(bits, group, K, N, bias=False)
        for name, array in example.tensors.items():
            setattr(linear, name, torch.from_numpy(array))
        # A unit matrix gives back the weight.
        original = linear(torch.eye(K, dtype=torch.float16)).detach().numpy()
        settings = (f"bits={bits}",)
        form = format_called("gptq", settings)
        yield Comparison("gptq", settings, "auto-gptq", restored(form, example), original)


def awq() -> Iterator[Comparison]:
    packing = one_file("autoawq", "awq/utils/packing_utils.py")
    for group in (32, 64, 128):
        example = examples.awq(256, 72, group)
        tensors = [torch.from_numpy(array) for array in example.tensors.values()]
        original = packing.dequantize_gemm(*tensors, 4, group).numpy()
        settings = (f"group={group}",)
        form = format_called("awq", settings)
        yield Comparison("awq", settings, "autoawq", restored(form, example), original)


def compressed_tensors() -> Iterator[Comparison]:
    N, K, group = 64, 128, 32
    for bits, symmetric in ((bits, symmetric) for bits in range(1, 9) for symmetric in (1, 0)):
        random = np.random.default_rng(bits)
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
        codes = torch.from_numpy(random.integers(low, high, (N, K)).astype(np.int8))
        zeros = torch.from_numpy(random.integers(low, high, (N, K // group)).astype(np.int8))
        scale = examples.numbers(random, N, K // group)
        packed = pack_to_int32(codes, bits)
        assert torch.equal(unpack_from_int32(packed, bits, codes.shape), codes)
        tensors = {"weight_packed": packed.numpy(), "weight_scale": scale}
        difference = codes.to(torch.float16)
        if not symmetric:
            tensors["weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0).numpy()
            difference = difference - zeros.to(torch.float16).repeat_interleave(group, dim=1)
        original = difference * torch.from_numpy(scale).repeat_interleave(group, dim=1)
        example = examples.Example(tensors, original.numpy(), {"K": K})
        settings = (f"bits={bits}", f"group={group}", f"symmetric={str(bool(symmetric)).lower()}")
        form = format_called("compressed_tensors", settings)
        yield Comparison("compressed_tensors", settings, "compressed-tensors",
                         restored(form, example), example.weight)  # fmt: skip


def mxfp4() -> Iterator[Comparison]:
    scales = np.random.default_rng(2).integers(100, 150, (8, 4)).astype(np.uint8)
    example = examples.mxfp4(8, 4, scales)
    blocks = torch.from_numpy(example.tensors["blocks"].reshape(8, 64))
    values = unpack_fp4_from_uint8(blocks, 8, 128, torch.float32)
    powers = torch.exp2(torch.from_numpy(scales).float() - 127)
    original = (values * powers.repeat_interleave(32, dim=1)).numpy()
    form = FORMATS["mxfp4"]()
    yield Comparison("mxfp4", (), "compressed-tensors", restored(form, example), original)


def nf4() -> Iterator[Comparison]:
    torch.manual_seed(3)
    weight = torch.randn(96, 256) * 0.05
    for nested, block in ((0, 64), (1, 64), (0, 128), (0, 4096)):
        codes, state = bitsandbytes.quantize_4bit(
            weight, blocksize=block, quant_type="nf4", compress_statistics=bool(nested)
        )
        original = bitsandbytes.dequantize_4bit(codes, state).numpy()
        tensors: dict[str, Any] = {"codes": codes.numpy(), "absmax": state.absmax.numpy()}
        if nested:
            tensors["nested_absmax"] = state.state2.absmax.numpy()
            tensors["nested_quant_map"] = state.state2.code.numpy()
            tensors["nested_offset"] = float(state.offset)
        # Blocks that are longer than rows: the weight as a single row.
        shape = original.shape if block <= original.shape[1] else (1, original.size)
        example = examples.Example(tensors, original, {"N": shape[0], "K": shape[1]})
        settings = (f"nested={str(bool(nested)).lower()}", f"block={block}")
        form = format_called("nf4", settings)
        got = restored(form, example).reshape(original.shape)
        yield Comparison("nf4", settings, "bitsandbytes", got, original)


def gguf() -> Iterator[Comparison]:
    for name in BLOCK_TYPES:
        example = examples.gguf(name, 16, 8)
        called = f"gguf_{name.lower()}"
        got = restored(FORMATS[called](), example)
        yield Comparison(called, (), "gguf", got, example.weight)


def main() -> int:
    rows, failed = [], 0
    for family in (gptq, awq, compressed_tensors, mxfp4, nf4, gguf):
        for each in family():
            equal = np.array_equal(each.restored, each.original)
            failed += not equal
            called = " ".join((each.format, *each.settings))
            print(f"{called}: {'equal' if equal else 'DIFFERENT'}, {each.original.size} elements")
            rows.append({"format": each.format, "settings": list(each.settings),
                         "package": each.package, "elements": each.original.size,
                         "equal": equal})  # fmt: skip
    result = {
        "command": "make test-formats", "date": datetime.date.today().isoformat(),
        "packages": {name: version(name) for name in PACKAGES}, "comparisons": rows,
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{len(rows)} comparisons, {failed} different; {RESULT.name} written")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
