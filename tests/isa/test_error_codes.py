"""Every code that vm can raise is explained, and the examples have the faults they explain."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

import vm
from vm.command_line import compile as compile_command
from vm.command_line.check import diagnose
from vm.errors import Diagnostic, Origin, VmError
from vm.isa.error_codes import CODES, FAMILIES, explanation
from vm.isa.explanations.explanation import CHECK, COMPILE, PYTHON, RUN
from vm.isa.program import parse
from vm.runtime.cases import run_case

SOURCE = Path(vm.__file__).parent


def codes_in_source() -> set[str]:
    """What stands as a string of its own, in the files that raise."""
    return {
        code
        for path in SOURCE.rglob("*.py")
        if "explanations" not in path.parts
        for code in re.findall(r'"(E0[0-9]{3})"', path.read_text(encoding="utf-8"))
    }


def test_every_code_is_explained_and_every_explanation_is_of_a_code():
    assert codes_in_source() == set(CODES)


def test_every_code_belongs_to_a_family():
    assert {code[:3] for code in CODES} == set(FAMILIES)


def text_at(text: str, origin: Origin) -> str:
    """The characters that an origin covers."""
    lines = text.split("\n")[origin.line - 1 : origin.end_line]
    lines[-1] = lines[-1][: origin.end_column - 1]
    lines[0] = lines[0][origin.column - 1 :]
    return "\n".join(lines)


def of_kind(kind: str) -> list[str]:
    return sorted(code for code, each in CODES.items() if each.kind == kind)


def hold_to(code: str, found: list[Diagnostic]) -> None:
    each = CODES[code]
    assert [diagnostic.code for diagnostic in found] == [code]
    assert text_at(each.example, found[0].origin) == each.at if each.at else True
    assert found[0].message and (found[0].fix or found[0].notes)


@pytest.mark.parametrize("code", of_kind(CHECK))
def test_an_example_has_its_code_at_its_place(code, tmp_path):
    path = tmp_path / "example.vm"
    path.write_text(CODES[code].example, encoding="utf-8")
    hold_to(code, diagnose(path))


@pytest.mark.parametrize("code", of_kind(RUN))
def test_an_example_faults_with_its_code_when_it_runs(code, tmp_path):
    path = tmp_path / "example.vm"
    path.write_text(CODES[code].example, encoding="utf-8")
    assert diagnose(path) == []
    module = parse(CODES[code].example)
    fault = run_case(module, module.cases["main"]).fault
    assert fault is not None
    hold_to(code, list(fault.diagnostics))


@pytest.mark.parametrize("code", of_kind(COMPILE))
def test_an_example_is_refused_with_its_code_when_it_is_compiled(code, tmp_path):
    path = tmp_path / "example.vm"
    path.write_text(CODES[code].example, encoding="utf-8")
    assert diagnose(path) == []
    parser = argparse.ArgumentParser()
    compile_command.configure(parser)
    with pytest.raises(VmError) as raised:
        compile_command.run(parser.parse_args([str(path), "--target", "sm_80", "--emit", "source"]))
    hold_to(code, list(raised.value.diagnostics))


@pytest.mark.parametrize("code", of_kind(PYTHON))
def test_python_examples_are_python(code):
    compile(CODES[code].example, code, "exec")


def test_a_name_that_cannot_be_one():
    with pytest.raises(VmError) as raised:
        exec(CODES["E0104"].example, {})
    assert raised.value.code == "E0104"


def test_an_unknown_code_is_answered_with_the_nearest():
    with pytest.raises(VmError, match="did you mean"):
        explanation("E0102x")


def test_codes_are_found_in_small_letters():
    assert explanation("e0312") is CODES["E0312"]


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_explanation_shows_cause_example_and_fix(code):
    # Tests rule Embed/error.
    shown = CODES[code].render()
    assert shown.startswith(f"{code}: ")
    for part in ("Cause: ", "Example:\n", "Fix: "):
        assert shown.count(f"\n\n{part}") == 1
