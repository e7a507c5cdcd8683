"""vm run: real inputs in, checked results out."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from vm.isa.tensor import Tensor


def test_the_demo(vm, programs):
    outcome = vm("run", programs / "matmul_w4a16.vm", "--case", "main")
    assert outcome.status == 0
    for part in (
        "case main  M=64 N=1024 K=1024",
        "pack_weight  on reference: B u4[1024, 1024] -> P u8[16, 8, 4096]",
        "-> C f16[64, 1024]",
        "largest error",
        "PASS",
        "1 of 1 cases passed",
    ):
        assert part in outcome.output


def test_all_cases_run_unless_one_is_named(vm, programs):
    outcome = vm("run", programs / "vector_add.vm")
    assert outcome.status == 0
    assert outcome.output.count("PASS") == 4


def test_a_weight_of_a_model_is_quantized_on_the_way(vm, programs, tmp_path):
    """torch keeps a Linear's weight as [out, in]; the case turns and quantizes it."""
    weight = np.random.default_rng(1).normal(0, 0.05, (384, 256)).astype(np.float32)
    name = "encoder.layer.0.intermediate.dense.weight"
    save_file({name: weight}, tmp_path / "model.safetensors")
    activations = np.random.default_rng(2).normal(0, 1, (5, 256)).astype(np.float32)
    np.save(tmp_path / "a.npy", activations)
    outcome = vm(
        "run", programs / "matmul_w4a16.vm", "--case", "quantized",
        "--input", f"W={tmp_path}/model.safetensors:{name}",
        "--input", f"A={tmp_path}/a.npy",
        "--output", f"C={tmp_path}/c.npy",
    )  # fmt: skip
    assert outcome.status == 0, outcome.errors
    assert "case quantized  M=5 N=384 K=256" in outcome.output
    assert "cast from f32" in outcome.output
    product = np.load(tmp_path / "c.npy")
    assert product.dtype == np.float16
    # A step of a group is its range over 15; rounding moves a weight by half of one. With the
    # roundings of zero point and scale a whole one is more than it can be.
    groups = weight.T.reshape(2, 128, 384)
    step = (groups.max(1).clip(0) - groups.min(1).clip(None, 0)) / 15
    reach = np.abs(activations) @ np.repeat(step, 128, axis=0)
    assert (np.abs(product - activations @ weight.T) <= reach).all()


def test_inputs_from_npz_and_other_seeds(vm, programs, tmp_path):
    np.savez(tmp_path / "x.npz", first=np.arange(10, dtype=np.float32))
    outcome = vm(
        "run", programs / "vector_add.vm", "--case", "main", "--input", f"A={tmp_path}/x.npz:first",
        "--input", "B=random:5", "--output", f"B={tmp_path}/b.npy",
    )  # fmt: skip
    assert outcome.status == 0, outcome.errors
    assert "N=10" in outcome.output
    assert "B is random with seed 5" in outcome.output
    assert np.load(tmp_path / "b.npy").shape == (10,)


def test_settings(vm, programs):
    outcome = vm(
        "run", programs / "vector_add.vm", "--case", "main", "--set", "N=7", "--set", "TILE=128"
    )
    assert outcome.status == 0
    assert "N=7" in outcome.output


def test_a_size_that_does_not_fit_is_answered_with_what_would(vm, programs):
    outcome = vm("run", programs / "matmul_w4a16.vm", "--case", "main", "--set", "K=1000")
    assert outcome.status == 1
    assert "error[E0703]" in outcome.errors
    assert "K = 960 or 1024 would fit" in outcome.errors
    assert "FAIL" in outcome.output


WRONG = """vm 1
program p(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 32 {
  store(C[0 +: 32], load(A[0 +: 32]) + 0.5)
}
case good(N=32) {
  A = full(f32, [N], -0.25)
  expect(p(A), full(f32, [N], 0.25))
}
case wrong(N=32) {
  A = arange(f32, [N])
  expect(p(A), A)
}
case past_the_tile(N=33) {
  A = zeros(f32, [N])
  expect(p(A), full(f32, [N], 0.5))
}
"""


def test_a_wrong_result_says_where_and_by_how_much(vm, tmp_path):
    (tmp_path / "wrong.vm").write_text(WRONG)
    outcome = vm("run", tmp_path / "wrong.vm")
    assert outcome.status == 1
    assert "32 elements are wrong" in outcome.output
    assert "1 elements are wrong; worst is [32]: nan instead of 0.5" in outcome.output
    assert outcome.output.count("FAIL") == 2
    assert "1 of 3 cases passed; failed: wrong, past_the_tile" in outcome.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--case", "mian"], "E0809"),
        (["--input", "A"], "E0803"),
        (["--input", "A=what"], "E0804"),
        (["--input", "Q=random:1"], "E0804"),
        (["--output", "C=x.txt"], "E0808"),
        (["--output", "Q=x.npy"], "E0808"),
        (["--set", "N"], "E0803"),
        (["--set", "N=load(3)"], "E0803"),
        (["--set", "N=2 * abc"], "E0803"),
        (["--set", "N=dot"], "E0803"),
        (["--set", "N=1 +"], "E0102"),
        (["--set", "N=f16"], "E0205"),
        (["--set", "QQ=3"], "E0803"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    vm, programs, tmp_path, monkeypatch, arguments, code
):
    monkeypatch.chdir(tmp_path)
    outcome = vm("run", programs / "vector_add.vm", *arguments)
    assert outcome.status == 1
    assert f"error[{code}]" in outcome.errors
    assert not list(tmp_path.iterdir())


def test_names_of_outputs_are_known_before_anything_runs(vm, programs, tmp_path):
    outcome = vm("run", programs / "vector_add.vm", "--output", f"AA={tmp_path}/x.npy")
    assert outcome.status == 1 and not outcome.output
    assert "has no tensor `AA`" in outcome.errors and "did you mean `A`?" in outcome.errors


def test_outputs_never_overwrite_inputs(vm, programs, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4, dtype=np.float32))
    (tmp_path / "same.npy").hardlink_to(tmp_path / "a.npy")
    before = (tmp_path / "a.npy").read_bytes()
    for name in ("a.npy", "same.npy"):
        outcome = vm(
            "run", programs / "vector_add.vm", "--input", f"A={tmp_path}/a.npy",
            "--output", f"B={tmp_path}/{name}",
        )  # fmt: skip
        assert outcome.status == 1
        assert "error[E0808]" in outcome.errors
    assert (tmp_path / "a.npy").read_bytes() == before


def test_what_a_program_prints_is_shown(vm, tmp_path):
    text = WRONG.replace("{\n  store", '{\n  print(N, label="size")\n  store', 1)
    (tmp_path / "prints.vm").write_text(text)
    assert "size: 32" in vm("run", tmp_path / "prints.vm", "--case", "good").output


def test_a_file_without_cases(vm, tmp_path):
    (tmp_path / "none.vm").write_text("vm 1\nconst A = 1\n")
    outcome = vm("run", tmp_path / "none.vm")
    assert outcome.status == 1
    assert "error[E0809]" in outcome.errors


def test_packed_outputs_are_written_as_numbers(vm, programs, tmp_path):
    outcome = vm(
        "run", programs / "matmul_w4a16.vm", "--case", "whole_numbers",
        "--output", f"B={tmp_path}/b.npy",
    )  # fmt: skip
    assert outcome.status == 0, outcome.errors
    expected = Tensor.from_values("u4", np.arange(128 * 128).reshape(128, 128), "wrap").values()
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), expected)
