"""vm check."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.command_line.check import diagnose
from vm.isa.error_codes import CODES
from vm.isa.explanations.explanation import CHECK, RUN

WRONG = """vm 1

program p(A: global(f16)[N], C: out(global(f32))[N]) grid (1) threads 32 {
  store(C[0 +: 32], load(A[0 +: 32]))
}

program q(A: global(f16)[N], C: out(global(f16))[N]) grid (1) threads 32 {
  store(C[0 +: 32], load(A[0 +: 32]))
}

case main(N=32) {
  A = zeros(f16, [N])
  expect(r(A), A)
}
"""


def test_a_file_without_mistakes(vm, programs):
    outcome = vm("check", programs / "vector_add.vm")
    assert outcome.status == 0
    assert not outcome.errors


def test_mistakes_of_programs_and_cases_are_all_shown(vm, tmp_path):
    path = tmp_path / "wrong.vm"
    path.write_text(WRONG)
    outcome = vm("check", path)
    assert outcome.status == 1
    assert not outcome.output
    assert outcome.errors.count("error[") == 2
    assert f"{path}:4:21" in outcome.errors
    assert f"{path}:13:10" in outcome.errors


def test_json_has_the_places(vm, tmp_path):
    path = tmp_path / "wrong.vm"
    path.write_text(WRONG)
    outcome = vm("check", path, "--json")
    assert outcome.status == 1
    first, second = json.loads(outcome.output)
    assert (first["code"], second["code"]) == ("E0205", "E0201")
    assert first["labels"][0] == {
        "file": str(path), "line": 4, "column": 21, "end_line": 4, "end_column": 37,
        "text": first["labels"][0]["text"],
    }  # fmt: skip
    assert first["fix"]


def test_json_of_a_file_without_mistakes_is_empty(vm, programs):
    outcome = vm("check", programs / "vector_add.vm", "--json")
    assert json.loads(outcome.output) == []
    assert outcome.status == 0


def test_a_mistake_that_many_cases_meet_is_shown_once(vm, tmp_path):
    path = tmp_path / "twice.vm"
    text = "vm 1\nreference r(A: f32[N]) {\n  return A + unknown\n}\n"
    for name, size in (("one", 1), ("two", 2)):
        text += f"case {name}(N={size}) {{\n  A = zeros(f32, [N])\n  expect(A, r(A))\n}}\n"
    path.write_text(text)
    assert vm("check", path).errors.count("error[") == 1


def test_a_file_that_is_no_text(vm, tmp_path):
    path = tmp_path / "binary.vm"
    path.write_bytes(b"\xff\xfe\x00")
    outcome = vm("check", path)
    assert outcome.status == 1
    assert "error[E0801]" in outcome.errors


TEXTS = [
    *(path.read_text() for path in sorted((Path(__file__).parents[2] / "programs").glob("*.vm"))),
    *(each.example for each in CODES.values() if each.kind in (CHECK, RUN)),
]
TOKENS = [
    re.findall(r"[A-Za-z_]\w*|\d[\w.]*|\+:|:=|[<>=!]=|\s+|.", re.sub(r"#[^\n]*", "", text))
    for text in TEXTS
]
WORDS = [
    *sorted({word for text in TOKENS for word in text if not word.isspace()}),
    *("0", "-1", "1.5", "nan", "inf", "true", '"s"', "i64", "f8e4m3", "9999999999", "[]", "item"),
]


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_no_text_gets_anything_but_diagnostics(data, tmp_path_factory):
    """Our own programs with words changed, moved and left out: nearer to mistakes than noise is."""
    text = list(data.draw(st.sampled_from(TOKENS)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                text[place] = data.draw(st.sampled_from(WORDS))
            case 1 if len(text) > 3:
                del text[place : place + data.draw(st.integers(1, 3))]
            case _:
                text.insert(place, data.draw(st.sampled_from(WORDS)))
        text = text or [""]
    path = tmp_path_factory.mktemp("changed") / "changed.vm"
    path.write_text("".join(text))
    for diagnostic in diagnose(path):
        assert diagnostic.code in CODES
        assert diagnostic.render()


@pytest.mark.parametrize("extent", ['"s"', "1.5", "N - 40", "true"])
def test_results_without_a_shape_are_refused(extent, vm, tmp_path):
    path = tmp_path / "shape.vm"
    path.write_text(
        f"vm 1\nprogram p(A: global(f32)[N], C: out(global(f32))[{extent}])\n"
        "  grid (1) threads 32\n{\n"
        "  synchronize()\n}\ncase main(N=32) {\n  A = zeros(f32, [N])\n  expect(p(A), A)\n}\n"
    )
    for command in ("check", "run"):
        outcome = vm(command, path)
        assert outcome.status == 1
        assert re.search(r"error\[E0(303|203)\]", outcome.errors)


@pytest.mark.parametrize(
    ("constant", "code"),
    [
        ("const A = A", "E0202"),
        ("const A = 1 / 0", "E0204"),
        ("const A = sqrt(4.0)", "E0203"),
        ("layout l = spatial(0)", "E0301"),
        ("layout l = nothing(3)", "E0201"),
    ],
)
def test_constants_that_no_program_uses_are_checked(constant, code, tmp_path):
    path = tmp_path / "constants.vm"
    path.write_text(f"vm 1\n{constant}\nprogram p() grid (1) threads 64 {{ synchronize() }}\n")
    (found,) = diagnose(path)
    assert (found.code, found.origin.line) == (code, 2)


def test_a_layout_may_be_for_the_warps_of_a_group_alone(tmp_path):
    path = tmp_path / "group.vm"
    path.write_text(
        "vm 1\nlayout l = dot_layout(16, 8, 16, f16).a\nprogram p() grid (1) threads 128 {\n"
        "  group g(warps=1) { x = fill(0.0, f16, [16, 16]); print(relayout(x, l)) }\n}\n"
    )
    assert diagnose(path) == []


@pytest.mark.parametrize("version", ["2", "0x1", "01", "9" * 5000])
def test_other_versions(version, tmp_path):
    path = tmp_path / "version.vm"
    path.write_text(f"vm {version}\n")
    (found,) = diagnose(path)
    assert found.code == "E0103"


def test_a_long_line_is_shown_around_the_fault(tmp_path):
    path = tmp_path / "long.vm"
    path.write_text(f"vm 1\nconst A = [{'1, ' * 5000} strange, {'1, ' * 5000}1]\n")
    (found,) = diagnose(path)
    shown = found.render().splitlines()
    line, marks = next((a, b) for a, b in pairwise(shown) if "^" in b)
    assert len(line) < 220
    assert line[marks.index("^") : marks.rindex("^") + 1] == "strange"


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "mark.vm"
    path.write_bytes(b"\xef\xbb\xbfvm 1\n")
    assert diagnose(path) == []
