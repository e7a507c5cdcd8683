"""Whatever can be known before running is refused: by its code, and at its place.

In each program the place is what stands between the brackets ⟦ and ⟧, which are taken out before
the program is read.
"""

from __future__ import annotations

import pytest

from vm.errors import VmError
from vm.isa.program import parse
from vm.isa.verify import SHARED_LIMIT, verify

HEADER = (
    "program f(A: global(f32)[M, 64], C: out(global(f32))[M, 64], H: global(f16)[M, 64], n: i32, "
    "c: bool) grid (M) threads 64 {\n"
)


def marked(text: str) -> tuple[str, tuple[int, int, int, int]]:
    """The text without its brackets, and (line, column, end line, end column) between them."""
    before, rest = text.split("⟦")
    inside, after = rest.split("⟧")

    def position(prefix: str) -> tuple[int, int]:
        return prefix.count("\n") + 1, len(prefix) - prefix.rfind("\n")

    return before + inside + after, (*position(before), *position(before + inside))


def fault(text: str, **constants) -> VmError:
    with pytest.raises(VmError) as caught:
        for program in parse(text):
            program.instantiate(**constants)
    return caught.value


def assert_fault(code: str, text: str, **constants) -> VmError:
    clean, place = marked(text)
    error = fault(clean, **constants)
    origin = error.origin
    assert (error.code, origin.line, origin.column, origin.end_line, origin.end_column) == (
        code, *place,
    ), str(error)  # fmt: skip
    assert error.diagnostics[0].fix
    return error


def body(statements: str) -> str:
    return f"vm 1\n{HEADER}{statements}\n}}\n"


# Malformed text.
TEXTS = [
    ("E0101", "vm 1\nconst A = ⟦'⟧x'"),
    ("E0101", "vm 1\nconst A = 0x1 ⟦!⟧ 2"),
    ("E0101", 'vm 1\nconst A = ⟦"⟧abc\n'),
    ("E0101", body("x = ⟦09⟧")),
    ("E0102", "vm 1\nconst A ⟦5⟧"),
    ("E0102", "vm 1\nprogram f() grid (1) threads 32 { x = (1 + ⟦}⟧"),
    ("E0102", body("x = min(a=1, ⟦2⟧)")),
    ("E0102", body("x = 1 /⟦/⟧ 2")),
    ("E0102", body("if c ⟦)⟧")),
    ("E0102", body("⟦for k in range(1, 2, 3, 4) { }⟧")),
    ("E0102", body("x = n < 1 ⟦<⟧ 2")),
    ("E0103", "⟦vm 2⟧\n"),
    ("E0105", "vm 1\nconst A = ⟦" + "9" * 5000 + "⟧"),
    ("E0106", body("⟦n + 1⟧")),
    ("E0106", body("⟦load(A[0 +: 8])⟧")),
]

# Names and their spaces, types and uses.
NAMES = [
    ("E0201", body("first = n\nx = ⟦frist⟧"), "`first`"),
    ("E0201", body("x = ⟦laod(A[0 +: 8])⟧"), "`load`"),
    ("E0201", body("x = fill(0.0, ⟦f33⟧, [8])"), None),
    ("E0201", body("x = load(A[0 +: 8, 0 +: 8], layout=⟦spacial(8, 8)⟧)"), "`spatial`"),
    ("E0201", body("x = load(A[0 +: 8, 0 +: 8], layout=⟦spatial(8, 8).locl(1)⟧)"), "`.local`"),
    ("E0201", body("if c { y = n + 1 }\nprint(⟦y⟧)"), None),
    ("E0201", body("print(⟦y⟧)\ny = n"), None),
    ("E0202", "vm 1\nconst P = Q\nconst Q = ⟦P⟧\n" + HEADER + "x = P }", None),
    ("E0203", body("x = ⟦A⟧ + 1"), None),
    ("E0203", body("copy_async(⟦A⟧, A)"), None),
    ("E0203", body("x = load(⟦n⟧)"), None),
    ("E0203", body("⟦x⟧ = A[0 +: 8]").replace("⟦x⟧ = A[0 +: 8]", "x = ⟦A[0 +: 8]⟧"), None),
    ("E0204", body("x = ⟦1 / 0⟧"), None),
    ("E0204", body("x = ⟦div(1, 0)⟧"), None),
    ("E0205", body("x = load(A[0 +: 8]) + ⟦load(H[0 +: 8])⟧"), None),
    ("E0205", body("x = n + ⟦0.5⟧"), None),
    ("E0205", body("if ⟦n⟧ { synchronize() }"), None),
    ("E0205", body("if ⟦1⟧ { synchronize() }"), None),
    ("E0205", body("for k in range(⟦0.5⟧) { }"), None),
    ("E0206", body("if ⟦load(A[0 +: 8]) < 1.0⟧ { synchronize() }"), None),
    ("E0206", body("for k in range(⟦load(A[0 +: 8])⟧) { }"), None),
    ("E0206", body("x = load(A[⟦iota(i32, [8])⟧ +: 8])"), None),
    ("E0207", body("x = n\n⟦x = 3⟧"), None),
    ("E0207", body("x = n\n⟦x := 3⟧"), "`var x"),
    ("E0207", body("⟦n := 3⟧"), None),
    ("E0207", body("for k in range(3) { ⟦k := 3⟧ }"), None),
    ("E0208", body("⟦break⟧"), None),
    ("E0208", body("for k in range(3) unroll full { ⟦continue⟧ }"), None),
    ("E0209", body("x = load(⟦laiout=3⟧)"), "`layout`"),
    ("E0209", body("x = ⟦load()⟧"), None),
    ("E0209", body("x = ⟦synchronize()⟧"), None),
    ("E0209", body("⟦x, y = n + 1⟧"), None),
    ("E0209", body('x = reduce(load(A[0 +: 8]), 0, op=⟦"summ"⟧)'), "sum"),
    ("E0210", body("var x: i32\nprint(⟦x⟧)"), None),
    ("E0210", body("var x: i32\nif c { x := 1 }\nprint(⟦x⟧)"), None),
    ("E0210", body("var x: i32\nfor k in range(n) { x := 1 }\nprint(⟦x⟧)"), None),
    ("E0211", "vm 1\nreference f(X: f32[4]) { y = ⟦X + X⟧ }", None),
    ("E0211", "vm 1\nreference f(X: f32[4], c: bool) { ⟦if c { return X }⟧ }", None),
    ("E0211", body("⟦return n⟧"), None),
    ("E0212", body("x = cast(load(A[0 +: 8]), u4)\ny = ⟦x⟧ + x"), None),
    ("E0214", body("store(⟦A[0 +: 8]⟧, 1.0)"), "out("),
    ("E0214", body("atomic(⟦A[0, 0]⟧, 1.0)"), None),
]

# Shapes, layouts and resources.
SHAPES = [
    ("E0302", body("x = load(A[0 +: 8]) + ⟦load(A[0 +: 7])⟧")),
    ("E0302", body("x = load(⟦A[0, 0, 0]⟧)")),
    ("E0302", body("store(C[0 +: 8], ⟦load(A[0 +: 7])⟧)")),
    ("E0302", body("x = dot(load(H[0 +: 16, 0 +: 16]), ⟦load(H[0 +: 8, 0 +: 8])⟧)")),
    ("E0303", body("x = load(A[0 +: ⟦n⟧])")),
    ("E0303", body("x = load(⟦A[:, 0 +: 8]⟧)")),
    ("E0303", body("x = load(A[0 +: ⟦0⟧])")),
    ("E0303", body("x = fill(0.0, f32, ⟦[100000, 100000]⟧)")),
    ("E0304", body("x = load(A[0 +: 8, 0 +: 8], layout=⟦spatial(4, 8)⟧)")),
    ("E0304", body("x = load(A[0 +: 8, 0 +: 8], layout=⟦spatial(8, 4).local(1, 2)⟧)")),
    ("E0305", body("s = shared_alloc(f32, [4])\nx = load_scalar(s[⟦4⟧])")),
    ("E0209", "vm 1\n" + HEADER.replace(" {", " where aligned(A, ⟦12⟧) {") + "}"),
    ("E0209", "vm 1\n" + HEADER.replace(" {", " where aligned(A, ⟦0⟧) {") + "}"),
    ("E0403", "vm 1\n" + HEADER + "group g(⟦warps=0⟧) { synchronize() }\n}"),
    ("E0403", "vm 1\n" + HEADER + "group g(warps=1, ⟦copies=-1⟧) { synchronize() }\n}"),
    ("E0306", "vm 1\nconst B = 3\n" + HEADER.replace(" {", " where ⟦B == 4⟧ {") + "}"),
    ("E0310", body("x = load(H[0 +: 8, 0 +: 8], layout=spatial(8, 8))\n"
                   "y = view(x, f32, layout=⟦spatial(8, 8)⟧)")),
    ("E0311", body("x = load(H[0 +: 8, 0 +: 16], layout=spatial(8, 8).local(1, 2))\n"
                   "y = view(x, u32, layout=⟦spatial(8).replicated(8)⟧)")),
    ("E0312", body("x = ⟦dot(load(H[0 +: 15, 0 +: 16]), load(H[0 +: 16, 0 +: 8]))⟧")),
    ("E0312", body("x = dot(load(A[0 +: 16, 0 +: 16]), ⟦load(A[0 +: 16, 0 +: 8])⟧)")),
    ("E0401", "vm 1\nprogram f() grid (1) threads ⟦48⟧ { }"),
    ("E0401", "vm 1\nprogram f() grid (1, 1, 1, ⟦1⟧) threads 32 { }"),
    ("E0402", body("⟦for k in range(5000) unroll full { synchronize() }⟧")),
    ("E0205", "vm 1\n" + HEADER.replace(" {", " where ⟦n % 8⟧ {") + "}"),
    ("E0205", "vm 1\n" + HEADER.replace(" {", " where n > 0 and ⟦n % 8⟧ {") + "}"),
    ("E0203", "vm 1\nconst B = ⟦3 and true⟧\n" + HEADER.replace(" {", " where B {") + "}"),
    ("E0203", body("x = ⟦not 3⟧\nprint(x)")),
    ("E0203", body("x = ⟦true + 1⟧\nprint(x)")),
    ("E0203", body("x = load(A, layout=⟦local⟧)")),
    ("E0215", body("var x = 1\ngroup g(warps=1) { ⟦x := 2⟧ }")),
    ("E0403", body("group g(⟦warps=3⟧) { synchronize() }")),
    ("E0403", body("group g(warps=1) { ⟦group h(warps=1) { synchronize() }⟧ }")),
    ("E0404", body("barrier(⟦16⟧, 2)")),
    ("E0404", body("barrier(1, ⟦1⟧)")),
    ("E0404", body("⟦barrier(1, 3)⟧")),
    ("E0404", body("group g(warps=1) { ⟦barrier(1, 2)⟧ }\ngroup h(warps=1) { synchronize() }")),
    ("E0404", body("group g(warps=1) { barrier(1, 1) }\ngroup h(warps=1) { ⟦barrier(1, 3)⟧ }")),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text"), TEXTS)
def test_text(code, text):
    assert_fault(code, text)


@pytest.mark.parametrize(("code", "text", "hint"), NAMES)
def test_names_and_uses(code, text, hint):
    error = assert_fault(code, text)
    assert hint is None or hint in error.diagnostics[0].fix


@pytest.mark.parametrize(("code", "text"), SHAPES)
def test_shapes_and_resources(code, text):
    assert_fault(code, text)


def test_a_text_that_ends_too_early_ends_behind_its_last_character():
    error = fault("vm 1\nprogram f() grid (1) threads 32 {\n\n")
    assert (error.code, error.origin.line, error.origin.column) == ("E0102", 2, 34)


def test_both_sides_of_a_conflict_are_shown():
    error = fault(body("x = load(A[0 +: 8]) + load(H[0 +: 8])"))
    first, second = error.diagnostics[0].labels
    assert "f16" in first.text
    assert "f32" in second.text
    assert (first.origin.column, second.origin.column) == (23, 5)


# Shared memory.
@pytest.mark.parametrize(
    ("statements", "alive"),
    [
        ("s = shared_alloc(u8, [300])", 300),
        ("s = shared_alloc(u8, [300]); t = shared_alloc(u4, [301])", 451),
        ("if c { s = shared_alloc(u8, [300]) } else { t = shared_alloc(u8, [400]) }", 400),
        ("for k in range(n) { s = shared_alloc(u8, [300]) }\nt = shared_alloc(u8, [100])", 300),
        ("t = shared_alloc(u8, [100]); for k in range(n) { s = shared_alloc(u8, [300]) }", 400),
        (
            "group a(warps=1) { s = shared_alloc(u8, [300]) }\n"
            "group b(warps=1) { if c { s = shared_alloc(u8, [200]) } }",
            500,
        ),
        (
            "group a(warps=1) { s = shared_alloc(u8, [300]) }\nsynchronize()\n"
            "group b(warps=1) { t = shared_alloc(u8, [200]) }",
            300,
        ),
    ],
)
def test_shared_memory_alive_at_once(statements, alive):
    kernel = parse(body(statements))["f"].instantiate()
    verify(kernel, shared_limit=alive)
    with pytest.raises(VmError) as caught:
        verify(kernel, shared_limit=alive - 1)
    assert caught.value.code == "E0405"
    assert f"{alive} bytes" in caught.value.diagnostics[0].message


def test_too_much_shared_memory_names_every_tensor():
    error = assert_fault(
        "E0405",
        body(
            f"s = shared_alloc(u8, [{SHARED_LIMIT}])\nif c {{ t = ⟦shared_alloc(u8, [1])⟧ }}"
        ),
    )
    assert [label.text for label in error.diagnostics[0].labels] == ["1 bytes", "232448 bytes"]


# Asynchronous copies.
COPIES = "s = shared_alloc(f32, [4, 8, 64])\nt = shared_alloc(f32, [8, 64])\n"

WRONG_COPIES = [
    "copy_async(t, A[0 +: 8])\nx = load(⟦t⟧)",
    "copy_async(t, A[0 +: 8]); commit_async()\nx = load(⟦t⟧)",
    "copy_async(t, A[0 +: 8]); wait_async()\nx = load(⟦t⟧)",
    "copy_async(t, A[0 +: 8]); commit_async(); wait_async(1)\nx = load(⟦t⟧)",
    "copy_async(t, A[0 +: 8]); commit_async(); commit_async(); wait_async(2)\nstore(⟦t⟧, 0.0)",
    "copy_async(t, A[0 +: 8]); copy_async(⟦t[0 +: 1]⟧, A[0 +: 1])",
    "copy_async(s[1], A[0 +: 8]); x = load(⟦s[0 +: 2, :, :]⟧)",
    "copy_async(s[n], A[0 +: 8]); x = load(⟦s[n]⟧)",
    "copy_async(t, A[0 +: 8]); if c { x = load(⟦t⟧) }",
    "copy_async(t, A[0 +: 8]); for k in range(n) { x = load(⟦t⟧) }",
    "if c { copy_async(t, A[0 +: 8]) } else { copy_async(t, A[8 +: 8]); commit_async() }\n"
    "for k in range(n) { copy_async(t, A[0 +: 8]); x = load(⟦t⟧); commit_async(); wait_async() }",
    "while true { copy_async(t, A[0 +: 8]); if n == 1 { break }\ncommit_async(); wait_async() }\n"
    "x = load(⟦t⟧)",
    "group g(warps=1) { copy_async(t, A[0 +: 8]); x = load(⟦t⟧) }",
]

RIGHT_COPIES = [
    "copy_async(t, A[0 +: 8]); commit_async(); wait_async(); x = load(t)",
    "copy_async(t, A[0 +: 8]); commit_async(); commit_async(); wait_async(1); x = load(t)",
    "copy_async(s[0], A[0 +: 8]); x = load(s[1])",
    "copy_async(s[n], A[0 +: 8]); x = load(s[n + 1])",
    "copy_async(s[0, 0 +: 4], A[0 +: 4]); x = load(s[0, 4 +: 4])",
    # On one path only: the reference machine tells which inputs take it.
    "if c { copy_async(t, A[0 +: 8]) }\nx = load(t)",
    "copy_async(t, A[0 +: 8]); commit_async(); if c { wait_async() }\nx = load(t)",
    "copy_async(t, A[0 +: 8]); commit_async(); for k in range(n) { wait_async() }\nx = load(t)",
    # In each turn the offset is another one.
    "for k in range(4) { x = load(s[k]); copy_async(s[k], A[0 +: 8]) }",
    "for k in range(4) { copy_async(s[k], A[0 +: 8]); commit_async(); wait_async(2)\n"
    "x = load(s[(k + 2) % 4]) }",
    # The turn before has waited, and before the first there was nothing.
    "for k in range(n) { copy_async(t, A[0 +: 8]); commit_async(); wait_async(); x = load(t) }",
    "if c { copy_async(t, A[0 +: 8]); exit() }\nx = load(t)",
]


@pytest.mark.parametrize("statements", WRONG_COPIES)
def test_use_of_a_target_in_flight(statements):
    error = assert_fault("E0407", body(COPIES + statements))
    assert error.diagnostics[0].labels[1].origin.text_line().find("copy_async") >= 0


@pytest.mark.parametrize("statements", RIGHT_COPIES)
def test_use_of_a_target_that_may_have_landed(statements):
    parse(body(COPIES + statements))["f"].instantiate()


def test_the_fix_says_how_many_groups_may_be_pending():
    error = fault(
        body(COPIES + "copy_async(t, A[0 +: 8]); commit_async(); commit_async(); wait_async(2)\n"
             "x = load(t)")
    )  # fmt: skip
    assert "wait_async(1)" in error.diagnostics[0].fix


def test_every_fault_of_a_kernel_is_reported():
    error = fault(
        body(COPIES + "copy_async(t, A[0 +: 8])\nx = load(t)\nbarrier(1, 3)\ny = load(t)")
    )
    assert [d.code for d in error.diagnostics] == ["E0407", "E0407", "E0404"]


def test_a_barrier_in_a_uniform_branch_is_right():
    parse(body("if c { synchronize() }\nif n == 0 { barrier(1, 2) }"))["f"].instantiate()
    parse(
        body("group g(warps=1) { barrier(1, 2) }\ngroup h(warps=1) { barrier(1, 2, arrive=true) }")
    )["f"].instantiate()
