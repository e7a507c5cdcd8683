"""E02: names, types and calls."""

from __future__ import annotations

from vm.isa.explanations.explanation import Explanation, program

EXPLANATIONS = (
    Explanation(
        "E0201", "a name that stands for nothing",
        "Names are constants, layouts, parameters and sizes of the program, and what was bound in "
        "this block or one around it. What is bound inside a block is unknown behind it.",
        program("x = load(A[0 +: 32])", "store(C[0 +: 32], y)"), "y",
        "Bind the name first, or use the nearest known one, which the message shows.",
    ),
    Explanation(
        "E0202", "a constant that is defined by itself",
        "Constants and layouts may use each other in any order, but not in a circle.",
        "vm 1\n\nconst M = N + 1\nconst N = M + 1\n\nprogram p(C: out(global(f32))[L])\n"
        "  grid (M) threads 32\n{\n  synchronize()\n}\n",
        "M", "Give one constant of the circle a value of its own.",
    ),
    Explanation(
        "E0203", "a thing of the wrong kind",
        "Memory is used where a value is needed, a value where memory is, a layout or dtype "
        "where a number is, or an operator is applied to what it has no meaning for.",
        program("x = A + 1.0"), "A", "Load memory before computing: load(A[...]).",
    ),
    Explanation(
        "E0204", "division by zero in a constant",
        "An expression of constants divides by 0, or a loop has step 0.",
        "vm 1\n\nconst W = 0\n\nprogram p(C: out(global(f32))[L])\n"
        "  grid (16 / W) threads 32\n{\n  synchronize()\n}\n",
        "16 / W", "Give the constant another value.",
    ),
    Explanation(
        "E0205", "types that do not fit each other",
        "Operands of an instruction have different dtypes, a constant is no value of the dtype "
        "it is needed in, or a value does not fit the variable it is assigned to. Nothing is "
        "converted silently.",
        program("x = load(A[0 +: 32])", "store(C[0 +: 32], cast(x, f16) + x)"), "x",
        "Cast one side: cast(x, f32).",
    ),
    Explanation(
        "E0206", "a value per element where one for all is needed",
        "Conditions, loop bounds and indices are the same for all threads of the group: scalars.",
        program("x = load(A[0 +: 32])", "if x > 0.0 {", "  synchronize()", "}"), "x > 0.0",
        "Choose by element with where(condition, a, b), index by element with gather, or reduce to "
        "one value.",
    ),
    Explanation(
        "E0207", "a name that is bound twice",
        "`x = ...` binds a name once, and inner blocks may not bind it again. Storage that changes "
        "is a variable.",
        program("x = load(A[0 +: 32])", "x = x + 1.0"), "x = x + 1.0",
        "Choose another name, or declare `var x = ...` and assign with `x := ...`.",
    ),
    Explanation(
        "E0208", "break or continue at a place without a loop",
        "They belong to the innermost loop around them, which must be one that runs: a loop that "
        "is written out with `unroll full` has no turns to leave.",
        program("break"), "break", "Remove it; exit() ends the block's part of the program.",
    ),
    Explanation(
        "E0209", "a call that does not fit",
        "An argument is missing, unknown, given twice or one too many, or there are more or fewer "
        "results than names.",
        program("x = load(A[0 +: 32])", "y = cast(x)"), "cast(x)",
        "Write the call as the message shows it.",
    ),
    Explanation(
        "E0210", "a variable that may have no value",
        "A variable is read on a way on which it was never assigned: in only one branch of an "
        "`if`, or in a loop that may make no turn.",
        program("var x: register(f32)[32]", "store(C[0 +: 32], x)"), "x",
        "Give it a first value where it is declared: var x: register(f32)[32] = fill(0.0).",
    ),
    Explanation(
        "E0211", "a result that is missing, or that nobody takes",
        "A reference ends in `return` on every way through it; a program has no result.",
        program("return 1"), "return 1",
        "End a reference with `return value`; let a program store into an out parameter.",
    ),
    Explanation(
        "E0212", "arithmetic on a type that only stores",
        "Integers below 8 bits, floats below 16, tf32, scales and codebooks are stored and cast, "
        "not computed with.",
        program("x = load(A[0 +: 32])", "y = x + x", parameters="A: global(u4)[N]"), "x",
        "Cast first: cast(x, f16).",
    ),
    Explanation(
        "E0213", "a cast that does not exist",
        "The rounding asked for has no meaning between these dtypes.",
        program("x = cast(load(A[0 +: 32]), i8, rounding=\"nearest_entry\")"),
        'cast(load(A[0 +: 32]), i8, rounding="nearest_entry")',
        "Choose another rounding: nearest_entry is for codebooks.",
    ),
    Explanation(
        "E0214", "a write to a parameter that is only read",
        "A global parameter is only read unless its type says out or inout.",
        program("store(A[0 +: 32], fill(0.0, f32, [32]))"), "A[0 +: 32]",
        "Declare it out(global(f32))[N], or inout(...) where it is read as well.",
    ),
    Explanation(
        "E0215", "a variable of the block that a group assigns",
        "All threads that hold a variable hold one value. If the threads of a group assigned one "
        "of the block, the others would keep the old value. A group may read it.",
        program("var n = 0", "group first(warps=1) {", "  n := n + 1", "}", "print(n)"),
        "n := n + 1",
        "Declare a variable inside the group, which may begin with the value of the block's: "
        "`var m = n`. What a group computes leaves it through memory.",
    ),
)  # fmt: skip
