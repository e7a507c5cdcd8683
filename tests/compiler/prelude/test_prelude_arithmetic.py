"""Elementwise functions on the emulator."""

import pytest
from arithmetic_battery import BATTERIES
from battery import run_on_emulator


@pytest.mark.parametrize("name", BATTERIES)
def test_arithmetic(name, objects):
    run_on_emulator(BATTERIES[name](), objects)
