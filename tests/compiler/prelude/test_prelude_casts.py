"""Casts on the emulator, against tables of exact values."""

import pytest

from tests.compiler.prelude.battery import run_on_emulator
from tests.compiler.prelude.cast_battery import BATTERIES


@pytest.mark.parametrize("name", BATTERIES)
def test_casts(name, objects):
    run_on_emulator(BATTERIES[name](), objects)
