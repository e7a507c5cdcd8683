"""vm compile, explain, layout and doctor."""

from __future__ import annotations

import xml.etree.ElementTree as xml

from vm.isa.error_codes import CODES
from vm.isa.program import load, parse

# --- compile ---


def test_the_instantiated_kernel_is_text_that_means_the_same(vm, programs):
    outcome = vm("compile", programs / "vector_add.vm", "--emit", "vm")
    assert outcome.status == 0
    kernel = load(programs / "vector_add.vm")["vector_add"].instantiate()
    assert parse(f"vm 1\n{outcome.output}")["vector_add"].instantiate() == kernel


def test_constants_and_program_are_chosen(vm, programs, tmp_path):
    path = tmp_path / "out.vm"
    outcome = vm(
        "compile", programs / "matmul_w4a16.vm", "--program", "pack_weight", "--set", "BK=32",
        "-o", path,
    )  # fmt: skip
    assert outcome.status == 0
    assert "K / 32" in path.read_text()


def test_one_of_many_programs_must_be_named(vm, programs):
    assert "error[E0809]" in vm("compile", programs / "matmul_w4a16.vm").errors
    outcome = vm("compile", programs / "matmul_w4a16.vm", "--program", "matmull")
    assert "did you mean `matmul`?" in outcome.errors


# --- explain ---


def test_codes_are_explained(vm):
    outcome = vm("explain", "E0312")
    assert outcome.status == 0
    assert outcome.output == CODES["E0312"].render() + "\n"


def test_all_codes_are_listed(vm):
    listed = vm("explain").output
    assert all(f"  {code}  " in listed for code in CODES)


def test_unknown_codes_are_refused(vm):
    assert vm("explain", "E9999").status == 1


# --- layout ---


def test_a_layout_is_shown_as_a_table(vm):
    outcome = vm("layout", "spatial(8, 4).local(1, 2)")
    assert outcome.status == 0
    assert "8 x 8, 32 threads x 2 slots" in outcome.output
    assert "31:1" in outcome.output


def test_the_parts_of_a_fragment_are_shown(vm):
    output = vm("layout", "mma_m16n8k16").output
    assert all(f"--- {part} ---" in output for part in "abc")


def test_names_of_a_file_may_be_used(vm, programs):
    outcome = vm("layout", "bytes", "--file", programs / "matmul_w4a16.vm")
    assert outcome.status == 0
    assert "128 threads x 32 slots" in outcome.output


def test_numbers_are_shown_too(vm):
    assert vm("layout", "dot_layout(64, 64, 16, f16).a.slots").output == "16\n"


def test_a_picture_is_well_formed(vm, tmp_path):
    path = tmp_path / "picture.svg"
    assert vm("layout", "mma_m16n8k16.b", "--svg", path).status == 0
    assert xml.parse(path).getroot().tag.endswith("svg")
    assert vm("layout", "mma_m16n8k16", "--svg", path).status == 1


def test_bank_conflicts_are_counted(vm):
    plain = vm("layout", "shared(32, 64)", "--banks", "spatial(32, 1).local(1, 64)")
    assert "256 transactions, 32 would do" in plain.output
    swizzled = vm(
        "layout", "spatial(32, 1).local(1, 64)", "--banks", "shared(32, 64).swizzle(3, 3, 3)"
    )
    assert "free of conflicts" in swizzled.output


def test_expressions_that_are_no_layouts_are_refused(vm):
    for expression, code in (
        ("spatial(8", "E0102"),
        ("spatail(8)", "E0201"),
        ("spatial(0)", "E0301"),
        ("load(3)", "E0203"),
    ):
        outcome = vm("layout", expression)
        assert outcome.status == 1
        assert f"error[{code}]" in outcome.errors
    for memory in ("spatial(4, 8)", "shared(8, 8)"):
        assert vm("layout", "spatial(8, 4)", "--banks", memory).status == 1


# --- doctor ---


def test_the_doctor_needs_nothing(vm):
    outcome = vm("doctor")
    assert outcome.status in (0, 1)
    assert "numpy" in outcome.output
    assert not outcome.errors
