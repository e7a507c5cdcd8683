"""E09: what a target can do."""

from __future__ import annotations

from vm.isa.explanations.explanation import COMMAND, COMPILE, PYTHON, Explanation, program

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
    Explanation(
        "E0903", "a kernel for warps of another width",
        "How threads share tensors depends on how many lanes a warp has: 32 on NVIDIA GPUs, 64 on "
        "AMD's of the CDNA family. A kernel is instantiated for one of them.",
        "from vm.compiler.pipeline import lower, target\n"
        "lower(module['vector_add'].instantiate(), target('gfx942'))", "",
        "Instantiate it with the warp width of the target.", PYTHON,
    ),
)  # fmt: skip
