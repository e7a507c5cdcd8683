"""E01: text that cannot be read."""

from __future__ import annotations

from vm.isa.explanations.explanation import PYTHON, Explanation, program

EXPLANATIONS = (
    Explanation(
        "E0101", "a character or number that cannot be read",
        "A character stands where none of its kind can, or a number is malformed. Strings are "
        'written "so"; names have no sigil; `!` is only part of `!=`.',
        program("x = load(A[0 +: 32])", "y = 'text'"), "'",
        "Write what the message names as possible at that place.",
    ),
    Explanation(
        "E0102", "a word or sign at the wrong place",
        "The text is no program from this token on: a bracket is not closed, an operator lacks an "
        "operand, a statement goes on where a new line was needed.",
        program("x = load(A[0 +: 32]) 5"), "5",
        "The message lists what could stand there. Statements end with the line or with `;`.",
    ),
    Explanation(
        "E0103", "another version of the language",
        "A file begins with `vm` and the version it is written in; this machine knows version 1.",
        "vm 2\n\nconst M = 1\n", "vm 2", "Write `vm 1`, or use a machine that knows that version.",
    ),
    Explanation(
        "E0104", "a name that cannot be one",
        "Names are made of letters, digits and _, and are none of the words of the language, "
        "such as `if` and `inf`. In a text another error comes first; the builder can be given "
        "such a name.",
        "from vm.isa.builder import Builder\nBuilder().const(64, name=\"inf\")", "",
        "Choose another name.", PYTHON,
    ),
    Explanation(
        "E0105", "over a limit of the text",
        "A file has at most 1 MB, nests at most 256 deep, writes numbers of at most 4000 digits; "
        "constants have at most 4096 bits.",
        "vm 1\n\nconst A = 0x1000000000000 * 0x1000000000000\nconst B = A * A * A * A\n"
        "const C = B * B * B * B\nconst D = C * C * C\n\nprogram p(X: out(global(f32))[N])\n"
        "  grid (D) threads 32\n{\n  synchronize()\n}\n",
        "C * C * C", "Split the module, name inner parts, or use smaller numbers.",
    ),
    Explanation(
        "E0106", "a result that is thrown away",
        "A line that computes something and does nothing with it is a mistake. Only instructions "
        "with an effect, such as store or synchronize, stand alone.",
        program("load(A[0 +: 32])"), "load(A[0 +: 32])", "Bind it, `x = load(...)`, or remove it.",
    ),
)  # fmt: skip
