"""Registers, memory and what threads do together, on the emulator."""

import pytest

from tests.compiler.prelude import memory_battery, warp_battery
from tests.compiler.prelude.battery import run_on_emulator


@pytest.mark.parametrize("name", memory_battery.BATTERIES)
def test_memory(name, objects):
    run_on_emulator(memory_battery.BATTERIES[name](), objects)


@pytest.mark.parametrize("name", warp_battery.BATTERIES)
def test_warp(name, objects):
    run_on_emulator(warp_battery.BATTERIES[name](), objects)


def test_warps_of_64_lanes(objects):
    run_on_emulator(warp_battery.exchange(64), objects, warp_width=64)
