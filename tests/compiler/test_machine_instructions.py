"""Machine instructions that someone wrote by hand: a target compiles them, or says that it does not
have them."""

from __future__ import annotations

import pytest

from tests.isa.instruction_cases import PROGRAMS
from vm.compiler import pipeline
from vm.errors import VmError
from vm.isa.program import parse
from vm.runtime import nvrtc
from vm.runtime.emulator import PRELUDE

BY_HAND = [opcode for opcode in PROGRAMS if opcode.startswith("nv.")]
CAME_LATER = {
    "sm_80": {
        "nv.stmatrix", "nv.mbarrier_init", "nv.mbarrier_arrive", "nv.mbarrier_expect",
        "nv.mbarrier_wait", "nv.copy_bulk", "nv.fence", "nv.elect",
    },
    "sm_90a": set(),
}  # fmt: skip


@pytest.mark.parametrize("target", CAME_LATER)
def test_what_a_target_has_compiles_and_the_rest_is_refused(target):
    """All kernels in one text, which takes a tenth of the time."""
    refused, texts = set(), ["#include \"vm.h\""]
    for number, opcode in enumerate(BY_HAND):
        program = parse(PROGRAMS[opcode].replace("program f(", f"program f{number}("))
        kernel = program[f"f{number}"].instantiate()
        try:
            made = pipeline.compile_source(kernel, pipeline.target(target), "none")
        except VmError as error:
            assert error.code == "E0901", (opcode, str(error))
            refused.add(opcode)
        else:
            texts.append(made.source.split('#include "vm.h"')[1])
    assert refused == CAME_LATER[target]
    nvrtc.compile_cubin("\n".join(texts), target, "vm_kernel_f0", (f"-I{PRELUDE}",))
