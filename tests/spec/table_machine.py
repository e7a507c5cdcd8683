"""Machine instructions that move and combine: what is wanted is a permutation or a sum, said here.

NVIDIA and AMD GPUs have most of them alike, so their files come from the same programs.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.spec import table_words

# What both families have; `@` stands for the family.
PROGRAMS = """
const MASK = 1
const OP = "any"

program global_words(A: global(u32)[64], C: inout(global(u32))[64], n: i32) grid (1) threads 32 {
  t = cast(thread_index(), i64)
  x = undefined(u32, [32, 2], spatial(32, 1).local(1, 2))
  y = @.load_global(x, A, t * 8, bytes=8)
  @.store_global(C, (31 - t) * 8, y, predicate=thread_index() < n, bytes=8)
}

program too_far(A: global(u32)[64], at: i64, C: out(global(u32))[32]) grid (1) threads 32 {
  x = undefined(u32, [32], spatial(32))
  store(C, @.load_global(x, A, cast(thread_index(), i64) * 4 + at))
}

program shared_words(A: global(u32)[32], C: out(global(u32))[32]) grid (1) threads 32 {
  t = thread_index()
  x = load(A, layout=spatial(32))
  @.store_shared(t * 4, x, plus=16)
  synchronize()
  store(C, @.load_shared(x, (31 - t) * 4, plus=16))
}

program not_ordered(A: global(u32)[32], C: out(global(u32))[32]) grid (1) threads 32 {
  t = thread_index()
  x = load(A, layout=spatial(32))
  @.store_shared(t * 4, x)
  store(C, @.load_shared(x, (31 - t) * 4))
}

program global_bits(A: global(u3)[40], C: inout(global(u3))[40]) grid (1) threads 32 {
  t = cast(thread_index(), i64)
  x = undefined(u3, [32], spatial(32))
  y = @.load_global_bits(x, A, t * 3, predicate=t < 30)
  @.store_global_bits(C, t * 3 + 6, y, predicate=t < 30)
}

program shared_bits(A: global(u4)[32], C: out(global(u4))[32]) grid (1) threads 32 {
  t = thread_index()
  x = load(A, layout=spatial(32))
  @.store_shared_bits(cast(t * 5, i64), x)
  synchronize()
  store(C, @.load_shared_bits(x, cast((31 - t) * 5, i64)))
}

program exchanged(C: out(global(i32))[32]) grid (1) threads 32 {
  store(C, @.shuffle_xor(thread_index(), MASK))
}

program voted(n: i32, C: out(global(bool))[64]) grid (1) threads 64 {
  store(C, @.vote(thread_index() < n, op=OP))
}

program counted(C: inout(global(i32))[2], B: out(global(i32))[32]) grid (1) threads 32 {
  t = thread_index()
  at = cast(t, i64) * 0
  store(B, @.atomic_global(t, C, at, t * 0 + 2, op="add"))
  @.reduce_global(C, at, t, op="max", plus=4)
}

program counted_shared(C: inout(global(i32))[2]) grid (1) threads 32 {
  t = thread_index()
  @.store_shared(t * 4, t * 0)
  synchronize()
  before = @.atomic_shared(t, t * 0, t, op="add")
  @.reduce_shared(t * 0, t, op="max", plus=4)
  synchronize()
  y = @.load_shared(t, t % 2 * 4)
  @.store_global(C, cast(t, i64) * 4, y, predicate=t < 2)
}

program in_turn(C: inout(global(i32))[2], at: i64) grid (3) threads 32 {
  turn = semaphore_alloc([2, 2])
  t = thread_index()
  b = block_index()
  place = cast(t, i64) * 0 + at
  @.wait_for(turn, place, t * 0 + b, predicate=t == 0)
  c = load(C) * 2 + b
  synchronize()
  store(C, c)
  synchronize()
  @.signal(turn, place, t * 0 + (b + 1) % 3, predicate=t == 0)
}

program signals_early(C: inout(global(i32))[2]) grid (2) threads 32 {
  turn = semaphore_alloc([1])
  t = thread_index()
  place = cast(t, i64) * 0
  @.wait_for(turn, place, t * 0 + block_index(), predicate=t == 0)
  c = load(C) + 1
  synchronize()
  store(C, c)
  @.signal(turn, place, t * 0 + 1 - block_index(), predicate=t == 0)
}
"""

AMD_PROGRAMS = """
program fenced(C: out(global(i32))[32]) grid (1) threads 32 {
  t = thread_index()
  amd.fence()
  store(C, t)
}
"""

NVIDIA_PROGRAMS = """
program copied(A: global(u32)[64], n: i32, C: out(global(u32))[32]) grid (1) threads 32 {
  t = thread_index()
  nv.copy_async(t * 4, A, cast(t, i64) * 8, predicate=t < n)
  commit_async()
  wait_async(0)
  synchronize()
  store(C, nv.load_shared(undefined(u32, [32], spatial(32)), t * 4))
}

program dequantized(A: global(u4)[64], C: out(global(f16))[64]) grid (1) threads 32 {
  x = load(A, layout=spatial(32).local(2))
  store(C, nv.dequantize(x, f16, [1, 0], spatial(32).local(2), offset=8))
}

program fields_of(A: global(u4)[64], C: out(global(f16))[64]) grid (1) threads 32 {
  x = load(A, layout=spatial(32).local(2))
  store(C, nv.fields(x, [1, 0], [MASK]))
}

program dequantized_bits(A: global(u1)[256], C: out(global(f16))[64]) grid (1) threads 32 {
  x = load(A, layout=spatial(32).local(8))
  store(C, nv.dequantize(x, f16, [1, 0], spatial(32).local(2), source=f4e2m1,
                         bits=[7, 6, 5, 4, 3, 2, 1, 0]))
}

program fields_of_bits(A: global(u1)[256], C: out(global(f16))[64]) grid (1) threads 32 {
  x = load(A, layout=spatial(32).local(8))
  store(C, nv.fields(x, [1, 0], source=f4e2m1, bits=[7, 6, 5, 4, 3, 2, 1, 0]))
}

program warps_meet(C: out(global(i32))[32]) grid (1) threads 32 {
  t = thread_index()
  nv.sync_warp()
  store(C, t)
}
"""


def listed(values: Iterable[int]) -> str:
    return "[" + ", ".join(str(value).lower() for value in values) + "]"


def tests() -> list[tuple[str, tuple[str, ...], list[str]]]:
    """(name, opcodes, assertions) of what both families have."""
    words = list(range(64))
    turned = [2 * (31 - k // 2) + k % 2 for k in range(64)]
    only_first = [0] * 62 + [0, 1]
    far = "@.load_global(x, A, cast(thread_index(), i64) * 4 + at)"
    three = [k * 5 % 8 for k in range(40)]
    before = [7 - k % 8 for k in range(40)]
    moved = [*before[:2], *three[:30], *before[32:]]
    nibbles = [k * 7 % 16 for k in range(32)]
    exchanges = [
        f"assert_return(exchanged(MASK={mask}), tensor(i32, {listed(k ^ mask for k in range(32))}))"
        for mask in (1, 2, 5, 16, 31)
    ]
    votes = [
        f'assert_return(voted({n}, OP="{op}"), tensor(bool, {listed(holds)}))'
        for op, rule in (("any", any), ("all", all))
        for n in (0, 1, 32, 33, 64)
        for holds in [[rule(w * 32 + lane < n for lane in range(32)) for w in range(2)
                       for _ in range(32)]]
    ]
    return [
        ("words of global memory", ("load_global", "store_global"), [
            f"x = tensor(u32, {listed(words)})",
            "assert_return(global_words(x, zeros(u32, [64]), 0), zeros(u32, [64]))",
            f"assert_return(global_words(x, zeros(u32, [64]), 1), tensor(u32, "
            f"{listed(only_first)}))",
            f"assert_return(global_words(x, x, 32), tensor(u32, {listed(turned)}))",
            f"assert_return(too_far(x, 128), tensor(u32, {listed(words[32:])}))",
            f'assert_trap(too_far(x, 132), "E0501", at="{far}")',
            f'assert_trap(too_far(x, 2), "E0511", at="{far}")',
        ]),
        ("words of shared memory", ("load_shared", "store_shared"), [
            f"x = tensor(u32, {listed(words[:32])})",
            f"assert_return(shared_words(x), tensor(u32, {listed(words[31::-1])}))",
            'assert_race(not_ordered(x), "E0601", at="@.load_shared(x, (31 - t) * 4)", '
            'other="@.store_shared(t * 4, x)")',
        ]),
        ("elements at any bit", ("load_global_bits", "store_global_bits", "load_shared_bits",
                                 "store_shared_bits"), [
            f"assert_return(global_bits(tensor(u3, {listed(three)}), tensor(u3, "
            f"{listed(before)})), tensor(u3, {listed(moved)}))",
            f"assert_return(shared_bits(tensor(u4, {listed(nibbles)})), tensor(u4, "
            f"{listed(nibbles[::-1])}))",
        ]),
        ("lanes exchange what they hold", ("shuffle_xor",), exchanges),
        ("the lanes of a warp vote", ("vote",), votes),
        ("threads combine with one element", ("atomic_global", "reduce_global", "atomic_shared",
                                              "reduce_shared"), [
            f"assert_return(counted(tensor(i32, [5, 7])), tensor(i32, [69, 31]), tensor(i32, "
            f"{listed(5 + 2 * k for k in range(32))}))",
            f"assert_return(counted_shared(zeros(i32, [2])), tensor(i32, [{sum(range(32))}, 31]))",
        ]),
        ("blocks signal each other", ("wait_for", "signal"), [
            "x = tensor(i32, [1, 2])",
            "assert_return(in_turn(x, 0), tensor(i32, [12, 20]))",
            "assert_return(in_turn(x, 12), tensor(i32, [12, 20]))",
            'assert_trap(in_turn(x, 16), "E0501", at="@.wait_for(turn, «place»")',
            'assert_trap(in_turn(x, 2), "E0501", at="@.wait_for(turn, «place»")',
            'assert_race(signals_early(x), "E0602", at="load(«C»)", other="store(«C»")',
        ]),
    ]  # fmt: skip


def nvidia_tests() -> list[tuple[str, tuple[str, ...], list[str]]]:
    """What NVIDIA GPUs have besides."""
    words = list(range(64))
    codes = [k * 11 % 16 for k in range(64)]
    less = [codes[k ^ 1] - 8 for k in range(64)]
    # f4e2m1 by sign, exponent and mantissa, without -0; the bits of two in reverse order.
    small = [code if code != 8 else 9 for code in codes]
    floats = [(-1) ** (code >> 3) * (0, 0.5, 1, 1.5, 2, 3, 4, 6)[code & 7] for code in small]
    bits = [
        (small[k] | small[k + 1] << 4) >> 7 - slot & 1 for k in range(0, 64, 2) for slot in range(8)
    ]
    return [
        ("words copied aside", ("copy_async",), [
            f"x = tensor(u32, {listed(words)})",
            f"assert_return(copied(x, 32), tensor(u32, {listed(words[::2])}))",
            f"assert_return(copied(x, 3), tensor(u32, {listed([0, 2, 4] + [0] * 29)}))",
        ]),
        ("codes become numbers", ("dequantize",), [
            f"assert_return(dequantized(tensor(u4, {listed(codes)})), tensor(f16, {listed(less)}))",
            f"assert_return(dequantized_bits(tensor(u1, {listed(bits)})), tensor(f16, "
            f"{listed(floats[k ^ 1] for k in range(64))}))",
        ]),
        ("fields of halves", ("fields",), [
            f"assert_return(fields_of(tensor(u4, {listed(codes)}), MASK={place}), tensor(f16, "
            f"{listed((codes[k ^ 1] * 2.0 ** (place - 24)).hex() for k in range(64))}))"
            for place in (0, 3, 6)
        ] + [
            f"assert_return(fields_of_bits(tensor(u1, {listed(bits)})), tensor(f16, "
            f"{listed((floats[k ^ 1] * 2.0**-14).hex() for k in range(64))}))"
        ]),
        ("the lanes of a warp meet", ("sync_warp",), [
            f"assert_return(warps_meet(), tensor(i32, {listed(words[:32])}))",
        ]),
    ]  # fmt: skip


def amd_tests() -> list[tuple[str, tuple[str, ...], list[str]]]:
    """What AMD GPUs have besides."""
    return [("a fence changes nothing", ("fence",), [
        f"assert_return(fenced(), tensor(i32, {listed(range(32))}))",
    ])]  # fmt: skip


OWN = {
    "nvidia": (
        NVIDIA_PROGRAMS + table_words.PROGRAMS, lambda: [*nvidia_tests(), *table_words.tests()]
    ),
    "amd": (AMD_PROGRAMS, amd_tests),
}  # fmt: skip


def lines(family: str, prefix: str) -> list[str]:
    """The file of a family of GPUs."""
    programs, own = OWN[family]
    found = (PROGRAMS + programs).replace("@", prefix).rstrip("\n").split("\n")
    for name, opcodes, body in [*tests(), *own()]:
        rules = ", ".join(f'"Exec/{prefix}.{opcode}"' for opcode in opcodes)
        found += ["", f'test "{name}" needs "{family}" rules {rules} {{']
        found += [f"  {line}".replace("@", prefix) for line in body]
        found.append("}")
    return found
