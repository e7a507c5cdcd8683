"""The names that `import vm` gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vm


def test_there_are_few_names_and_those_of_the_design_are_among_them():
    assert len(vm.__all__) <= 30
    assert {
        "parse", "load", "dtype", "pack", "unpack", "Tensor", "VmError", "Module", "Program",
        "Kernel",
    } <= set(vm.__all__)  # fmt: skip
    assert dir(vm) == sorted(vm.__all__)


@pytest.mark.parametrize("name", vm.__all__)
def test_every_name_is_there(name):
    assert getattr(vm, name).__doc__


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vm.nothing  # noqa: B018


def test_importing_vm_imports_nothing_heavy():
    """A command that shows help should not wait for NumPy."""
    script = "import sys, vm; print(sorted({'numpy', 'lark', 'rich'} & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"
