"""vm compile, explain, layout and doctor."""

from __future__ import annotations

import re
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


def test_an_unknown_pass_is_refused(vm, programs):
    options = ("--target", "sm_80", "--emit", "vm", "--after", "nonsense")
    outcome = vm("compile", programs / "vector_add.vm", *options)
    assert outcome.status == 1 and "select" in outcome.errors
    assert re.search(r"error\[(E\d+)\]", outcome.errors)[1] == "E0810"


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


def cells(output: str) -> dict[str, list[str]]:
    """The rows of a table of accesses by their names."""
    lines = output.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("access"))
    rows = [re.split(r"\s{2,}", line) for line in lines[begin:]]
    return {name: rest for name, *rest in rows}


def test_bank_conflicts_are_counted(vm):
    plain = vm("layout", "shared(32, 64)", "--banks", "spatial(32, 1).local(1, 64)")
    assert cells(plain.output)["load"] == [
        "ld.shared.v4.b32", "8", "256", "32", "8.00 times; worst: 32 instead of 4"
    ]  # fmt: skip
    swizzled = vm(
        "layout", "spatial(32, 1).local(1, 64)", "--banks", "shared(32, 64).swizzle(3, 3, 3)"
    )
    assert cells(swizzled.output)["load"][1:] == ["8", "32", "32", "free of conflicts"]


def test_a_tile_is_judged_by_typical_accesses(vm):
    """The command of the issue, word by word."""
    outcome = vm("layout", "shared(64,64).swizzle(3,3,3)", "--banks", "--bytes", "16")
    assert outcome.status == 0
    found = cells(outcome.output)
    assert set(found) == {"access", "along rows", "down columns", "ldmatrix", "ldmatrix transposed"}
    del found["access"]
    assert all(row[-1] == "free of conflicts" for row in found.values())
    plain = cells(vm("layout", "shared(64,64)", "--banks", "--bytes", "16").output)
    assert plain["along rows"][-1] == "free of conflicts"
    assert plain["down columns"][2:4] == ["512", "64"]
    assert plain["ldmatrix"][-1] == "8.00 times; worst: 8 instead of 1"


def test_targets_have_their_own_phases_and_instructions(vm):
    command = ("layout", "shared(64, 64)", "--banks", "--bytes", "4", "--dtype", "f32")
    nvidia = cells(vm(*command, "--target", "sm_80").output)
    assert nvidia == cells(vm(*command).output)
    amd = cells(vm(*command, "--target", "gfx942").output)
    assert amd == cells(vm(*command, "--target", "amd_cdna3").output)
    assert (nvidia["down columns"][0], amd["down columns"][0]) == ("ld.shared.b32", "ds_read_b32")
    assert (nvidia["down columns"][3], amd["down columns"][3]) == ("128", "128")
    stored = cells(vm(*command, "--write").output)
    assert stored["along rows"][0] == "st.shared.b32"
    assert "error[E0902]" in vm(*command, "--target", "sm_8").errors


def test_sectors_of_global_memory_are_counted(vm):
    wide = vm("layout", "default_layout([64, 64], 128, 8)", "--sectors").output
    assert "vector width: 8 elements, 16 bytes" in wide
    assert "16 bytes a lane: 16 sectors, 16 would do" in wide
    column = vm("layout", "spatial(32, 1).local(1, 64)", "--sectors", "--bytes", "2").output
    assert "2 bytes a lane: 32 sectors, 2 would do" in column
    turned = vm("layout", "column_major(64, 64)", "--sectors", "spatial(32, 1).local(2, 64)").output
    assert "vector width: 1 elements, 2 bytes" in turned


def test_banks_are_drawn(vm, tmp_path):
    path = tmp_path / "banks.svg"
    assert vm("layout", "shared(8, 64).swizzle(3, 3, 3)", "--banks", "--svg", path).status == 0
    assert "nvidia has 32" in path.read_text()


def test_expressions_that_are_no_layouts_are_refused(vm):
    for expression, code in (
        ("spatial(8", "E0102"),
        ("spatail(8)", "E0201"),
        ("spatial(0)", "E0301"),
        ("load(3)", "E0203"),
        ("local", "E0203"),
        ("tiled(4, 4)", "E0203"),
        ("min(1, f16)", "E0203"),
        ("f16.bits", "E0201"),
    ):
        outcome = vm("layout", expression)
        assert outcome.status == 1
        assert f"error[{code}]" in outcome.errors
    for option in ("--banks", "--sectors"):
        for memory in ("spatial(4, 8)", "shared(8, 8)"):
            assert vm("layout", "spatial(8, 4)", option, memory).status == 1
        assert "choose one: mma_m16n8k16.a" in vm("layout", "mma_m16n8k16", option).errors
    assert "error[E0803]" in vm("layout", "spatial(8, 4)", "--banks").errors
    assert "error[E0803]" in vm("layout", "shared(3, 5)", "--banks").errors
    assert "error[E0803]" in vm("layout", "spatial(8)", "--dtype", "3").errors


# --- doctor ---


def test_the_doctor_needs_nothing(vm):
    outcome = vm("doctor")
    assert outcome.status in (0, 1)
    assert "numpy" in outcome.output
    assert not outcome.errors
