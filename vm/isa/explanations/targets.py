"""E09: what a target can do."""

from __future__ import annotations

from vm.isa.explanations.explanation import COMMAND, COMPILE, PYTHON, Explanation, program

EXPLANATIONS = (
    Explanation(
        "E0901", "an instruction that the target cannot do here",
        "No rule of the target fits the instruction with these dtypes and layouts. The message "
        "says what each rule that was tried would have needed.",
        program("full = mbarrier_alloc([1])", "mbarrier_arrive(full[0])"), "mbarrier_alloc([1])",
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
    Explanation(
        "E0904", "a kernel that does not fit in registers",
        "A thread has at most 255 registers. What a loop needs beyond them would be written to "
        "memory and read again in every turn, so a configuration that spills fails and does not "
        "run slowly.",
        "import vm\nm = vm.load('programs/matmul_f16.vm')\n"
        "vm.compile(m['matmul'], target='sm_80', BM=256, BN=256)", "",
        "Use smaller tiles, or more threads for the same tile.", PYTHON,
    ),
    Explanation(
        "E0905", "more registers than expected",
        "The compiler estimates the registers of a kernel from the values that are alive at the "
        "same time. The toolchain has taken many more, which none of our programs shows.",
        "from vm.compiler.registers import check_registers\n"
        "check_registers(kernel, registers=250, spill_bytes=0)  # where 100 were expected", "",
        "Report it: the estimate or the code is wrong. Smaller tiles may help until then.", PYTHON,
    ),
)  # fmt: skip
