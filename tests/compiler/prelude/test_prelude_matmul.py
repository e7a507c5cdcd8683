"""Whole kernels in the style of emitted text, on the emulator."""

import pytest

from tests.compiler.prelude.battery import run_on_emulator
from tests.compiler.prelude.matmul_battery import BATTERIES


@pytest.mark.parametrize("name", BATTERIES)
def test_matmul(name, objects):
    run_on_emulator(BATTERIES[name](), objects)
