"""Elementwise functions on the emulator."""

import pytest

from tests.compiler.prelude.arithmetic_battery import BATTERIES
from tests.compiler.prelude.battery import run_on_emulator


@pytest.mark.parametrize("name", BATTERIES)
def test_arithmetic(name, objects):
    run_on_emulator(BATTERIES[name](), objects)
