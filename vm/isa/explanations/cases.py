"""E07: cases."""

from __future__ import annotations

from vm.isa.explanations.explanation import Explanation


def _case(*body: str, sizes: str = "N = 32") -> str:
    """A module of a program that copies, a reference for it, and this case."""
    return "\n".join(
        [
            "vm 1",
            "program copy(A: global(f32)[N], C: out(global(f32))[N])",
            "  grid (N / 32) threads 32 where N % 32 == 0",
            "{",
            "  i = block_index() * 32",
            "  store(C[i +: 32], load(A[i +: 32]))",
            "}",
            "reference same(A: f32[N], B: f32[N]) {",
            "  return A",
            "}",
            f"case main({sizes}) {{",
            *(f"  {line}" for line in body),
            "}",
            "",
        ]
    )


EXPLANATIONS = (
    Explanation(
        "E0701", "arguments that disagree about a size",
        "A size stands in the shapes of several parameters and the tensors given for them make it "
        "different numbers, or the call gives it another value.",
        _case("A = arange(f32, [N])", "B = arange(f32, [N + 1])", "expect(copy(A), same(A, B))"),
        "B", "Give tensors whose shapes agree.",
    ),
    Explanation(
        "E0702", "an argument of another type",
        "A program takes what its parameters say: a tensor of that dtype and rank, or one number "
        "that the dtype holds. Nothing is converted silently.",
        _case("A = arange(f16, [N])", "expect(copy(A), A)"), "A",
        "Give a tensor or number of the type that the parameter has.",
    ),
    Explanation(
        "E0703", "sizes that break a fact",
        "A `where` fact of the program is false for the sizes of this call. The message names the "
        "nearest sizes that would fit.",
        _case("A = arange(f32, [N])", "expect(copy(A), A)", sizes="N = 33"), "copy(A)",
        "Choose a size that fits, here or with --set, or pad the input.",
    ),
    Explanation(
        "E0704", "a case that is none",
        "A case binds names to inputs and results and ends in expect(...); a reference ends in "
        "return. Nothing else stands in a case: loops and conditions belong into programs.",
        _case("A = arange(f32, [N])", "C = copy(A)"),
        "case main(N = 32) {\n  A = arange(f32, [N])\n  C = copy(A)\n}",
        "End it in expect(C, reference(...), bound=...).",
    ),
    Explanation(
        "E0705", "a case that is too large",
        "A tensor of a case has at most 2^29 elements: inputs are made in f64, and the reference "
        "machine keeps several copies. The same code says that memory ran out before.",
        _case("A = zeros(f32, [N])", "expect(copy(A), A)", sizes="N = 1073741824"),
        "zeros(f32, [N])", "Give it smaller sizes: --set N=1024.",
    ),
    Explanation(
        "E0706", "a size that nothing tells",
        "A size gets its value from a tensor in whose shape it stands alone. Where it stands only "
        "in the shapes of results, or in sums and products, no argument says what it is.",
        "vm 1\nprogram nothing(C: out(global(f32))[N])\n  grid (N / 32) threads 32\n{\n"
        "  store(C[block_index() * 32 +: 32], 0.0)\n}\n"
        "case main() {\n  C = nothing()\n  expect(C, zeros(f32, [32]))\n}\n",
        "nothing()", "Say it in the call: nothing(N=32).",
    ),
)  # fmt: skip
