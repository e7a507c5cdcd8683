"""C = A W^T for few rows: every form and schedule against the product in float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from programs.gemm import gemm, main
from programs.gemm_tiling import Schedule, group_of
from programs.quantized_matmul import FORMATS, Form
from vm.isa.dtypes import DTypeError
from vm.isa.program import parse
from vm.runtime.cases import run_case

ROOT = Path(__file__).parents[2]

FORMS = {
    **{f"u{bits}": Form(f"u{bits}", offset=1 << (bits - 1)) for bits in range(1, 9)},
    **{f"i{bits}": Form(f"i{bits}") for bits in range(2, 9)},
    **{name: Form(name) for name in ("f3e1m1", "f4e2m1", "f5e2m2", "f6e3m2", "f6e2m3", "f8e4m3")},
    **FORMATS,
    **{f"u4 zero {group}": Form("u4", group, zero_point=True) for group in (16, 32, 64, 256, None)},
    "i5 zero bf16": Form("i5", 32, "bf16", zero_point=True, activation="bf16"),
    "u8 f32": Form("u8", 64, "f32", offset=128),
    "u4 column": Form("u4", None, "f32"),
}

SCHEDULES = {
    "bulk": Schedule(depth=64),
    "bulk, spans": Schedule(rows=32, warps=4, stages=3, span=3, depth=128),
    "one stage, 12 warps": Schedule(rows=16, warps=12, stages=1, depth=32),
    "128 rows": Schedule(rows=128, stages=1, depth=128, resident=1),
    "16 columns": Schedule(rows=32, columns=16, warps=4, depth=32),
    "threads": Schedule(rows=32, warps=4, stages=3, depth=64, bulk=False),
    "registers": Schedule(rows=32, warps=4, stages=0, depth=64, bulk=False),
    "even shares": Schedule(rows=16, warps=2, stages=3, depth=64, blocks=5),
    "even shares, registers": Schedule(rows=32, columns=16, warps=4, stages=0, depth=32,
                                       bulk=False, blocks=7),
    "offsets inside": Schedule(rows=32, warps=4, depth=64, offset_outside=False),
    "threads, spans": Schedule(rows=16, columns=16, warps=2, stages=2, span=2, bulk=False),
}


def passes(form: Form, schedule: Schedule, executor: str, sizes: dict | None = None) -> None:
    module = gemm(form, schedule)
    for case in module.cases.values() if sizes is None else [module.cases["main"]]:
        result = run_case(module, case, executor=executor, settings=sizes)
        assert result.fault is None, result.fault
        assert result.passed, (case.name, result.expectations)


@pytest.mark.parametrize("name", FORMS)
def test_every_form(name):
    passes(FORMS[name], SCHEDULES["bulk"], "reference")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("form", ["u3", "nvfp4", "u4 zero 64"])
def test_every_schedule(name, form):
    passes(FORMS[form], SCHEDULES[name], "reference")


@pytest.mark.parametrize(
    ("form", "schedule", "target"),
    [
        ("u3", "16 columns", "sm_90a"),
        ("nvfp4", "bulk, spans", "sm_90a"),
        ("f6e3m2", "threads", "sm_80"),
        ("u4 zero 64", "one stage, 12 warps", "sm_90a"),
        ("u4 column", "threads", "sm_80"),
        ("nf4", "one stage, 12 warps", "sm_90a"),
        ("u4 zero 64", "registers", "sm_80"),
        ("u3", "even shares", "sm_90a"),
        ("nvfp4", "even shares, registers", "sm_80"),
    ],
)
def test_emitted_code(form, schedule, target):
    passes(FORMS[form], SCHEDULES[schedule], f"emulator:{target}")


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 17, 64])
def test_any_number_of_rows(m):
    sizes = {"M": m, "N": 33, "K": 384}
    passes(FORMS["u4"], Schedule(rows=32, warps=2, depth=64), "reference", sizes)


@pytest.mark.parametrize("name", ["gemm_w4a16", "gemm_w4a16_sm80"])
def test_committed_modules_are_what_the_builder_makes(name):
    """After a change on purpose, run the command that the file names."""
    path = ROOT / "programs" / f"{name}.vm"
    command = next(line for line in path.read_text().splitlines() if "python -m" in line)
    arguments = command.split("programs.gemm ")[1].split()
    made = subprocess.run(
        [sys.executable, "-m", "programs.gemm", *arguments], capture_output=True, text=True,
        check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    text = path.read_text()
    assert str(parse(made)) == str(parse(text[text.index("vm 1\n") :]))


def test_a_tile_has_one_scale():
    assert [group_of(Form(group=group)) for group in (16, 48, 64, 128, 256, None)] == [
        16, 16, 64, 128, 128, 128,
    ]  # fmt: skip
    with pytest.raises(DTypeError, match="multiple of 16"):
        group_of(Form(group=8))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rows": 24}, "multiple of 16"),
        ({"columns": 12}, "of 8"),
        ({"warps": 0}, "warps is at least 1"),
        ({"depth": 48}, "16, 32, 64, 128"),
        ({"bulk": False, "stages": 1}, "2 stages or more"),
    ],
)
def test_what_no_schedule_is(fields, said):
    with pytest.raises(ValueError, match=said):
        Schedule(**fields)


def test_offsets_are_for_integers_of_their_range():
    for wrong in ({"weight": "f4e2m1", "offset": 1}, {"weight": "u4", "offset": 16},
                  {"weight": "u4", "offset": 8, "zero_point": True}):  # fmt: skip
        with pytest.raises(DTypeError, match="offset"):
            Form(**wrong)


def test_the_command(capsys):
    assert main(["--weight", "u2", "--offset", "2", "--rows", "16", "--warps", "2"]) == 0
    assert capsys.readouterr().out.count("PASS") == 3
    assert main(["--rows", "24"]) == 1
    assert "multiple of 16" in capsys.readouterr().err
    assert main(["--print"]) == 0
    assert "program gemm(" in capsys.readouterr().out
