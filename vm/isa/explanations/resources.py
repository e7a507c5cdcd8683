"""E04: resources and groups."""

from __future__ import annotations

from vm.isa.explanations.explanation import COMPILE, Explanation, program

EXPLANATIONS = (
    Explanation(
        "E0401", "a block or grid that no GPU has",
        "A block has whole warps and at most 1024 threads; a grid has at most 3 dimensions.",
        program("synchronize()", threads=48), "48", "Use a multiple of 32, at most 1024.",
    ),
    Explanation(
        "E0402", "a loop written out too often",
        "`unroll full` writes a copy of the body for each turn, nested loops multiply, and at most "
        "4096 copies are made.",
        program("for i in range(5000) unroll full {", "  synchronize()", "}"),
        "for i in range(5000) unroll full {\n    synchronize()\n  }",
        "Write `unroll 8`, or no hint.",
    ),
    Explanation(
        "E0403", "groups that do not fit the block",
        "Groups that follow each other share the block's warps, do not nest, and cannot have more "
        "than there are.",
        program("group one(warps=2) {", "  synchronize()", "}"), "warps=2",
        "Raise the block's threads or give the groups fewer warps.",
    ),
    Explanation(
        "E0404", "a barrier that does not exist",
        "Named barriers have ids 1 to 15 and count at least the warps of the group that comes.",
        program("barrier(16, 1)"), "16", "Use an id from 1 to 15.",
    ),
    Explanation(
        "E0405", "more shared memory than there is",
        "The tensors in shared memory that live at the same time, and what the compiler needs to "
        "exchange data between threads, are more than a block of the target has.",
        program("s = shared_alloc(f32, [50000])", "store(s[0 +: 32], load(A[0 +: 32]))",
                "synchronize()", "store(C[0 +: 32], load(s[0 +: 32]))"),
        "shared_alloc(f32, [50000])",
        "Use smaller tiles or fewer stages, or free tensors early by allocating them in inner "
        "blocks.",
        COMPILE,
    ),
    Explanation(
        "E0406", "memory that an earlier grid may still write",
        "A program that calls grid_wait begins while grids before it still run. Until then only "
        "memory that nobody writes, declared constant(global(...)), may be touched.",
        program("x = load(A[0 +: 32])", "grid_wait()", "store(C[0 +: 32], x)"), "A[0 +: 32]",
        "Move grid_wait() up, or declare the parameter constant(global(f32))[N].",
    ),
    Explanation(
        "E0407", "a tensor that is still being copied into",
        "An asynchronous copy runs beside the program. Its target may be touched only after its "
        "group has been closed and a wait has covered it; here no way leads through such a wait.",
        program("s = shared_alloc(f32, [32])", "copy_async(s, A[0 +: 32])", "commit_async()",
                "wait_async(1)", "store(C[0 +: 32], load(s))"),
        "s", "Write wait_async(0), or the number that the message names.",
    ),
    Explanation(
        "E0408", "mbarriers or memory of the launch that would be made more than once",
        "An mbarrier is made once, by all threads of the block, and lives as long as the program; "
        "so do the scratch and the semaphores of a launch, for all its blocks. In a loop it would "
        "be made again while others wait for it; in a branch or a group not all would know it.",
        program("for i in range(2) {", "  full = mbarrier_alloc([2])", "  mbarrier_arrive(full[i])",
                "  mbarrier_wait(full[i], 0)", "}"),
        "mbarrier_alloc([2])", "Move it to the beginning of the program.",
    ),
)  # fmt: skip
