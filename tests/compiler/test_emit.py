"""Emitted C++: one prelude call for each machine instruction, and nothing a program could break."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.compiler import pipeline
from vm.compiler.emit import kernel_symbol, literal, tag, unwritten
from vm.isa.dtypes import dtype
from vm.isa.program import load, parse
from vm.isa.types import Immediate
from vm.runtime.emulator import PRELUDE

PROGRAMS = sorted((Path(__file__).parents[2] / "programs").glob("*.vm"))
WORDS = {
    "if", "else", "for", "while", "true", "false", "const", "int", "unsigned", "long", "bool",
    "char", "break", "continue", "return", "short", "float", "double", "include",
}  # fmt: skip


def source_of(text: str, name: str = "p", variant: str = "none") -> str:
    kernel = parse(text)[name].instantiate()
    return pipeline.compile_source(kernel, pipeline.target("sm_80"), variant).source


def test_every_machine_instruction_is_written():
    assert unwritten() == []


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_emitted_text_has_only_prelude_calls_and_plain_words(path):
    headers = " ".join(file.read_text() for file in PRELUDE.iterdir() if file.suffix == ".h")
    for program in load(path):
        if program.definition.kind != "program":
            continue
        source = pipeline.compile_source(
            program.instantiate(), pipeline.target("sm_90a"), "aligned"
        ).source
        code = re.sub(r"//[^\n]*|\"[^\"]*\"", "", source)
        calls = set(re.findall(r"\b([A-Za-z_]\w*)\s*(?:<[^;()]*>)?\(", code)) - WORDS
        assert all(call.startswith(("vm_", "VM_")) for call in calls), calls
        for call in calls - {kernel_symbol(program.instantiate())}:
            # Names of matrix instructions are put together by macros.
            assert call.startswith("vm_mma_") or re.search(rf"\b{call}\b", headers), call
        # `#` begins no line but that of the header.
        assert re.findall(r"^[ \t]*#.*", code, re.MULTILINE) == ["#include "]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_lines_of_the_program_stand_in_comments(path):
    lines = path.read_text().splitlines()
    for program in load(path):
        if program.definition.kind != "program":
            continue
        kernel = program.instantiate()
        source = pipeline.compile_source(kernel, pipeline.target("sm_90a")).source
        found = re.findall(r"^\s*// (\d+): (.*)$", source, re.MULTILINE)
        assert found
        for number, text in found:
            assert text == lines[int(number) - 1].strip()


def test_a_comment_cannot_end_in_a_backslash_or_break_the_line():
    source = source_of(
        "vm 1\nprogram p(C: out(global(f32))[N]) grid (1) threads 32\n{\n"
        "  store(C[0 +: 32], 1.0)  # \\\n}\n"
    )
    assert not any(line.endswith("\\") for line in source.splitlines())
    assert "store(C[0 +: 32], 1.0)  #" in source


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (5, "i32", "5"), (-5, "i32", "-5"), (True, "bool", "true"), (False, "bool", "false"),
        (-(2**31), "i32", "(-2147483647 - 1)"), (2**31, "u32", "2147483648u"),
        (-(2**63), "i64", "(-9223372036854775807ll - 1)"), (2**63, "u64", "9223372036854775808ull"),
    ],
)  # fmt: skip
def test_numbers_keep_their_value_in_cpp(value, kind, text):
    assert literal(Immediate(value, dtype(kind))) == text


def test_types_have_the_names_of_the_prelude():
    assert tag(dtype("f6e3m2")) == "vm_float<6, 3, 2>"
    assert [tag(dtype(k)) for k in ("f16", "u4", "bf16", "i32")] == [
        "vm_f16", "vm_u4", "vm_bf16", "vm_i32",
    ]  # fmt: skip


def test_groups_have_barriers_of_their_own_from_the_last_id_down():
    source = source_of(
        "vm 1\nprogram p(C: out(global(f32))[N]) grid (1) threads 192\n{\n"
        "  group a(warps=2) {\n    synchronize()\n  }\n"
        "  group b(warps=1) {\n    synchronize()\n  }\n"
        "  group c(warps=3) {\n    synchronize()\n  }\n  synchronize()\n}\n"
    )
    assert re.findall(r"vm_(?:barrier|synchronize)\w*\([^)]*\)", source) == [
        "vm_barrier(15, 64)", "vm_synchronize_warp()", "vm_barrier(14, 96)", "vm_synchronize()",
    ]  # fmt: skip
    assert "if (VM_THREAD < 64) {" in source
    assert "if (VM_THREAD >= 64 && VM_THREAD < 96) {" in source


def test_floor_division_by_powers_of_two_is_a_shift_and_others_are_calls():
    source = source_of(
        "vm 1\nprogram p(C: inout(global(i32))[N], n: i32) grid (1) threads 32\n{\n"
        "  print(n / 8)\n  print(n % 8)\n  print(n / 6)\n  print(n % n)\n}\n"
    )
    assert re.search(r"n_\d+ >> 3;", source)
    assert re.search(r"n_\d+ & 7;", source)
    assert "vm_index_div<int>" in source
    assert "vm_index_mod<int>" in source
