"""vm explain FILE, and vm fmt --layouts: what the compiler chose, and why."""

from __future__ import annotations

import pytest

from vm.compiler.layouts import infer_layouts
from vm.isa.program import load

MODULES = (
    "vector_add", "transpose", "softmax", "layer_norm", "matmul_f16", "matmul_w4a16",
    "gemm_w4a16",
)  # fmt: skip


# --- selection ---
def test_each_instruction_is_shown_with_the_rule_that_did_it(vm, programs):
    outcome = vm("explain", programs / "matmul_f16.vm", "--selection")
    assert outcome.status == 0
    assert outcome.output.startswith("program matmul for sm_80\n")
    lines = outcome.output.splitlines()
    for expected in ("copy_async: copy_with_cp_async", "load: load_matrices"):
        assert any(line.endswith(expected) for line in lines), expected
    text = (programs / "matmul_f16.vm").read_text().splitlines()
    place = next(line for line in lines if line.endswith("copy_with_cp_async")).split()[0]
    line, column = map(int, place.split(":"))
    assert text[line - 1][column - 1 :].startswith("copy_async(")


def test_why_better_rules_were_refused(vm, programs):
    known = vm("explain", programs / "matmul_f16.vm", "--selection").output
    unknown = vm("explain", programs / "matmul_f16.vm", "--selection", "--assume", "none").output
    refused = "not copy_with_cp_async: no run of 4 bytes is aligned on both sides"
    assert refused not in known
    assert refused in unknown
    assert "copy_async: copy_through_registers" in unknown


def test_what_is_written_out_many_times_is_shown_once(vm, programs):
    lines = vm("explain", programs / "matmul_f16.vm", "--selection").output.splitlines()
    assert len(lines) == len(set(lines))


def test_one_program_another_target_and_other_constants(vm, programs):
    path = programs / "matmul_w4a16.vm"
    outcome = vm("explain", path, "--selection", "--program", "pack_weight", "--target", "sm_90a")
    assert outcome.output.startswith("program pack_weight for sm_90a\n")
    assert "program matmul" not in outcome.output
    assert "error[E0902]" in vm("explain", path, "--selection", "--target", "sm_9").errors
    other = vm("explain", programs / "matmul_f16.vm", "--layouts", "--set", "BM=32")
    assert "acc: f32[32, 128], 32 registers" in other.output


# --- layouts ---
def test_layouts_are_shown_with_their_reasons(vm, programs):
    output = vm("explain", programs / "softmax.vm", "--layouts").output
    assert output.startswith("program softmax: layouts\n")
    assert "largest: f32[4, 1], 1 registers" in output
    assert "a reduction within warps" in output


def test_a_file_is_needed(vm):
    assert "error[E0801]" in vm("explain", "--selection").errors
    assert "error[E0801]" in vm("explain", "missing.vm", "--layouts").errors


# --- layouts in the text ---
@pytest.mark.parametrize("name", MODULES)
def test_written_layouts_change_nothing_but_are_all_there(vm, programs, tmp_path, name):
    path = tmp_path / f"{name}.vm"
    path.write_text((programs / f"{name}.vm").read_text())
    assert vm("fmt", "--layouts", path).status == 0
    before, after = load(programs / f"{name}.vm"), load(path)
    for program in before:
        if program.definition.kind != "program":
            continue
        inferred = infer_layouts(program.instantiate())
        assert infer_layouts(after[program.name].instantiate()) == inferred
    again = path.read_text()
    assert vm("fmt", "--layouts", path).status == 0
    assert path.read_text() == again
    assert vm("fmt", "--check", path).status == 0


def test_loads_fills_and_variables_get_layouts(vm, programs, tmp_path):
    path = tmp_path / "matmul_f16.vm"
    path.write_text((programs / "matmul_f16.vm").read_text())
    vm("fmt", "--layouts", path)
    text = path.read_text()
    assert text.count("load(a[k % STAGES], layout=") == 1
    assert "var acc: register(f32, layout=" in text
    # Comments and what has no layout stay.
    assert "# tiles of A and B on their way at any time" in text
    assert "copy_async(a[s], A[m +: BM, s * BK +: BK])\n" in text


def test_relayouts_are_written_behind_names_and_in_place(vm, tmp_path):
    """With all layouts written nothing is inferred any more: what inference moves must be there."""
    path = tmp_path / "moved.vm"
    path.write_text(
        "vm 1\n"
        "program p(A: global(u8)[128], C: out(global(u8))[128])\n"
        "  grid (1) threads 32\n"
        "{\n"
        "  x = load(A, layout=spatial(8).local(16).replicated(4))\n"
        "  store(C, x)\n"
        "  store(C, load(A, layout=spatial(8).local(16).replicated(4)))\n"
        "  store(C, load(A))\n"
        "}\n"
    )
    assert vm("fmt", "--layouts", path).status == 0
    text = path.read_text()
    assert "  x_moved = relayout(x, spatial(32).local(4))\n  store(C, x_moved)\n" in text
    assert "relayout(load(A, layout=spatial(8).local(16).replicated(4)), spatial(32)" in text
    assert vm("fmt", "--layouts", path).status == 0
    assert path.read_text() == text


def test_a_layout_that_stands_there_stays(vm, programs, tmp_path):
    path = tmp_path / "transpose.vm"
    text = (programs / "transpose.vm").read_text()
    path.write_text(text)
    vm("fmt", "--layouts", path)
    assert path.read_text() == text  # all of its loads say their layout


def test_places_with_several_layouts_are_left_alone(vm, tmp_path):
    path = tmp_path / "two.vm"
    path.write_text(
        "vm 1\n"
        "program p(A: global(f32)[N], C: out(global(f32))[N])\n"
        "  grid (1) threads 32\n"
        "{\n"
        "  for i in range(2) unroll full {\n"
        "    x = load(A[0 +: 32 * (i + 1)])\n"
        "    store(C[0 +: 32 * (i + 1)], x)\n"
        "  }\n"
        "}\n"
    )
    outcome = vm("fmt", "--layouts", path)
    assert outcome.status == 0, outcome.errors
    assert "layout" not in path.read_text()


def test_a_program_with_a_mistake_is_left_as_it_is(vm, tmp_path):
    path = tmp_path / "wrong.vm"
    text = "vm 1\nprogram p(A: global(f32)[N]) grid (1) threads 32\n{\n  x = load(B[0])\n}\n"
    path.write_text(text)
    assert "error[E0201]" in vm("fmt", "--layouts", path).errors
    assert path.read_text() == text
