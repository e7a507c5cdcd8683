"""docs/types.md says what the types are now, and its errors are those of the committed data."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tests.isa.exact_types import SMALL_FLOATS, float_parameters, values_of_codes
from vm.runtime.inputs import write_npy

FILE = Path(__file__).parents[2] / "docs" / "types_page.py"
specification = importlib.util.spec_from_file_location("types_page", FILE)
types_page = importlib.util.module_from_spec(specification)
specification.loader.exec_module(types_page)


def test_the_page_is_what_the_script_writes():
    assert types_page.PAGE.read_text(encoding="utf-8") == types_page.page()


def test_every_small_float_is_on_the_page_with_its_limits():
    rows = [line.split("|")[1:-1] for line in types_page.floats().splitlines()]
    cells = {row[0].strip(" `"): [cell.strip() for cell in row] for row in rows[2:]}
    assert set(SMALL_FLOATS) < set(cells)
    for name in SMALL_FLOATS:
        exponent, mantissa, special = float_parameters(name)
        values = [value for value in values_of_codes(name) if not isinstance(value, str)]
        row = cells[name]
        assert (int(row[2]), int(row[3])) == (exponent, mantissa)
        assert float(row[5]) == pytest.approx(float(max(values)), rel=1e-3)
        assert float(row[7]) == pytest.approx(float(min(v for v in values if v > 0)), rel=1e-3)
        assert (row[8], row[9]) == {
            "none": ("", ""), "one nan": ("", "yes"), "ieee": ("yes", "yes")
        }[special]  # fmt: skip


def test_the_errors_of_a_weight_are_measured_as_committed(tmp_path):
    """The data's own weight is not here; its forms, and what is measured of another, are."""
    data = json.loads(types_page.ERRORS.read_text(encoding="utf-8"))
    weight = np.random.default_rng(1).normal(0, 0.05, (64, 256)).astype(np.float32)
    write_npy(tmp_path / "weight.npy", weight)
    again = types_page.measure(str(tmp_path / "weight.npy"), "random numbers")
    assert [row["form"] for row in again["forms"]] == [row["form"] for row in data["forms"]]
    assert again["shape"] == [64, 256]
    errors = {row["form"]: row for row in again["forms"]}
    for bits in range(3, 9):
        assert errors[f"i{bits}"]["relative"] < errors[f"i{bits - 1}"]["relative"]
        assert errors[f"u{bits}, zero points"]["relative"] < errors[f"i{bits}"]["relative"]
    assert errors["u4, zero points"]["bits_per_weight"] == round(4 + (16 + 4) / 128, 4)
    assert errors["NVFP4"]["bits_per_weight"] == round(4 + 8 / 16 + 32 / weight.size, 4)
    # Sixteen elements to a scale of three mantissa bits beat 32 to a power of two.
    assert errors["NVFP4"]["relative"] < errors["MXFP4"]["relative"]
