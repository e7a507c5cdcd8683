"""E09: what a target can do."""

from __future__ import annotations

from vm.isa.explanations.explanation import COMMAND, COMPILE, Explanation, program

EXPLANATIONS = (
    Explanation(
        "E0901", "an instruction that the target cannot do here",
        "No rule of the target fits the instruction with these dtypes and layouts. The message "
        "says what each rule that was tried would have needed.",
        program('x = atomic(C[0 +: 32], load(A[0 +: 32]), op="max")',
                parameters="A: global(f16)[N], C: inout(global(f16))[N]"),
        'atomic(C[0 +: 32], load(A[0 +: 32]), op="max")',
        "Use another dtype or another instruction, or a target that can.", COMPILE,
    ),
    Explanation(
        "E0902", "a target that does not exist",
        "Programs are compiled for targets by name.",
        "vm compile programs/vector_add.vm --target sm_42 --emit source", "",
        "Use one that the message lists.", COMMAND,
    ),
)  # fmt: skip
