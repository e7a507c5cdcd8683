"""What the reference machine computes, and what it traps: memory, control, arguments."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.reference_programs import EFFECTS, SCHEDULES, execute, fault, outputs
from vm.errors import VmError
from vm.isa.dtypes import dtype
from vm.isa.packing import packed_size
from vm.isa.program import load, parse
from vm.isa.tensor import Tensor
from vm.runtime.reference import run

PROGRAMS = Path(__file__).parents[2] / "programs"


# --- whole programs ---
def w4a16(m: int, n: int, k: int) -> tuple[dict[str, Any], np.ndarray]:
    """Arguments of the W4A16 matmul, and its result computed in float64 by NumPy alone."""
    random = np.random.default_rng(m + n + k)
    a = random.standard_normal((m, k)).astype(np.float16)
    codes = random.integers(0, 16, (k, n), np.uint8)
    scale = (0.01 * random.standard_normal((k // 128, n))).astype(np.float16)
    zero = random.integers(0, 16, (k // 128, n), np.uint8)
    # f16 holds code - zero exactly; its product with the scale is rounded to f16 once.
    whole = codes.astype(np.float16) - np.repeat(zero, 128, 0).astype(np.float16)
    weight = whole * np.repeat(scale, 128, 0)
    packed = {"B": Tensor.from_codes("u4", codes)}
    rest = {"A": a, "S": scale, "Z": Tensor.from_codes("u4", zero)}
    return {**packed, **rest}, a.astype(np.float64) @ weight.astype(np.float64)


def run_w4a16(arguments: dict[str, Any], **options: Any) -> np.ndarray:
    module = load(PROGRAMS / "matmul_w4a16.vm")
    pack = module["pack_weight"].instantiate()
    packed = run(pack, {"B": arguments["B"], "P": None}, **options).outputs["P"]
    rest = {name: arguments[name] for name in "ASZ"}
    kernel = module["matmul"].instantiate()
    return run(kernel, {**rest, "P": packed, "C": None}, **options).outputs["C"].values()


@pytest.mark.parametrize("shape", [(64, 128, 128), (1, 256, 128), (77, 128, 384), (130, 256, 256)])
def test_the_matmul_is_that_of_numpy(shape: tuple[int, int, int]) -> None:
    arguments, expected = w4a16(*shape)
    result = run_w4a16(arguments)
    # The machine sums each tile in f64 and rounds to f32: one rounding for each of K / 64 tiles,
    # of partial sums no larger than the sum of absolute values; at last one rounding to f16.
    a, k = np.abs(arguments["A"].astype(np.float64)), shape[2]
    weight = 16 * np.repeat(np.abs(arguments["S"].astype(np.float64)), 128, 0)
    bound = (k // 64 + 1) * 2.0**-24 * (a @ weight)
    step = np.spacing((np.abs(expected) + bound).astype(np.float16)).astype(np.float64)
    bound = bound + step / 2
    assert result.dtype == np.float16
    assert (np.abs(result.astype(np.float64) - expected) <= bound).all()


def test_no_order_changes_a_right_program() -> None:
    arguments, _ = w4a16(70, 128, 256)
    first = run_w4a16(arguments)
    for schedule in SCHEDULES:
        for effects in EFFECTS:
            again = run_w4a16(arguments, schedule=schedule, effects=effects)
            assert np.array_equal(first, again)
    assert np.array_equal(first, run_w4a16(arguments, checks=False))


def test_512_cubed_with_checks_takes_less_than_two_seconds() -> None:
    arguments, _ = w4a16(512, 512, 512)
    started = time.process_time()
    run_w4a16(arguments)
    assert time.process_time() - started < 2.0


def test_a_report_says_what_a_run_took() -> None:
    text = """vm 1
program p(C: out(global(i32))[6]) grid (2, 3) threads 32 {
  x, y = block_index()
  store(C[y * 2 + x], 10 * y + x)
}"""
    report = execute(text, {"C": None})
    assert report.outputs["C"].values().tolist() == [0, 1, 10, 11, 20, 21]
    assert report.blocks == 6
    # block_index, mul, add, mul, add, store
    assert report.instructions == 6 * 6
    assert report.seconds > 0


def test_only_what_is_written_is_an_output() -> None:
    text = """vm 1
program p(A: global(f32)[4], B: constant(global(f32))[4], C: inout(global(f32))[4],
          D: out(global(f32))[4]) grid (1) threads 32 {
  store(C, load(A) + load(B))
  store(D, load(B))
}"""
    ones = np.ones(4, np.float32)
    report = execute(text, {"A": ones, "B": ones, "C": ones.copy(), "D": None})
    assert list(report.outputs) == ["C", "D"]


# --- tiles clip ---
CLIP = """vm 1
program p(A: global(f32)[M, N], C: inout(global(f32))[M, N], at: i32, to: i32) grid (1) threads 32 {
  x = load(A[at +: 8, 0 +: 16])
  store(C[to +: 8, 3 +: 16], x)
}"""


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 12), st.integers(0, 20), st.integers(-20, 20), st.integers(-20, 20))
def test_outside_a_global_tensor_reads_0_and_is_not_written(
    m: int, n: int, at: int, to: int
) -> None:
    source = np.arange(1, m * n + 1, dtype=np.float32).reshape(m, n)
    result = np.full((m, n), -1, np.float32)
    execute(CLIP, {"A": source, "C": result, "at": at, "to": to})
    expected = np.full((m, n), -1, np.float32)
    for i in range(8):
        for j in range(16):
            if 0 <= to + i < m and j + 3 < n:
                inside = 0 <= at + i < m and j < n
                expected[to + i, j + 3] = source[at + i, j] if inside else 0
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("x = load(<[A[7 +: 2]]>, inside=true)", "E0501"),
        ("x = load(<[A[i - 3 +: 2]]>, inside=true)", "E0501"),
        ("store(<[C[7 +: 2]]>, 1.0, inside=true)", "E0501"),
        ("x = load_scalar(<[A[8]]>)", "E0501"),
        ("x = load_scalar(<[A[i - 3]]>)", "E0501"),
        ("x = load(<[s[i +: 7]]>)", "E0501"),
        ("copy_async(s, <[A[1 +: 8]]>, inside=true)", "E0501"),
        ("copy_async(<[s[i +: 7]]>, A[0 +: 7])", "E0501"),
        ("x = gather(A[0 +: 4], <[iota(i32, [5])]>)", "E0508"),
        ("x = gather(A[0 +: 4], <[iota(i32, [4]) - 1]>)", "E0508"),
        ("scatter(C[0 +: 4], <[iota(i32, [5])]>, fill(1.0, f32, [5]))", "E0508"),
        ("x = <[global_view(A, f32, 9)]>", "E0506"),
        ("x = <[global_view(A, f32, 8, offset=1)]>", "E0506"),
        ("x = <[global_view(A, f16, 16, offset=i - 3)]>", "E0506"),
        ("x = <[global_view(A, f32, 2, 2, strides=[7, 2])]>", "E0506"),
        ("y = i / <[(i - 2)]>", "E0502"),
        ("y = iota(i32, [4]) % <[(iota(i32, [4]) - 3)]>", "E0502"),
        ("for k in range(0, 8, <[i - 2]>) { y = k }", "E0503"),
        ("y = i << <[(i - 3)]>", "E0504"),
        ("assert(<[i > 2]>)", "E0505"),
        ('assert(<[iota(i32, [8]) < 5]>, message="too large")', "E0505"),
    ],
)
def test_traps(statement: str, code: str) -> None:
    """Each where it is, with the program and the block; `i` is 2."""
    # Tests rule Embed/results: there is a fault, and no result.
    text = f"""vm 1
program p(A: global(f32)[N], C: inout(global(f32))[N], i: i32) grid (1) threads 32 {{
  s = shared_alloc(f32, [8])
  {statement}
}}"""
    arguments = {"A": np.ones(8, np.float32), "C": np.ones(8, np.float32), "i": 2}
    error = fault(text, arguments)
    assert error.code == code
    assert "in `p`, block 0" in str(error)


def test_a_failed_assertion_says_where() -> None:
    text = """vm 1
program p() grid (3) threads 32 {
  assert(<[iota(i32, [2, 8], axis=1) < 5]>, message="too large")
}"""
    assert "too large at (0, 5)" in str(fault(text, {}))


# --- undefined memory ---
@pytest.mark.parametrize(
    "lines",
    [
        "x = load(<[s]>)",
        "store(s[0 +: 7], 1.0)\n synchronize()\n x = load(<[s]>)",
        "x = load_scalar(<[s[3]]>)",
        "x = load(<[C[0 +: 8]]>)",
        "store(C[0 +: 7], 1.0)\n synchronize()\n x = load(<[C[0 +: 9]]>)",
        "copy_async(s, <[C[0 +: 8]]>)",
        "x = gather(<[C[0 +: 8]]>, iota(i32, [2]))",
        "x = atomic(<[s]>, 1.0)",
        'scatter(<[s]>, iota(i32, [2]), fill(1.0, f32, [2]), op="add")',
    ],
)
def test_undefined_memory_is_not_read(lines: str) -> None:
    text = f"""vm 1
program p(C: out(global(f32))[8]) grid (1) threads 32 {{
  s = shared_alloc(f32, [8])
  {lines}
}}"""
    assert fault(text, {"C": None}).code == "E0507"


def test_what_is_written_or_outside_is_read() -> None:
    text = """vm 1
program p(C: out(global(f32))[8]) grid (1) threads 32 {
  store(C[4 +: 8], 1.0)
  synchronize()
  x = load(C[4 +: 8])
  store(C[0 +: 4], reshape(reduce(x, axis=0), [1]) + fill(0.0, f32, [4]))
}"""
    assert outputs(text, {"C": None})["C"].tolist() == [4.0] * 4 + [1.0] * 4


def test_one_nibble_is_written_and_the_other_is_not() -> None:
    text = """vm 1
program p(C: out(global(u4))[3]) grid (1) threads 32 {
  store(C[0 +: 1], 5)
  synchronize()
  x = load(C[0 +: 1])
  y = load(<[C[1 +: 1]]>)
}"""
    assert fault(text, {"C": None}).code == "E0507"


# --- every type, at odd shapes ---
DTYPES = ["u1", "u2", "u3", "i3", "u4", "i5", "u7", "u8", "i8", "u12", "i16", "u31", "i64", "bool",
          "f3e1m1", "f4e2m1", "f6e3m2", "f8e4m3", "f8e5m2", "f8e8m0", "f16", "bf16", "tf32", "f32",
          "f64", "nf4"]  # fmt: skip
COPY = """vm 1
program p(A: global(DT)[M, N], C: out(global(DT))[M, N], D: inout(global(DT))[M, N],
          row: i32, column: i32) grid (1) threads 32 {
  s = shared_alloc(DT, [3, 5])
  store(s, load(A[row +: 3, column +: 5]))
  synchronize()
  store(D[row +: 3, column +: 5], load(s))
  store(s, load(A[0 +: 3, 0 +: 5]))
  store(C[0 +: ROWS, 0 +: COLUMNS], load(A[0 +: ROWS, 0 +: COLUMNS]))
}"""


def random_codes(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Codes that a load and a store bring back: all but those with several codes for one value."""
    kind = dtype(name)
    random = np.random.default_rng(seed)
    limit = 2 if name == "bool" else 1 << kind.bits
    codes = random.integers(0, limit - 1, shape, np.uint64, endpoint=True).astype(kind.storage)
    if name == "tf32":
        codes &= kind.storage.type(0xFFFFE000)
    values = kind.decode(codes)
    return np.where(np.isnan(values), kind.storage.type(0), codes) if kind.is_float else codes


@pytest.mark.parametrize("name", DTYPES)
@settings(deadline=None, max_examples=12)
@given(st.integers(1, 6), st.integers(1, 19), st.integers(-2, 4), st.integers(-4, 16))
def test_tiles_of_every_type(name: str, m: int, n: int, row: int, column: int) -> None:
    a, d = (Tensor.from_codes(name, random_codes(name, (m, n), seed)) for seed in (1, 2))
    before, expected = d.codes(), d.codes().copy()
    for i in range(max(0, row), min(m, row + 3)):
        for j in range(max(0, column), min(n, column + 5)):
            expected[i, j] = a.codes()[i, j]
    text = COPY.replace("DT", name).replace("ROWS", str(m)).replace("COLUMNS", str(n))
    text = text.replace("  store(s, load(A[0 +: 3, 0 +: 5]))\n", "")
    report = execute(text, {"A": a, "C": None, "D": d, "row": row, "column": column})
    assert np.array_equal(report.outputs["C"].codes(), a.codes())
    assert np.array_equal(d.codes(), expected)
    changed = before != expected
    assert report.outputs["D"].storage is d.storage
    assert np.array_equal(d.codes()[~changed], before[~changed])


@pytest.mark.parametrize("name", ["u3", "u4", "i5", "f16", "u12", "bf16"])
@pytest.mark.parametrize("axis", [0, 1])
def test_gather_and_scatter_of_every_size(name: str, axis: int) -> None:
    codes = random_codes(name, (5, 7), 3)
    indices = np.array([3, 0, 4, 2], np.int32)
    text = f"""vm 1
program p(A: global({name})[5, 7], I: global(i32)[4], C: inout(global({name}))[5, 7])
  grid (1) threads 32 {{
  i = load(I[0 +: 4])
  x = gather(A[0 +: 5, 0 +: 7], i, axis={axis})
  scatter(C[0 +: 5, 0 +: 7], i, x, axis={axis})
}}"""
    target = Tensor.from_codes(name, random_codes(name, (5, 7), 4))
    expected = target.codes().copy()
    for index in indices:
        part = (index,) if axis == 0 else (slice(None), index)
        expected[part] = codes[part]
    execute(text, {"A": Tensor.from_codes(name, codes), "I": indices, "C": target})
    assert np.array_equal(target.codes(), expected)


def test_gather_past_the_end_of_a_tensor_reads_0() -> None:
    """Inside the tile, outside the tensor: as any tile."""
    text = """vm 1
program p(A: global(f32)[5], C: inout(global(f32))[8]) grid (1) threads 32 {
  i = iota(i32, [8])
  x = gather(A[2 +: 8], i)
  scatter(C[4 +: 8], i, x + 1.0)
}"""
    result = np.full(8, -1, np.float32)
    execute(text, {"A": np.arange(10, 15, dtype=np.float32), "C": result})
    assert result.tolist() == [-1, -1, -1, -1, 13, 14, 15, 1]


@pytest.mark.parametrize("op", ["add", "max", "min", "exchange", "and", "or", "xor"])
def test_atomic_accesses(op: str) -> None:
    text = f"""vm 1
program p(A: inout(global(i32))[4], V: global(i32)[6], C: out(global(i32))[6])
  grid (1) threads 32 {{
  store(C[0 +: 6], atomic(A[1 +: 6], load(V[0 +: 6]), op="{op}"))
}}"""
    memory = np.array([5, -7, 12, 2**31 - 1], np.int32)
    values = np.array([3, 10, 1, 9, 9, 9], np.int32)
    combined = {
        "add": [-4, 22, -(2**31)], "max": [3, 12, 2**31 - 1], "min": [-7, 10, 1],
        "exchange": [3, 10, 1], "and": [-7 & 3, 8, 1], "or": [-7 | 3, 14, 2**31 - 1],
        "xor": [-7 ^ 3, 6, 2**31 - 2],
    }  # fmt: skip
    before = execute(text, {"A": memory, "V": values, "C": None}).outputs["C"].values()
    assert before.tolist() == [-7, 12, 2**31 - 1, 0, 0, 0]
    assert memory.tolist() == [5, *combined[op]]


@pytest.mark.parametrize(("op", "expected"), [("add", 2.0**8), ("max", 2.0), ("min", 1.0)])
def test_scattered_sums_are_rounded_one_by_one(op: str, expected: float) -> None:
    """256 + 1 in bf16 is 256 again, however often: each addition is rounded."""
    text = f"""vm 1
program p(A: inout(global(bf16))[3]) grid (1) threads 32 {{
  scatter(A[0 +: 3], fill(1, i32, [8]), fill(VALUE, bf16, [8]), op="{op}")
}}"""
    start = {"add": 2.0**8, "max": 2.0, "min": 2.0}[op]
    memory = np.full(3, start, ml_dtypes.bfloat16)
    execute(text.replace("VALUE", "1.0"), {"A": memory})
    assert memory.astype(np.float32).tolist() == [start, expected, start]


def test_strides_are_those_of_the_array() -> None:
    text = """vm 1
program p(A: global(f32, strides=[S, T])[M, N], C: out(global(f32))[M, N]) grid (1) threads 32 {
  store(C[0 +: 4, 0 +: 3], load(A[0 +: 4, 0 +: 3]))
}"""
    whole = np.arange(60, dtype=np.float32).reshape(6, 10)
    for array in (whole[1:5, 2:5], whole[:4, :9:3], whole.T[:4, :3]):
        assert np.array_equal(outputs(text, {"A": array, "C": None})["C"], array)


def test_strides_that_the_array_does_not_have() -> None:
    text = """vm 1
program p(<[A: global(f32, strides=[16, 1])[M, 8]]>) grid (1) threads 32 {
}"""
    whole = np.zeros((4, 16), np.float32)
    assert fault(text, {"A": np.ascontiguousarray(whole[:, :8])}).code == "E0509"
    right = text.replace("<[", "").replace("]>", "")
    execute(right, {"A": whole[:, :8]})
    # With one row there is nothing for the stride to be of.
    execute(right, {"A": np.zeros((1, 8), np.float32)})


def test_views_of_memory_as_other_types() -> None:
    text = """vm 1
program p(A: global(u8)[8], C: inout(global(u8))[12]) grid (1) threads 32 {
  words = global_view(A, u16, 3, offset=1)
  nibbles = global_view(C, u4, 2, 3, offset=1)
  store(nibbles[0 +: 2, 0 +: 3], reshape(cast(load(words[0 +: 3]), u4), [1, 3]))
}"""
    source = np.arange(8, dtype=np.uint8)
    target = np.full(12, 0xEE, np.uint8)
    with pytest.raises(VmError):
        execute(text, {"A": source, "C": target})  # a row for two: shapes differ
    text = text.replace("[0 +: 2, 0 +: 3]", "[1, 0 +: 3]").replace(
        "reshape(cast(load(words[0 +: 3]), u4), [1, 3])", "cast(load(words[0 +: 3]), u4)"
    )
    execute(text, {"A": source, "C": target})
    # The row begins 2 bytes behind the view, which begins at the second nibble: 20 bits in.
    # 0x0302, 0x0504 and 0x0706 saturate to 15.
    nibbles = np.full(24, 0xE)
    nibbles[5:8] = 15
    assert target.tolist() == (nibbles[::2] | nibbles[1::2] << 4).tolist()


# --- control ---
def test_break_continue_exit_and_variables() -> None:
    text = """vm 1
program p(C: inout(global(i32))[64], n: i32) grid (4) threads 32 {
  b = block_index()
  if b == 3 {
    exit()
  }
  var total: i32 = 0
  var i: i32 = 0
  while true {
    i := i + 1
    if i > n { break }
    if i % 2 == 0 { continue }
    for k in range(0, 10, 3) {
      if k == 9 { break }
      total := total + i * k
    }
  }
  store(C[b], total)
  for k in range(10, 0, -4) {
    if b == 2 { exit() }
    store(C[4 + b * 16 + k], k)
  }
}"""
    result = np.zeros(64, np.int32)
    execute(text, {"C": result, "n": 6})
    expected = np.zeros(64, np.int32)
    expected[:3] = sum(i * (0 + 3 + 6) for i in (1, 3, 5))
    for block in (0, 1):
        for k in (10, 6, 2):
            expected[4 + block * 16 + k] = k
    assert np.array_equal(result, expected)


def test_an_exit_in_a_group_ends_only_the_group() -> None:
    text = """vm 1
program p(C: inout(global(i32))[4]) grid (1) threads 64 {
  group one(warps=1) {
    for i in range(3) {
      if i == 1 { exit() }
      store(C[i], 1)
    }
  }
  group two(warps=1) {
    store(C[2], 2)
  }
  store(C[3], 3)
}"""
    result = np.zeros(4, np.int32)
    execute(text, {"C": result})
    assert result.tolist() == [1, 0, 2, 3]


def test_print() -> None:
    text = """vm 1
program p() grid (2) threads 32 {
  print(block_index() + 1, label="next")
}"""
    lines: list[str] = []
    execute(text, {}, output=lines.append, schedule="reverse")
    assert [line.split(": ", 1)[1] for line in lines] == ["next: 2", "next: 1"]


def test_constants_are_rounded_to_their_dtype() -> None:
    text = """vm 1
program p(C: out(global(DT))[1]) grid (1) threads 32 {
  x = fill(1.0, DT, [1])
  store(C[0 +: 1], x + 0.1)
  y = x * 0.1
  assert(y == cast(0.1, DT) * x)
}"""
    half = outputs(text.replace("DT", "f16"), {"C": None})["C"]
    assert half[0] == np.float16(1) + np.float16(0.1)
    brain = outputs(text.replace("DT", "bf16"), {"C": None})["C"]
    tenth = ml_dtypes.bfloat16(0.1).astype(np.float32)
    assert brain[0] == ml_dtypes.bfloat16(1 + tenth).astype(np.float32)


# --- arguments ---
HEADER = """vm 1
program p(A: global(f16)[M, K], B: global(u4)[K, N], C: out(global(f32))[M, N / 2], n: i32)
  grid (M) threads 32 where K % 8 == 0, N % 4 == 0, aligned(A, 32) {
}"""


def header_arguments(**changes: Any) -> dict[str, Any]:
    base = {"A": np.zeros((3, 8), np.float16), "B": np.zeros((8, 4), np.uint8), "C": None, "n": 1}
    return {**base, **changes}


def test_sizes_are_bound_and_outputs_made() -> None:
    report = execute(HEADER, header_arguments())
    assert report.outputs["C"].shape == (3, 4)
    assert report.blocks == 3
    mine = np.zeros((3, 4), np.float32)
    report = execute(HEADER, header_arguments(C=mine, N=8))
    assert report.outputs["C"].storage is mine
    # 7 nibbles take as many bytes as 8: what else is known says how many there are.
    text = HEADER.replace("N / 2", "N").replace("N % 4 == 0", "N == 7")
    mine = np.zeros((3, 7), np.float32)
    assert execute(text, header_arguments(C=mine)).outputs["C"].shape == (3, 7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"A": np.zeros((3, 16), np.float16)}, ("K is 8 in `B` and 16 elsewhere", "f16[3, 16]")),
        ({"A": np.zeros((3, 8), np.float32)}, ("f16 is stored as float16",)),
        ({"A": np.zeros(8, np.float16)}, ("not Tensor(f16[8])",)),
        ({"A": np.zeros((8, 3), np.float16).T}, ("contiguous",)),
        ({"A": Tensor("bf16", (3, 8), np.zeros((3, 8), np.uint16))}, ("not Tensor(bf16[3, 8])",)),
        ({"C": np.zeros((3, 3), np.float32)}, ("is [3, 4] here, not [3, 3]",)),
        ({"B": None}, ("is None",)),
        ({"n": 2**31}, ("is i32, not 2147483648",)),
        ({"n": 1.5}, ("is i32, not 1.5",)),
        ({"n": True}, ("is i32, not True",)),
        ({"N": 6}, ("N is 8 in `B` and 6 elsewhere",)),
        ({"X": 6}, ("has no parameter `X`",)),
    ],
)
def test_arguments_that_do_not_fit(changes: dict[str, Any], said: tuple[str, ...]) -> None:
    with pytest.raises(VmError) as caught:
        execute(HEADER, header_arguments(**changes))
    assert caught.value.code == "E0509"
    assert caught.value.origin.line > 1
    assert all(part in str(caught.value) for part in said), caught.value


def test_a_missing_argument() -> None:
    arguments = header_arguments()
    del arguments["A"]
    with pytest.raises(VmError) as caught:
        execute(HEADER, arguments)
    assert caught.value.code == "E0509"
    assert (caught.value.origin.line, caught.value.origin.column) == (2, 11)


def test_a_size_that_nothing_says() -> None:
    text = "vm 1\nprogram p(C: out(global(f32))[<[N]>]) grid (1) threads 32 {\n}"
    assert fault(text, {"C": None}).code == "E0509"
    assert execute(text.replace("<[", "").replace("]>", ""), {"C": None, "N": 5}).outputs[
        "C"
    ].shape == (5,)  # fmt: skip


def test_facts_that_do_not_hold() -> None:
    text = HEADER.replace("K % 8 == 0", "<[K % 8 == 0]>")
    wide = {"A": np.zeros((3, 12), np.float16), "B": np.zeros((12, 4), np.uint8)}
    error = fault(text, header_arguments(**wide))
    assert error.code == "E0306"
    assert "K = 8 or 16 would fit" in str(error)
    text = HEADER.replace("aligned(A, 32)", "<[aligned(A, 32)]>")
    odd = np.zeros(25, np.float16)[1:].reshape(3, 8)
    assert fault(text, header_arguments(A=odd)).code == "E0306"


def test_arguments_do_not_overlap_where_one_is_written() -> None:
    # Tests rules Embed/overlap, Exec/no-alias.
    text = """vm 1
program p(<{A: global(f32)[N]}>, <[C: inout(global(f32))[N]]>) grid (1) threads 32 {
}"""
    memory = np.zeros(16, np.float32)
    assert fault(text, {"A": memory[:8], "C": memory[4:12]}).code == "E0509"
    plain = text.replace("<{", "").replace("}>", "").replace("<[C", "C").replace("]]>", "]")
    execute(plain, {"A": memory[:8], "C": memory[8:]})
    execute(plain.replace("inout(global(f32))[N]", "global(f32)[N]"), {"A": memory, "C": memory})


def test_a_read_only_array_is_not_written() -> None:
    text = "vm 1\nprogram p(<[C: out(global(f32))[N]]>) grid (1) threads 32 {\n}"
    memory = np.zeros(16, np.float32)
    memory.flags.writeable = False
    assert fault(text, {"C": memory}).code == "E0509"


@pytest.mark.parametrize("options", [{"schedule": "backwards"}, {"effects": "random:x"}])
def test_unknown_options(options: dict[str, str]) -> None:
    with pytest.raises(VmError) as caught:
        execute("vm 1\nprogram p() grid (1) threads 32 {\n}", {}, **options)
    assert caught.value.code == "E0803"


def test_parse_of_a_kernel_runs_alike() -> None:
    """A kernel prints as a program that runs the same."""
    kernel = load(PROGRAMS / "transpose.vm")["transpose"].instantiate()
    again = parse(f"vm 1\n{kernel}")["transpose"].instantiate()
    a = np.arange(77 * 70, dtype=np.float32).reshape(77, 70)
    for each in (kernel, again):
        assert np.array_equal(run(each, {"A": a, "B": None}).outputs["B"].values(), a.T)


def test_packed_rows_begin_at_bytes() -> None:
    assert packed_size(5, dtype("u3")) == 2
    text = """vm 1
program p(A: global(u3)[2, 5], C: out(global(u8))[2, 5]) grid (1) threads 32 {
  store(C[0 +: 2, 0 +: 5], cast(load(A[0 +: 2, 0 +: 5]), u8))
}"""
    rows = np.array([[0b10_001_000, 0b0_100_011_0 >> 1], [0xFF, 0xFF]], np.uint8)
    result = outputs(text, {"A": Tensor("u3", (2, 5), rows), "C": None})["C"]
    # Element k at bits 3 k: 000, 001, 0|10, 011, 100, by hand from the bytes above.
    bits = [int(b) for row in rows[:1] for byte in row for b in f"{byte:08b}"[::-1]]
    expected = [bits[3 * k] + 2 * bits[3 * k + 1] + 4 * bits[3 * k + 2] for k in range(5)]
    assert result.tolist() == [expected, [7] * 5]
