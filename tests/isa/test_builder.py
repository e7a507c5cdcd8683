"""The builder writes what the text says, and says where in Python it was written."""

from __future__ import annotations

import linecache
import sys

import numpy as np
import pytest

from vm.errors import VmError
from vm.isa import syntax
from vm.isa.builder import Builder
from vm.isa.control import Control
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.program import Module, parse
from vm.isa.static import FUNCTIONS
from vm.layouts import NAMES, spatial

MATMUL = """vm 1
const BM = 64;  const BN = 128;  const BK = 64;  const STAGES = 4;  const GROUP = 128
layout fragment = dot_layout(BM, BN, BK, f16).b
layout bytes = packed(fragment, u4)

program pack_weight(B: global(u4)[K, N], P: out(global(u8))[K / BK, N / BN, BK * BN / 2])
  grid (K / BK, N / BN) threads 128 where K % BK == 0, N % BN == 0
{
  k, n = block_index()
  w = load(B[k * BK +: BK, n * BN +: BN], layout=fragment)
  store(P[k, n, :], view(w, u8, layout=bytes))
}

program matmul(A: global(f16)[M, K], P: global(u8)[K / BK, N / BN, BK * BN / 2],
               S: global(f16)[K / GROUP, N], Z: global(u4)[K / GROUP, N], C: out(global(f16))[M, N])
  grid (ceil_div(M, BM), N / BN) threads 128 where K % GROUP == 0, N % BN == 0, aligned(A, 16)
{
  bm, bn = block_index()
  a = shared_alloc(f16, [STAGES, BM, BK])
  p = shared_alloc(u8, [STAGES, BK * BN / 2])
  var acc: register(f32)[BM, BN] = fill(0.0)
  for s in range(STAGES - 1) unroll full {
    copy_async(a[s], A[bm * BM +: BM, s * BK +: BK])
    copy_async(p[s], P[s, bn, :])
    commit_async()
  }
  for k in range(K / BK) {
    wait_async(STAGES - 2)
    synchronize()
    next = k + STAGES - 1
    if next < K / BK {
      copy_async(a[next % STAGES], A[bm * BM +: BM, next * BK +: BK])
      copy_async(p[next % STAGES], P[next, bn, :])
    }
    commit_async()
    scale = load(S[k * BK / GROUP +: 1, bn * BN +: BN])
    zero = load(Z[k * BK / GROUP +: 1, bn * BN +: BN])
    q = view(load(p[k % STAGES], layout=bytes), u4, layout=fragment)
    acc := dot(load(a[k % STAGES]), (cast(q, f16) - cast(zero, f16)) * scale, acc)
  }
  store(C[bm * BM +: BM, bn * BN +: BN], cast(acc, f16))
}

reference dequantized_product(A: f16[M, K], B: u4[K, N], S: f16[K / GROUP, N], Z: u4[K / GROUP, N])
{
  zero = cast(repeat(Z, GROUP, axis=0), f64)
  scale = cast(repeat(S, GROUP, axis=0), f64)
  return dot(cast(A, f64), (cast(B, f64) - zero) * scale)
}

case main(M = 64, N = 1024, K = 1024) {
  A = random(f16, [M, K], seed=1)
  B = random(u4, [K, N], seed=2)
  S = random(f16, [K / GROUP, N], seed=3, scale=0.01)
  Z = random(u4, [K / GROUP, N], seed=4)
  C = matmul(A, pack_weight(B), S, Z)
  expect(C, dequantized_product(A, B, S, Z), bound=dot_error(f16, f32, K))
}
"""


def build_matmul() -> Module:
    b = Builder()
    f16, f32, f64, u4, u8 = b.f16, b.f32, b.f64, b.u4, b.u8
    M, N, K = b.sizes("M N K")

    BM = b.const(64)
    BN = b.const(128)
    BK = b.const(64)
    STAGES = b.const(4)
    GROUP = b.const(128)
    fragment = b.layout(b.dot_layout(BM, BN, BK, f16).b)
    bytes = b.layout(b.packed(fragment, u4))

    @b.program(grid=(K // BK, N // BN), threads=128, where=[K % BK == 0, N % BN == 0])
    def pack_weight(
        B: b.global_(u4)[K, N],
        P: b.out(b.global_(u8))[K // BK, N // BN, BK * BN // 2],
    ):
        k, n = b.block_index()
        w = b.load(B[k * BK : +BK, n * BN : +BN], layout=fragment)
        b.store(P[k, n, :], b.view(w, u8, layout=bytes))

    @b.program(
        grid=(b.ceil_div(M, BM), N // BN),
        threads=128,
        where=[K % GROUP == 0, N % BN == 0, b.aligned("A", 16)],
    )
    def matmul(
        A: b.global_(f16)[M, K],
        P: b.global_(u8)[K // BK, N // BN, BK * BN // 2],
        S: b.global_(f16)[K // GROUP, N],
        Z: b.global_(u4)[K // GROUP, N],
        C: b.out(b.global_(f16))[M, N],
    ):
        bm, bn = b.block_index()
        a = b.shared_alloc(f16, [STAGES, BM, BK])
        p = b.shared_alloc(u8, [STAGES, BK * BN // 2])
        acc = b.var(b.register(f32)[BM, BN], b.fill(0.0))
        for s in b.range(STAGES - 1, unroll="full"):
            b.copy_async(a[s], A[bm * BM : +BM, s * BK : +BK])
            b.copy_async(p[s], P[s, bn, :])
            b.commit_async()
        for k in b.range(K // BK):
            b.wait_async(STAGES - 2)
            b.synchronize()
            next = k + STAGES - 1
            with b.if_(next < K // BK):
                b.copy_async(a[next % STAGES], A[bm * BM : +BM, next * BK : +BK])
                b.copy_async(p[next % STAGES], P[next, bn, :])
            b.commit_async()
            scale = b.load(S[k * BK // GROUP : +1, bn * BN : +BN])
            zero = b.load(Z[k * BK // GROUP : +1, bn * BN : +BN])
            q = b.view(b.load(p[k % STAGES], layout=bytes), u4, layout=fragment)
            acc.assign(
                b.dot(b.load(a[k % STAGES]), (b.cast(q, f16) - b.cast(zero, f16)) * scale, acc)
            )
        b.store(C[bm * BM : +BM, bn * BN : +BN], b.cast(acc, f16))

    @b.reference()
    def dequantized_product(
        A: f16[M, K], B: u4[K, N], S: f16[K // GROUP, N], Z: u4[K // GROUP, N]
    ):
        zero = b.cast(b.repeat(Z, GROUP, axis=0), f64)
        scale = b.cast(b.repeat(S, GROUP, axis=0), f64)
        return b.dot(b.cast(A, f64), (b.cast(B, f64) - zero) * scale)

    @b.case(M=64, N=1024, K=1024)
    def main(M, N, K):
        A = b.random(f16, [M, K], seed=1)
        B = b.random(u4, [K, N], seed=2)
        S = b.random(f16, [K // GROUP, N], seed=3, scale=0.01)
        Z = b.random(u4, [K // GROUP, N], seed=4)
        C = matmul(A, pack_weight(B), S, Z)
        b.expect(C, dequantized_product(A, B, S, Z), bound=b.dot_error(f16, f32, K))

    return b.module()


def test_the_matmul_in_python_is_the_matmul_in_text():
    text, built = parse(MATMUL), build_matmul()
    assert built == text
    assert parse(str(built)) == built
    for name in ("pack_weight", "matmul"):
        assert built[name].instantiate() == text[name].instantiate()
    name, sizes = "dequantized_product", {"M": 64, "N": 128, "K": 256}
    assert built[name].instantiate(**sizes) == text[name].instantiate(**sizes)
    larger = {"STAGES": 3, "GROUP": 64}
    assert built["matmul"].instantiate(**larger) == text["matmul"].instantiate(**larger)
    assert built["matmul"].instantiate(**larger) != text["matmul"].instantiate()


def program(write, parameters=("i32", "inout(global(f32))[M, 64]")) -> Module:
    """A module of one program whose body is what `write(b, n, A)` writes."""
    b = Builder()
    n, A = parameters

    def body(n, A):
        return write(b, n, A)

    # As Python keeps them here: the source of the annotation, which is a string.
    body.__annotations__ = {"n": repr(n), "A": repr(A)}
    b.program(grid=1, threads=32, name="f")(body)
    return b.module()


def text(body: str) -> Module:
    return parse(
        "vm 1\nprogram f(n: i32, A: inout(global(f32))[M, 64]) grid (1) threads 32 {\n"
        + body + "\n}\n"
    )  # fmt: skip


def assert_same(write, body: str) -> None:
    """What Python wrote is the text, and makes the same kernel."""
    built, expected = program(write), text(body)
    assert str(built) == str(expected)
    assert built == expected
    assert built["f"].instantiate() == expected["f"].instantiate()


def test_every_operator():
    def write(b, n, A):
        x = n + 1 - n * 2
        y = x // 3 + x / 4 % 5
        z = (x & 1 | y ^ 2) << 1 >> 1
        w = -z + ~x + 1 - (+n)
        c = b.and_(x < y, b.or_(x <= y, b.not_(x > y)))
        d = b.or_(b.and_(x == w, x != y), x >= 3)
        b.assert_(b.and_(c, d), message='all "well"')

    assert_same(
        write,
        """x = n + 1 - n * 2
        y = x / 3 + x / 4 % 5
        z = (x & 1 | y ^ 2) << 1 >> 1
        w = -z + ~x + 1 - +n
        c = x < y and (x <= y or not x > y)
        d = x == w and x != y or x >= 3
        assert(c and d, message="all \\"well\\"")""",
    )


def test_reflected_operators_keep_their_order():
    def write(b, n, A):
        x = 7 - n
        y = 7 // (1 + n)
        z = 100 >> (3 % y)
        b.print(x + z)

    assert_same(write, "x = 7 - n; y = 7 / (1 + n); z = 100 >> 3 % y; print(x + z)")


def test_control_flow():
    def write(b, n, A):
        i = b.var(value=0)
        with b.while_(i < n):
            i += 1
            with b.if_(i % 3 == 0):
                b.continue_()
            with b.elif_(i % 5 == 0):
                b.break_()
            with b.elif_(i == 7):
                i.assign(i + 2)
            with b.else_():
                b.print(i, label="i")
            b.synchronize()
        for j in b.range(2, n, 2, unroll=4):
            with b.if_(j == n):
                b.exit()
            with b.else_():
                b.print(j)
        with b.group("producer", warps=1):
            b.synchronize()

    assert_same(
        write,
        """var i = 0
        while i < n {
          i := i + 1
          if i % 3 == 0 { continue }
          else if i % 5 == 0 { break }
          else if i == 7 { i := i + 2 }
          else { print(i, label="i") }
          synchronize()
        }
        for j in range(2, n, 2) unroll 4 {
          if j == n { exit() } else { print(j) }
        }
        group producer(warps=1) { synchronize() }""",
    )


def test_python_chooses_and_repeats_while_the_program_is_written():
    def write(b, n, A):
        total = n
        for i in range(3):
            if i != 1:
                total = total + i
        b.print(total)

    assert_same(write, "total = n + 0; total_1 = total + 2; print(total_1)")


def test_tiles():
    def write(b, n, A):
        whole = b.load(A[n : +16, :])
        row = b.load(A[n, 0:64])
        start = b.load(A[: +8, b.tile(16, 32)])
        element = b.load_scalar(A[n, 3])
        b.print(element)
        b.store(A[n : +16], whole)
        b.print(row)
        b.print(start)

    assert_same(
        write,
        """whole = load(A[n +: 16, :])
        row = load(A[n, 0 +: 64])
        start = load(A[0 +: 8, 16 +: 32])
        element = load_scalar(A[n, 3])
        print(element)
        store(A[n +: 16], whole)
        print(row)
        print(start)""",
    )


def test_what_is_used_twice_is_computed_once_and_where_python_did():
    def twice(x):
        return x * x  # no variable of the author's: it gets a name of its own

    def write(b, n, A):
        def sum_of(x):
            return twice(x) + 1

        b.print(sum_of(n) % sum_of(n + 1))
        values = [b.load(A[i : +1, :]) for i in (0, 1)]
        b.store(A[2 : +1, :] if False else A[b.tile(2, 1), :], values[1])
        b.store(A[b.tile(3, 1), :], values[0])
        pair = (twice(n + 2), None)[0]
        b.print(pair)
        b.print(pair)

    with pytest.raises(VmError, match="written with its extent"):
        program(write)

    def write(b, n, A):
        def sum_of(x):
            return twice(x) + 1

        b.print(sum_of(n) % sum_of(n + 1))
        values = [b.load(A[b.tile(i, 1), :]) for i in (0, 1)]
        b.store(A[b.tile(2, 1), :], values[1])
        b.store(A[b.tile(3, 1), :], values[0])
        pair = (twice(n + 2), None)[0]
        b.print(pair)
        b.print(pair)

    assert_same(
        write,
        """t0 = n * n + 1
        t1 = n + 1
        print(t0 % (t1 * t1 + 1))
        t2 = load(A[0 +: 1, :])
        store(A[2 +: 1, :], load(A[1 +: 1, :]))
        store(A[3 +: 1, :], t2)
        t3 = n + 2
        t4 = t3 * t3
        print(t4)
        print(t4)""",
    )


def test_a_long_chain_is_cut_into_bindings():
    def write(b, n, A):
        b.print(sum([n] * 600))

    built = program(write)
    assert parse(str(built)) == built
    kernel = built["f"].instantiate()
    assert kernel.text.count("add(") + kernel.text.count(" + ") == 600


def test_effects_stay_where_python_had_them():
    def write(b, n, A):
        before = [b.atomic(A[i, 0], 1.0) for i in range(2)]
        b.atomic(A[2, 0], 2.0)
        b.print(before[1])

    assert_same(
        write,
        "atomic(A[0, 0], 1.0); t0 = atomic(A[1, 0], 1.0); atomic(A[2, 0], 2.0); print(t0)",
    )


def test_names_that_mean_something_are_avoided():
    def write(b, n, A):
        view = n + 1
        f16 = view + 1
        spatial = f16 + 1
        M = spatial + 1
        with b.if_(M == 3):
            x = M + 1
            b.print(x)
        x = M + 2
        b.print(x)

    assert_same(
        write,
        """view_1 = n + 1; f16_1 = view_1 + 1; spatial_1 = f16_1 + 1; M_1 = spatial_1 + 1
        if M_1 == 3 { x = M_1 + 1; print(x) }
        x = M_1 + 2; print(x)""",
    )


def test_layouts_and_dtypes_of_python_may_be_used():
    from vm.isa.dtypes import dtype

    def write(b, n, A):
        x = b.load(A[b.tile(0, 4), 0:8], layout=spatial(4, 8))
        y = b.cast(x, dtype("f16"))
        z = b.relayout(y, layout=b.spatial(4, 8).local(1, 1))
        b.print(z)

    assert_same(
        write,
        """x = load(A[0 +: 4, 0 +: 8], layout=spatial(4, 8))
        y = cast(x, f16)
        z = relayout(y, layout=spatial(4, 8).local(1, 1))
        print(z)""",
    )


def test_hints_and_instructions_of_a_target():
    b = Builder()

    @b.program(grid=1, threads=32, where=[b.aligned("A", 16), b.resident(2)])
    def f(A: b.global_(b.f16)[16, 16]):
        lane = b.thread_index()
        b.print(b.nv.shuffle_xor(lane, 16))

    module = parse(
        "vm 1\nprogram f(A: global(f16)[16, 16]) grid (1) threads 32 where aligned(A, 16), "
        "resident(2) { lane = thread_index(); print(nv.shuffle_xor(lane, 16)) }"
    )
    assert b.module() == module
    assert b.module()["f"].instantiate() == module["f"].instantiate()
    assert "shuffle_xor" in dir(b.nv)
    with pytest.raises(VmError) as caught:
        b.nv.shuffle_xr(1)
    assert caught.value.code == "E0201"


def test_a_docstring_becomes_the_comment():
    b = Builder()

    @b.program(grid=1, threads=32)
    def f():
        """Does nothing.

        At all.
        """

    assert "# Does nothing.\n#\n# At all.\nprogram f()" in str(b.module())


def here(marker: str) -> int:
    """The line of this file that ends in `# marker`."""
    lines = linecache.getlines(__file__)
    (found,) = [i for i, line in enumerate(lines, 1) if line.rstrip().endswith(f"# {marker}")]
    return found


def fault(write, instantiate: bool = True) -> VmError:
    with pytest.raises(VmError) as caught:
        built = program(write)
        if instantiate:
            built["f"].instantiate()
    return caught.value


def underlined(error: VmError) -> str:
    """The Python that the carets of an error stand under."""
    origin = error.origin
    assert origin.file == __file__
    assert origin.line == origin.end_line
    return linecache.getline(__file__, origin.line)[origin.column - 1 : origin.end_column - 1]


def assert_underlined(error: VmError, text: str) -> None:
    """Before Python 3.11 code has lines only, so that the whole line is shown."""
    if sys.version_info >= (3, 11):
        assert underlined(error) == text
    else:
        assert text in underlined(error)


def test_a_fault_of_an_instruction_is_shown_in_python():
    def write(b, n, A):
        x = b.load(A[b.tile(0, 4), :])
        y = b.cast(x, b.f16) + x  # cast of one side
        b.print(y)

    error = fault(write)
    assert error.code == "E0205"
    assert error.origin.line == here("cast of one side")
    assert "y = b.cast(x, b.f16) + x" in str(error)
    assert_underlined(error, "b.cast(x, b.f16) + x")


def test_columns_count_characters_not_bytes():
    def write(b, n, A):
        b.print(n, label="größe"), b.synchronise()  # ä

    error = fault(write)
    assert (error.code, error.origin.line) == ("E0201", here("ä"))
    assert_underlined(error, "b.synchronise")


def test_a_value_has_no_truth_in_python():
    def write(b, n, A):
        if n > 3:  # decided
            b.print(n)

    error = fault(write)
    assert (error.code, error.origin.line) == ("E0303", here("decided"))
    assert "b.if_" in error.diagnostics[0].fix


def test_a_value_is_unknown_outside_its_block():
    def write(b, n, A):
        with b.if_(n > 3):
            x = n + 1  # made
        b.print(x)  # too late

    error = fault(write)
    assert (error.code, error.origin.line) == ("E0201", here("too late"))
    assert error.diagnostics[0].labels[1].origin.line == here("made")
    assert_underlined(error, "b.print(x)")


def test_an_end_is_no_extent():
    def write(b, n, A):
        b.print(b.load(A[n : n + 16]))

    error = fault(write)
    assert error.code == "E0209"
    assert_underlined(error, "A[n : n + 16]")


@pytest.mark.parametrize(
    ("code", "write", "shown"),
    [
        ("E0201", lambda b, n, A: b.laod(A), "b.laod"),
        ("E0201", lambda b, n, A: n.shap, "n.shap"),
        ("E0203", lambda b, n, A: n(3), "n(3)"),
        ("E0209", lambda b, n, A: b.print(n, label=object()), "b.print(n, label=object())"),
        ("E0209", lambda b, n, A: b.print(int), "b.print(int)"),
        ("E0209", lambda b, n, A: b.print(n * np.ones(3)), "n * np.ones(3)"),
        ("E0209", lambda b, n, A: [*n], "[*n]"),
        ("E0102", lambda b, n, A: b.else_(), "b.else_()"),
        ("E0102", lambda b, n, A: b.elif_(n > 1), "b.elif_(n > 1)"),
        ("E0102", lambda b, n, A: b.range(), "b.range()"),
        ("E0102", lambda b, n, A: b.const(3, name="x"), 'b.const(3, name="x")'),
        ("E0208", lambda b, n, A: b.break_(), "b.break_()"),
        ("E0208", lambda b, n, A: Builder().print(n), "Builder().print(n)"),
        ("E0201", lambda b, n, A: b.print(Builder().f16), "b.print(Builder().f16)"),
    ],
)
def test_mistakes(code, write, shown):
    error = fault(write)
    assert error.code == code
    assert_underlined(error, shown)


def test_instructions_outside_a_program():
    b = Builder()
    with pytest.raises(VmError) as caught:
        b.synchronize()
    assert caught.value.code == "E0208"
    with pytest.raises(VmError) as caught:
        b.const(3)
    assert caught.value.code == "E0209"
    with pytest.raises(VmError) as caught:
        b.const(3, name="for")
    assert caught.value.code == "E0104"


def test_a_program_has_no_open_end_of_parameters():
    b = Builder()
    with pytest.raises(VmError) as caught:

        @b.program(grid=(1,), threads=32)
        def f(*A: b.global_(b.f32)[4]):
            b.synchronize()

    assert caught.value.code == "E0209"


def test_python_break_is_noticed():
    def write(b, n, A):
        for i in b.range(n):  # left open
            b.print(i)
            break

    error = fault(write)
    assert (error.code, error.origin.line) == ("E0102", here("left open"))


def test_a_result_that_is_thrown_away():
    def write(b, n, A):
        n + 1  # nothing comes of it

    assert fault(write, instantiate=False).code == "E0106"

    def write(b, n, A):
        b.load(A[b.tile(0, 4), :])  # unused

    error = fault(write)
    assert (error.code, error.origin.line) == ("E0106", here("unused"))


def test_values_are_told_apart_by_identity():
    def write(b, n, A):
        assert len({n, A, n}) == 2
        assert n in [A, n][1:]

    fault_free = Builder()
    n, k = fault_free.sizes("n k")
    assert len({n, k, n}) == 2
    assert {n: 1}[n] == 1


def test_every_instruction_is_offered_with_its_meaning():
    b = Builder()
    offered = dir(b)
    for opcode, kind in INSTRUCTIONS.items():
        if issubclass(kind, Control) or not opcode.isidentifier():
            continue
        word = opcode if opcode in offered else f"{opcode}_"
        method = getattr(b, word)
        assert word in offered
        assert kind.__doc__.strip().split("\n")[0] in method.__doc__
        fields = list(kind.fields)
        assert sorted(method.__signature__.parameters) == sorted(fields)


def test_no_method_of_the_builder_hides_an_instruction_or_layout():
    own = {name for name in vars(Builder) if not name.startswith("_")}
    opcodes = {o for o, kind in INSTRUCTIONS.items() if not issubclass(kind, Control)}
    assert not own & (opcodes | set(NAMES) | set(FUNCTIONS))


def test_the_same_tree_from_both_has_places_of_its_own():
    built = build_matmul()
    (definition,) = [i for i in built.text.items if i.name == "matmul"]
    for node in syntax.walk(definition):
        origin = getattr(node, "origin", None)
        if origin is not None:
            assert origin.file == __file__
            assert origin.line > 0


def test_memory_of_a_launch_has_extents_that_follow_from_sizes():
    b = Builder()
    BM = b.const(64)
    M, N = b.sizes("M N")

    @b.program(grid=(b.ceil_div(M, BM), 2), threads=32)
    def p(A: b.global_(b.f32)[M, N], n: b.i32):
        tiles = b.ceil_div(M, BM)
        i, k = b.block_index()
        w = b.global_alloc(b.f32, [tiles, n + 1, 32])
        turn = b.semaphore_alloc([tiles, 2])
        b.semaphore_wait(turn[i, 1], k)
        b.store(w[i, k, :], b.load(A[i, 0 : +32]))
        b.semaphore_release(turn[i, 1], 1 - k)

    text = """vm 1
const BM = 64
program p(A: global(f32)[M, N], n: i32) grid (ceil_div(M, BM), 2) threads 32 {
  tiles = ceil_div(M, BM)
  i, k = block_index()
  w = global_alloc(f32, [tiles, n + 1, 32])
  turn = semaphore_alloc([tiles, 2])
  semaphore_wait(turn[i, 1], k)
  store(w[i, k, :], load(A[i, 0 +: 32]))
  semaphore_release(turn[i, 1], 1 - k)
}
"""
    assert b.module() == parse(text)
    # In the kernel they are what the names stand for.
    assert "global_alloc(f32, [ceil_div(M, 64), n + 1, 32])" in str(b.module()["p"].instantiate())
