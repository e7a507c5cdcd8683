"""E03: shapes and layouts."""

from __future__ import annotations

from vm.isa.explanations.explanation import PYTHON, Explanation, program

EXPLANATIONS = (
    Explanation(
        "E0301", "a layout that does not exist",
        "A function of layouts was given extents that it has no layout for, or a product or "
        "quotient of layouts does not exist.",
        program("x = load(A[0 +: 32], layout=dot_layout(16, 8, 10, f16).a)"),
        "dot_layout(16, 8, 10, f16)",
        "Try it outside the program: vm layout \"dot_layout(16, 8, 10, f16)\".",
    ),
    Explanation(
        "E0302", "shapes that do not fit each other",
        "Tensors of shapes that do not broadcast meet, a tile has another shape than what is "
        "stored to it, or there are more indices than dimensions.",
        program("x = load(A[0 +: 64])", "store(C[0 +: 32], x)"), "x", "Make the shapes equal.",
    ),
    Explanation(
        "E0303", "an extent that is no constant, or is out of range",
        "Tiles and registers have extents that are known at instantiation; only shapes of global "
        "tensors may be as long as a size.",
        program("x = load(A[0 +: N])"), "N",
        "Take tiles of constant extent in a loop: A[i * 128 +: 128]. What lies past the end reads "
        "as 0 and is not written.",
    ),
    Explanation(
        "E0304", "a layout that does not fit its tensor",
        "The layout's shape is not the tensor's, its threads are not the group's, or an "
        "instruction needs a layout that is not known.",
        program("x = load(A[0 +: 32], layout=spatial(16))"), "spatial(16)",
        "Give a layout of the tensor's shape over the group's threads.",
    ),
    Explanation(
        "E0305", "a tile outside shared memory",
        "Tiles of global memory clip; a tile of a shared tensor must lie inside.",
        program("s = shared_alloc(f32, [32])", "store(s[16 +: 32], fill(0.0, f32, [32]))"),
        "16 +: 32", "Stay inside the tensor, or allocate a larger one.",
    ),
    Explanation(
        "E0306", "a fact that the constants break",
        "A `where` fact is false for the values that the constants have.",
        program("synchronize()", before="const T = 48", where="T % 32 == 0"), "T % 32 == 0",
        "Give the constants values for which it holds.",
    ),
    Explanation(
        "E0310", "a view that changes the bits of a thread",
        "A view leaves every bit in its thread: threads and bits per thread must be the same "
        "before and after.",
        program("x = load(A[0 +: 64], layout=local(2).spatial(32))",
                "y = view(x, u8, layout=local(4).spatial(32))"),
        "local(4).spatial(32)",
        "Use a layout with as many bits per thread, such as packed(layout, dtype) for bytes.",
    ),
    Explanation(
        "E0311", "a view that would make copies differ",
        "In the new layout several threads hold the same element, but the bits that they bring are "
        "not copies of each other.",
        program("x = load(A[0 +: 32], layout=spatial(32))",
                "y = view(x, u32, layout=replicated(2).spatial(16))"),
        "replicated(2).spatial(16)", "Use a layout with the replication of the operand's.",
    ),
    Explanation(
        "E0312", "a product that no fragment holds",
        "The matrix instructions of GPUs multiply certain dtypes in certain shapes. A dot must be "
        "made of whole fragments: M, N and K multiples of (for f16) 16, 8 and 8.",
        program("a = fill(0.0, f16, [16, 12])", "b = fill(0.0, f16, [12, 8])", "c = dot(a, b)",
                parameters="C: out(global(f32))[N]"),
        "dot(a, b)",
        "Use tiles that are multiples of the fragment, or cast both operands to a pair of dtypes "
        "that the message lists.",
    ),
    Explanation(
        "E0313", "a tensor that is needed in two layouts",
        "Where compiling was told to exchange no data between threads on its own, every tensor "
        "must be made in the layout in which it is used.",
        "from vm.compiler.layouts import infer_layouts\n"
        "infer_layouts(kernel, relayouts=False)  # x is made in one layout and used in another",
        "", "Write relayout(x, layout) where you want it, or give both sides one layout.", PYTHON,
    ),
)  # fmt: skip
