"""vm check."""

from __future__ import annotations

import json

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
