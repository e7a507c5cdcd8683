"""Matmuls of checkpoints where they lie: within bounds, and weight by weight exactly."""

from __future__ import annotations

import numpy as np
import pytest

from programs.checkpoint_matmul import checkpoint_matmul
from programs.formats import FORMATS
from programs.quantized_matmul import main
from tests.programs import checkpoint_examples as examples
from vm.isa.dtypes import DTypeError
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.cases import check_case, run_case
from vm.runtime.reference import run

# Every format, with sizes that fill no tile of 32, 64 or 128, and an odd N where it may be.
EXAMPLES = {
    **{f"gptq-{bits}": (FORMATS["gptq"](bits), examples.gptq(bits, 1, unit * 3, unit * 5, 4))
       for bits, unit in ((2, 16), (3, 32), (4, 8), (8, 4))},
    "gptq-version-2": (FORMATS["gptq"](4, 2), examples.gptq(4, 2, 72, 136, 5)),
    "awq": (FORMATS["awq"](32), examples.awq(96, 136, 32)),
    **{f"compressed-tensors-{bits}-{kind}":
       (FORMATS["compressed_tensors"](bits, 32, kind == "symmetric"),
        examples.compressed_tensors(bits, 160, 96, 32, kind == "symmetric"))
       for bits in (3, 4) for kind in ("symmetric", "asymmetric")},
    "mxfp4": (FORMATS["mxfp4"](),
              examples.mxfp4(67, 3, np.arange(201).reshape(67, 3).astype(np.uint8))),
    "nf4": (FORMATS["nf4"](), examples.nf4(67, 67, 64)),
    "nf4-nested": (FORMATS["nf4"](nested=True), examples.nested_nf4(131, 262)),
    **{f"gguf-{name}": (FORMATS[f"gguf_{name.lower()}"](), examples.gguf(name, 67, blocks))
       for name, blocks in (("Q4_0", 3), ("Q4_1", 3), ("Q8_0", 3), ("MXFP4", 3), ("Q4_K", 1),
                            ("Q6_K", 1))},
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_unit_matrix_gives_back_every_weight_of_an_independent_decoder(name):
    form, example = EXAMPLES[name]
    kernel = checkpoint_matmul(form)["matmul"].instantiate()
    a_type = kernel.parameters[0].type.dtype
    transposed = not name.startswith(("gptq", "awq"))
    weight = example.weight.T if transposed else example.weight
    depth = len(weight)
    sizes = {size: value for size, value in example.sizes.items() if size != "K"}
    unit = Tensor.from_values(a_type, np.eye(depth))
    given = {"A": unit, **example.tensors, "C": None, **sizes}
    product = run(kernel, given).outputs["C"].values()
    if a_type.name == "f16":
        with np.errstate(over="ignore"):
            weight = np.clip(weight, -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(product, weight)


@pytest.mark.parametrize("name", FORMATS)
def test_its_cases_pass_and_it_prints_what_it_is(name):
    module = checkpoint_matmul(FORMATS[name]())
    assert set(module.cases) == {"main", "odd", "one_row"}
    for case in (module.cases["odd"], module.cases["one_row"]):
        result = run_case(module, case)
        assert result.passed, result.fault or result.expectations
        assert result.expectations[0].bound > 0
    again = parse(str(module))
    assert again == module
    assert check_case(again, again.cases["main"]) is None


@pytest.mark.parametrize("name", ["mxfp4", "gguf_q4_k"])
def test_what_is_emitted_reads_checkpoints_too(name):
    """The two that compile fastest (4 s together): types of storage as they stand, and fields of
    blocks with views as u1. `python -m tests.programs.quantized_forms` runs all."""
    module = checkpoint_matmul(FORMATS[name](), rows=16)
    result = run_case(module, module.cases["one_row"], executor="emulator")
    assert result.passed, result.fault or result.expectations


def test_other_activations_round_the_weights_once_more():
    module = checkpoint_matmul(FORMATS["gguf_q4_0"](), activation="bf16")
    assert run_case(module, module.cases["odd"]).passed
    with pytest.raises(DTypeError, match="activation='bf16'"):
        checkpoint_matmul(FORMATS["mxfp4"](), activation="f16")
    with pytest.raises(DTypeError, match="activations are f16 or bf16"):
        checkpoint_matmul(FORMATS["awq"](), activation="f32")


def test_the_command_makes_a_matmul_of_a_checkpoint(capsys):
    assert main(["--checkpoint", "gptq", "--set", "bits=3", "--print"]) == 0
    assert parse(capsys.readouterr().out) == checkpoint_matmul(FORMATS["gptq"](bits=3))
    assert main(["--checkpoint", "awq", "--set", "bits=3"]) == 1
    assert "awq does not vary in bits" in capsys.readouterr().err
