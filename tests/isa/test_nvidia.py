"""Machine instructions of NVIDIA GPUs against the definitions of the PTX manual, lane by lane."""

from __future__ import annotations

import numpy as np
import pytest

from vm.errors import VmError
from vm.isa.dtypes import dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.layouts import FRAGMENTS
from vm.runtime import reference


def run(body: str, parameters: str, values: dict, threads: int = 32) -> dict[str, np.ndarray]:
    text = f"vm 1\nprogram p({parameters}) grid (1) threads {threads}\n{{\n{body}\n}}\n"
    report = reference.run(parse(text)["p"].instantiate(), values)
    return {name: tensor.values() for name, tensor in report.outputs.items()}


# --- ldmatrix ---
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_ldmatrix_gives_each_lane_its_pairs(count, transposed):
    """PTX ISA, ldmatrix: lane l gets elements 2 (l % 4) and the next of row l / 4 of each matrix,
    rows and columns exchanged where transposed."""
    # Tests rule Exec/nv.ldmatrix.
    body = (
        "  s = shared_alloc(f16, [32, 8], address=0)\n"
        "  lane = thread_index()\n"
        "  at = cast(lane * 16, i64)\n"
        "  row = nv.load_global(undefined(f16, [256], spatial(32).local(8)), A, at, bytes=16)\n"
        "  nv.store_shared(lane * 16, row, bytes=16)\n"
        "  synchronize()\n"
        f"  x = undefined(f16, [{64 * count}], spatial(32).local({2 * count}))\n"
        f"  y = nv.ldmatrix(x, lane * 16, count={count}, transposed={str(transposed).lower()})\n"
        "  store(C, y)"
    )
    rows = np.arange(256, dtype=np.float16).reshape(32, 8)
    parameters = f"A: global(f16)[32, 8], C: out(global(f16))[{64 * count}]"
    values = {"A": Tensor.from_values("f16", rows), "C": None}
    got = run(body, parameters, values)["C"].reshape(32, count, 2)
    for lane in range(32):
        for matrix in range(count):
            block = rows[8 * matrix : 8 * matrix + 8]
            block = block.T if transposed else block
            first = 2 * (lane % 4)
            assert got[lane, matrix].tolist() == block[lane // 4, first : first + 2].tolist()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_puts_each_lanes_pairs_into_rows(count, transposed):
    """PTX ISA, stmatrix: elements 2 (l % 4) and the next of row l / 4 of each matrix come from
    lane l, rows and columns exchanged where transposed; lane 8 i + r names row r of matrix i."""
    # Tests rule Exec/nv.stmatrix.
    body = (
        f"  x = load(A, layout=spatial(32, 1).local(1, {2 * count}))\n"
        "  s = shared_alloc(f16, [32, 8], address=0)\n"
        "  lane = thread_index()\n"
        f"  nv.stmatrix(lane * 16, x, count={count}, transposed={str(transposed).lower()})\n"
        "  synchronize()\n"
        f"  y = nv.load_shared(undefined(f16, [{64 * count}], spatial(32).local({2 * count})), "
        f"lane * {4 * count}, bytes={4 * count})\n"
        "  store(C, y)"
    )
    held = np.arange(64 * count, dtype=np.float16).reshape(32, 2 * count)
    parameters = f"A: global(f16)[32, {2 * count}], C: out(global(f16))[{64 * count}]"
    values = {"A": Tensor.from_values("f16", held), "C": None}
    got = run(body, parameters, values)["C"].reshape(count, 8, 8)
    for matrix in range(count):
        block = got[matrix].T if transposed else got[matrix]
        for lane in range(32):
            first = 2 * (lane % 4)
            pair = held[lane, 2 * matrix : 2 * matrix + 2]
            assert block[lane // 4, first : first + 2].tolist() == pair.tolist()


@pytest.mark.parametrize("op", ["any", "all"])
def test_every_lane_knows_what_its_warp_voted(op):
    """PTX ISA, vote: any, all of the predicates of the lanes of a warp."""
    body = f'  store(C, nv.vote(load(A, layout=spatial(96)), op="{op}"))'
    held = np.ones(96, bool) if op == "all" else np.zeros(96, bool)
    held[40] = not held[40]
    held[64:] = [lane % 2 == 0 for lane in range(32)]
    parameters = "A: global(bool)[96], C: out(global(bool))[96]"
    got = run(body, parameters, {"A": Tensor.from_values("bool", held), "C": None}, threads=96)["C"]
    decide = any if op == "any" else all
    for warp in range(3):
        lanes = slice(32 * warp, 32 * warp + 32)
        assert got[lanes].tolist() == [decide(held[lanes].tolist())] * 32


# --- mma ---
MMA = [
    (name, kinds)
    for name, fragment in FRAGMENTS.items()
    if name.startswith("mma_m16n8")
    for kinds in fragment.dtypes
]


@pytest.mark.parametrize(("name", "kinds"), MMA, ids=lambda v: str(v))
def test_mma_is_the_product_of_its_fragments(name, kinds):
    # Tests rule Exec/nv.mma.
    fragment = FRAGMENTS[name]
    a_kind, b_kind, c_kind = kinds[:3]
    random = np.random.default_rng(1)

    def numbers(kind: str, shape: tuple[int, int]) -> Tensor:
        element = dtype(kind)
        low = 0 if element.kind == "unsigned" else -2
        whole = random.integers(low, 3, shape)
        return Tensor.from_values(kind, whole if element.is_integer else whole.astype(float))

    m, n, k = fragment.m, fragment.n, fragment.k
    a, b, c = numbers(a_kind, (m, k)), numbers(b_kind, (k, n)), numbers(c_kind, (m, n))
    words = {
        x: -(-fragment.operands[x].slots * dtype(kind).bits // 32)
        for x, kind in zip("abc", kinds, strict=False)
    }
    places = ", ".join(str(list(range(words[x]))) for x in "cab")
    body = (
        f"  a = load(A, layout={name}.a)\n  b = load(B, layout={name}.b)\n"
        f'  c = load(C, layout={name}.c)\n  store(D, nv.mma(c, a, b, "{name}", {places}))'
    )
    parameters = (
        f"A: global({a_kind})[{m}, {k}], B: global({b_kind})[{k}, {n}], "
        f"C: global({c_kind})[{m}, {n}], D: out(global({c_kind}))[{m}, {n}]"
    )
    got = run(body, parameters, {"A": a, "B": b, "C": c, "D": None})["D"]
    want = a.values().astype(np.float64) @ b.values().astype(np.float64) + c.values()
    assert np.array_equal(got.astype(np.float64), want)


# --- the others ---
@pytest.mark.parametrize("mask", [1, 5, 16, 31])
def test_shuffles_exchange_lanes_of_a_warp(mask):
    body = f"  store(C, nv.shuffle_xor(thread_index(), {mask}))"
    got = run(body, "C: out(global(i32))[64]", {"C": None}, threads=64)["C"]
    assert got.tolist() == [t // 32 * 32 + (t % 32 ^ mask) for t in range(64)]


def test_predicates_keep_threads_out_of_memory():
    """A thread that takes no part loads zeros, and its address may be anything."""
    body = (
        "  lane = thread_index()\n"
        "  at = cast(where(lane < 5, lane * 4, -1000), i64)\n"
        "  x = nv.load_global(undefined(f32, [32], spatial(32)), A, at, predicate=lane < 5)\n"
        "  store(C, x)\n"
        "  nv.store_global(D, at, x, predicate=lane < 5)"
    )
    a = Tensor.from_values("f32", np.arange(1, 6, dtype=np.float32))
    d = Tensor.from_values("f32", np.full(6, 9, np.float32))
    parameters = "A: global(f32)[5], C: out(global(f32))[32], D: inout(global(f32))[6]"
    got = run(body, parameters, {"A": a, "C": None, "D": d})
    assert got["C"].tolist() == [1, 2, 3, 4, 5] + [0] * 27
    assert got["D"].tolist() == [1, 2, 3, 4, 5, 9]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("nv.load_global(x, A, at, bytes=3)", "E0209"),
        ("nv.load_global(x, A, at, bytes=4, at=2)", "E0209"),
        ("nv.load_global(x, A, at, bytes=8)", "E0305"),
        ("nv.load_global(x, A, lane)", "E0304"),
        ("nv.ldmatrix(x, lane, count=4)", "E0305"),
        ("nv.ldmatrix(x, lane, count=3)", "E0305"),
        ("nv.shuffle_xor(x, 32)", "E0209"),
        ("nv.shuffle_xor(x, 0)", "E0209"),
    ],
)
def test_what_the_hardware_does_not_have_is_refused(call, code):
    body = (
        "  lane = thread_index()\n  at = cast(lane * 4, i64)\n"
        f"  x = undefined(f32, [32], spatial(32))\n  print({call})"
    )
    with pytest.raises(VmError) as raised:
        run(body, "A: global(f32)[32]", {"A": Tensor.from_values("f32", np.zeros(32))})
    assert raised.value.code == code


# --- elect ---
def test_one_lane_of_each_warp_is_elected():
    """PTX ISA, elect.sync: one lane of the warp, whichever it is."""
    # Tests rule Exec/nv.elect.
    blank = Tensor.from_values("i32", np.zeros(96, np.int32))
    body = "  store(C, cast(nv.elect(), i32))"
    found = run(body, "C: out(global(i32))[96]", {"C": blank}, threads=96)["C"]
    assert found.reshape(3, 32).sum(axis=1).tolist() == [1, 1, 1]
