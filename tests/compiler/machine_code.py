"""How many machine instructions one step of a kernel's main loop takes, kept as golden numbers.

`python -m tests.compiler.machine_code` measures them again and rewrites the file; without a GPU
this is what says whether a change of the compiler made the loop longer.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm.isa.program import load
from vm.runtime import nvrtc, sass
from vm.runtime.cache import Entry
from vm.runtime.compiled import cubin_of

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("instructions_per_step.json")
LOOPS = (("matmul_w4a16", "matmul"), ("matmul_f16", "matmul"), ("gemm_w4a16_sm80", "gemm"))
TARGETS = ("sm_80", "sm_90a")


@dataclass(frozen=True)
class MachineCode:
    """A compiled kernel and its disassembly."""

    entry: Entry
    text: str

    @property
    def loop(self) -> tuple[sass.Instruction, ...]:
        return sass.main_loop(self.text)

    def count(self, pattern: str) -> int:
        return sass.instruction_counts(self.text, pattern).total()

    def count_in_loop(self, pattern: str) -> int:
        return sass.instruction_counts(self.loop, pattern).total()


def machine_code(module: str, program: str, target: str, variant: str = "aligned") -> MachineCode:
    """A program with the constants of its file."""
    kernel = load(ROOT / "programs" / f"{module}.vm")[program].instantiate()
    entry = cubin_of(kernel, target, variant)
    return MachineCode(entry, sass.disassemble(entry.payload))


def measured() -> dict[str, Any]:
    """The golden numbers as they are now, with the toolchain that they belong to."""
    return {
        "toolchain": nvrtc.toolchain(),
        **{
            f"{module} {target}": len(machine_code(module, program, target).loop)
            for module, program in LOOPS
            for target in TARGETS
        },
    }


def main() -> int:
    before = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    now = measured()
    for name, number in now.items():
        print(f"{name}: {number}" + (f", was {before.get(name)}" if before else ""))
    GOLDEN.write_text(json.dumps(now, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
