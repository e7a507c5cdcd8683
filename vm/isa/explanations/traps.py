"""E05 and E06: faults of a running program, and missing synchronization."""

from __future__ import annotations

from vm.isa.explanations.explanation import RUN, Explanation, program


def _run(
    code: str, title: str, cause: str, body: tuple[str, ...], at: str, fix: str,
    grid: str = "1", threads: int = 64, inputs: str = "arange(f32, [64])",
    parameters: str = "A: global(f32)[N], C: out(global(f32))[N]",
) -> Explanation:  # fmt: skip
    """An example with a case that calls the program."""
    text = program(*body, parameters=parameters, grid=grid, threads=threads)
    case = f"case main() {{\n  A = {inputs}\n  expect(p(A), A)\n}}\n"
    return Explanation(code, title, cause, text + case, at, fix, RUN)


EXPLANATIONS = (
    _run(
        "E0501", "an access outside its tensor",
        "Tiles of global tensors clip: outside they read 0 and are not written. What does not clip "
        "must lie inside: a tile of shared memory, one scalar, and an access that says "
        "inside=true.",
        ("i = block_index() * 48", "store(C[i +: 48], load(A[i +: 48], inside=true))"),
        "A[i +: 48]", "Change the index, or leave out `inside` to clip.", grid="2",
    ),
    _run(
        "E0502", "an integer division by zero",
        "The divisor of an integer division or remainder is 0.",
        ("n = block_index()", "store(C[0 +: 64], load(A[64 / n +: 64]))"), "n",
        "Test the divisor first, or use max(n, 1).",
    ),
    _run(
        "E0503", "a loop with step 0",
        "A loop whose step is 0 would never end.",
        ("n = block_index()", "for i in range(0, 64, n) {",
         "  store(C[i +: 64], load(A[i +: 64]))", "}"), "n",
        "Give the loop a step that is not 0.",
    ),
    _run(
        "E0504", "a shift by a negative number",
        "Shifts are by 0 bits or more; to shift the other way there is the other shift.",
        ("n = shl(1, block_index() - 1)", "store(C[n +: 64], load(A[n +: 64]))"),
        "block_index() - 1", "Shift by a number that is not negative.",
    ),
    _run(
        "E0505", "an assertion that does not hold",
        "assert(condition, \"message\") found its condition false, for a tensor in at least one "
        "element.",
        ("x = load(A[0 +: 64])", 'assert(x < 63.0, "too large")', "store(C[0 +: 64], x)"),
        "x < 63.0", "The program or its input is wrong: the message says where first.",
    ),
    _run(
        "E0506", "a view that reaches outside its memory",
        "A view of global memory must lie in the buffer that it is a view of.",
        ("V = global_view(A, f32, 8, 16)",
         "store(C[0 +: 64], reshape(load(V[0 +: 4, :]), [64]))"),
        "global_view(A, f32, 8, 16)", "Give a smaller shape or offset.",
    ),
    _run(
        "E0507", "a read of memory that nothing was written to",
        "Shared memory and `out` tensors are undefined until they are written; on a GPU such a "
        "read gives whatever was there.",
        ("s = shared_alloc(f32, [64])", "store(C[0 +: 64], load(s))"), "s",
        "Write it first, or declare the parameter inout.",
    ),
    _run(
        "E0508", "an index outside what it chooses from",
        "Gather and scatter take every index from the tile, lookup every code from the table: "
        "neither clips.",
        ("i = iota(i32, [64]) + 1", "store(C[0 +: 64], gather(A[0 +: 64], i))"), "i",
        "Keep indices inside, or clamp them: min(i, 63).",
    ),
    _run(
        "E0509", "an argument that the machine cannot take",
        "A tensor or number does not fit its parameter, an extent or the grid is negative, or two "
        "arguments overlap in memory and one of them is written.",
        ("store(C[0 +: 64], load(A[0 +: 64]))",), "N - 65",
        "Give arguments of the parameters' dtype and shape, and sizes that make sense.",
        grid="N - 65",
    ),
    _run(
        "E0510", "one value for all threads that is none",
        "`uniform` makes one number of what every thread holds, and they hold different ones.",
        ("i = iota(i32, [64], layout=spatial(64))",
         "store(C[0 +: 64], load(A[uniform(i) +: 64]))"), "i",
        "Take it from values that are the same in every thread, or reduce them to one.",
    ),
    _run(
        "E0511", "an access at a byte that is not aligned",
        "Machine instructions move 1 to 16 bytes, which begin at a multiple of their number; bulk "
        "copies begin at a multiple of 16 bytes.",
        ("x = fill(0.0, f32, [64], layout=spatial(64))",
         "at = cast(iota(i32, [64], layout=spatial(64)), i64) * 2",
         "store(C[0 +: 64], nv.load_global(x, A, at))"), "nv.load_global(x, A, at)",
        "Begin at a multiple, or move fewer bytes at a time.",
    ),
    _run(
        "E0512", "a semaphore that is not 0 when its grid has ended",
        "Semaphores are zero when a grid begins and it leaves them zero: the next launch on the "
        "same stream finds them so, and nobody clears them in between.",
        ("turn = semaphore_alloc([1])", "store(C[0 +: 64], load(A[0 +: 64]))",
         "semaphore_release(turn[0], 1)"), "1",
        "Let the last who waits for it set it back: semaphore_release(turn[0], 0).",
    ),
    _run(
        "E0601", "a race",
        "Two instructions touch the same element, one of them writes it, and nothing orders them: "
        "the threads of a block run apart, and only a barrier makes what one did seen by others.",
        ("s = shared_alloc(f32, [64])", "store(s, load(A[0 +: 64]))",
         "store(C[0 +: 64], load(s))"), "s",
        "Put synchronize() between the two.",
    ),
    _run(
        "E0602", "a race of two blocks",
        "Blocks run in any order, or at the same time. What one writes no other may touch, except "
        "by atomic accesses, or where a semaphore orders them.",
        ("store(C[0 +: 64], load(A[0 +: 64]))",), "C[0 +: 64]",
        "Let every block have elements of its own, use atomic(...), or let one wait for the other: "
        "semaphore_release, then semaphore_wait.", grid="2",
    ),
    _run(
        "E0603", "a deadlock",
        "Every group of a block waits for another: a barrier counts warps that do not come to it. "
        "Or all blocks that have begun wait for values that no one gives a semaphore.",
        ("group one(warps=1) {", "  barrier(1, 2); barrier(2, 2)", "}", "group two(warps=1) {",
         "  barrier(2, 2); barrier(1, 2)", "}", "store(C[0 +: 64], load(A[0 +: 64]))"),
        "barrier(1, 2)",
        "Let every group that a barrier counts come to it, in the same order, and someone release "
        "the semaphore with the value that is waited for.",
    ),
    _run(
        "E0604", "use of what an asynchronous copy still moves",
        "Until wait_async covers the commit group of a copy (for a bulk copy: until mbarrier_wait "
        "for its phase), its target may not be touched, its source not be written, and its memory "
        "not end.",
        ("s = shared_alloc(f32, [64])", "copy_async(s, A[0 +: 64])", "commit_async()",
         "if block_index() > 0 { wait_async(0) }", "store(C[0 +: 64], load(s))"), "s",
        "Call wait_async first; then synchronize(), so that other threads see it too.",
    ),
    _run(
        "E0605", "a loop that does not end",
        "The `while` loops of a run turned a million times.",
        ("while true {", "  synchronize()", "}"), "while true {\n    synchronize()\n  }",
        "Let the condition change, or run with a larger maximum_turns.",
    ),
    _run(
        "E0606", "barriers that count differently",
        "Two groups come to the barrier of one id and say different numbers of warps.",
        ("group one(warps=1) {", "  barrier(1, 2)", "}", "group two(warps=1) {",
         "  barrier(1, 1)", "}", "store(C[0 +: 64], load(A[0 +: 64]))"), "1",
        "Give every barrier with this id the number of all warps that come to it.",
    ),
    _run(
        "E0607", "an arrival that may count in another phase",
        "Arrivals and bulk copies count in the present phase of an mbarrier. A group may arrive "
        "only where it knows the phases before to be over, since it has waited for them or for "
        "something behind them, and not more often than the phase counts.",
        ("full = mbarrier_alloc([1], warps=2)", "mbarrier_arrive(full[0])",
         "mbarrier_arrive(full[0])", "store(C[0 +: 64], load(A[0 +: 64]))"),
        "full[0]", "Wait for the phase first: mbarrier_wait(full[0], parity).",
    ),
    _run(
        "E0608", "more bytes than a phase expects",
        "A phase of an mbarrier ends when the bytes that were expected have come. Copies that "
        "bring more would let it end in the middle of one, or never.",
        ("full = mbarrier_alloc([1], warps=2)", "s = shared_alloc(f32, [64])",
         "mbarrier_expect(full[0], 128)", "copy_bulk(s, A[0 +: 64], full[0])",
         "mbarrier_wait(full[0], 0)", "store(C[0 +: 64], load(s))"),
        "full[0]", "Expect what the copies of the phase bring: here 256 bytes.",
    ),
    _run(
        "E0609", "a wait for a phase that is long over",
        "A wait names a phase by its parity: the next one that the group does not know to be over, "
        "or the one before. Where the mbarrier has gone on further, another phase of the same "
        "parity is meant, and the wait may never end.",
        ("full = mbarrier_alloc([1])", "group one(warps=1) {", "  mbarrier_arrive(full[0])",
         "  mbarrier_wait(full[0], 0)", "  mbarrier_arrive(full[0])", "}",
         "group two(warps=1) {", "  mbarrier_wait(full[0], 0)", "}",
         "store(C[0 +: 64], load(A[0 +: 64]))"),
        "0", "Wait for every phase once, and let the next not end before all have.",
    ),
    _run(
        "E0610", "a release of a semaphore that comes now before and now behind another access",
        "Each release of a semaphore replaces a value. It comes behind the release before it and "
        "behind all waits for that value; else a wait may miss it, and blocks that release in "
        "either order leave one value or the other.",
        ("turn = semaphore_alloc([1])", "semaphore_release(turn[0], 0)",
         "if block_index() == 0 { store(C[0 +: 64], load(A[0 +: 64])) }"), "turn[0]",
        "Wait first for a value that only the release before gives: semaphore_wait(turn[0], n).",
        grid="2",
    ),
    _run(
        "E0611", "a block that waits for a block behind it",
        "Of the blocks that have not ended the first always makes progress, those behind it "
        "perhaps not before it ends. So a block may wait for what blocks before it release, where "
        "the first dimension of the grid counts fastest, and for no other.",
        ("turn = semaphore_alloc([1])", "if block_index() == 0 {",
         "  semaphore_wait(turn[0], 1); semaphore_release(turn[0], 0)",
         "  store(C[0 +: 64], load(A[0 +: 64]))", "} else {", "  semaphore_release(turn[0], 1)",
         "}"), "turn[0]",
        "Give the one that waits the larger index: let the last block of a tile end it.", grid="2",
    ),
)  # fmt: skip
