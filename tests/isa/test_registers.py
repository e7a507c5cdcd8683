"""What instructions on registers refuse beyond what the conformance suite has."""

from __future__ import annotations

import pytest

from vm.errors import VmError
from vm.isa.program import parse


def test_a_number_is_no_code_of_a_codebook():
    with pytest.raises(VmError) as raised:
        parse("vm 1\nprogram p() grid (1) threads 32 { print(fill(0.0, nf4, [32])) }")[
            "p"
        ].instantiate()
    assert raised.value.code == "E0205" and "view(fill(0, u4, ..), nf4)" in str(raised.value)
