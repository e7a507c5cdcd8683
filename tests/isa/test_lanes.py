"""The bits that threads hold, and the instructions that see them thread by thread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import VmError
from vm.isa.dtypes import dtype
from vm.isa.lanes import file_layout, from_words, like, to_words, words_of
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.isa.types import RegisterType
from vm.layouts import FRAGMENTS, column_spatial, local, replicated, spatial
from vm.runtime import reference

LAYOUTS = (
    spatial(8, 4).local(1, 2), local(3, 1).spatial(2, 16).local(1, 3), spatial(32),
    column_spatial(4, 8).local(5, 1), replicated(4).spatial(8, 1).local(1, 7),
    FRAGMENTS["mma_m16n8k16"].operands["a"],
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LAYOUTS), st.sampled_from(("u4", "i6", "u3", "f16", "f32", "i64", "bool")),
       st.integers(0, 2**32))  # fmt: skip
def test_words_are_the_slots_of_each_thread_packed_from_bit_0(layout, kind, seed):
    element = dtype(kind)
    type_ = RegisterType(element, layout.shape, layout)
    random = np.random.default_rng(seed)
    codes = random.integers(0, 1 << min(element.bits, 15), layout.shape).astype(element.storage)
    codes = codes & 0x3BFF if kind == "f16" else codes  # no NaN, whose bits are free
    codes = codes % 2 if kind == "bool" else codes
    values = element.decode(codes)
    words = to_words(values, type_)
    assert words.shape == (layout.threads, words_of(type_))
    bits = element.bits
    for thread in range(layout.threads):
        whole = sum(int(word) << (32 * n) for n, word in enumerate(words[thread]))
        for slot in range(layout.slots):
            expected = int(codes[layout(thread, slot)])
            assert whole >> (slot * bits) & ((1 << bits) - 1) == expected
        assert whole >> (layout.slots * bits) == 0
    again = from_words(words, type_)
    assert np.array_equal(element.encode(again), element.encode(values))


def run(body: str, kind: str = "i32", count: int = 64) -> np.ndarray:
    text = (
        f"vm 1\nprogram p(C: out(global({kind}))[{count}]) grid (1) threads 32\n"
        f"{{\n{body}\n}}\n"
    )
    return reference.run(parse(text)["p"].instantiate(), {"C": None}).outputs["C"].values()


def test_each_thread_knows_its_index_in_its_group():
    text = (
        "vm 1\nprogram p(C: out(global(i32))[96]) grid (1) threads 96\n{\n"
        "  group a(warps=1) {\n    store(C[0 +: 32], thread_index())\n  }\n"
        "  group b(warps=2) {\n    store(C[32 +: 64], thread_index())\n  }\n}\n"
    )
    got = reference.run(parse(text)["p"].instantiate(), {"C": None}).outputs["C"].values()
    assert got.tolist() == [*range(32), *range(64)]


def test_pick_takes_slots_of_the_same_thread():
    got = run("  x = iota(i32, [128], layout=spatial(32).local(4))\n"
              "  store(C, pick(x, [3, 0], layout=spatial(32).local(2)))")  # fmt: skip
    assert got.tolist() == [4 * t + s for t in range(32) for s in (3, 0)]


def test_pick_sees_slots_and_not_indices():
    got = run("  x = iota(i32, [64], layout=column_local(2).spatial(32))\n"
              "  store(C, pick(x, [1, 0], layout=spatial(32).local(2)))")  # fmt: skip
    assert got.tolist() == [t + 32 * s for t in range(32) for s in (1, 0)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [("[0, 1]", "E0304"), ("[4]", "E0305"), ("[-1]", "E0303")],
)
def test_slots_that_are_not_there_are_refused(arguments, code):
    with pytest.raises(VmError) as raised:
        run("  x = iota(i32, [128], layout=spatial(32).local(4))\n"
            f"  print(pick(x, {arguments}, layout=spatial(32)))")  # fmt: skip
    assert raised.value.code == code


def test_padding_adds_slots_that_are_not_defined():
    got = run("  x = iota(i32, [64], layout=column_local(2).spatial(32))\n"
              "  store(C, pad(x, layout=spatial(32).local(3)))", count=96)  # fmt: skip
    assert got.tolist() == [(t, t + 32, -1)[s] for t in range(32) for s in range(3)]


def test_slots_by_turns():
    got = run("  x = iota(i32, [64], layout=spatial(32).local(2))\n"
              "  store(C, interleave(spatial(32).local(6), x, -x, x * 100))",
              count=192)  # fmt: skip
    assert got.tolist() == [v for k in range(64) for v in (k, -k, 100 * k)]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("pad(x, layout=spatial(32))", "E0304"), ("pad(x, layout=spatial(16).local(4))", "E0304"),
        ("pad(x, layout=4)", "E0205"), ("interleave(spatial(32).local(4))", "E0209"),
        ("interleave(spatial(32).local(4), x, thread_index())", "E0304"),
        ("interleave(spatial(32).local(4), x, cast(x, f32))", "E0304"),
        ("interleave(spatial(32).local(3), x, x)", "E0304"),
    ],
)  # fmt: skip
def test_registers_that_do_not_fit_are_refused(call, code):
    with pytest.raises(VmError) as raised:
        run(f"  x = iota(i32, [64], layout=spatial(32).local(2))\n  print({call})")
    assert raised.value.code == code


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slots", [1, 3])
def test_a_file_like_a_layout_has_copies_where_it_has(layout, slots):
    found = like(layout, slots)
    assert (found.threads, found.slots) == (layout.threads, slots)
    for thread in range(layout.threads):
        for other in range(layout.threads):
            same = layout(thread, 0) == layout(other, 0)
            assert all((found(thread, s) == found(other, s)) == same for s in range(slots))
    if layout.replication == 1:
        assert found == file_layout(layout.threads, slots)


def test_constants_of_slots_are_the_same_in_every_thread():
    got = run("  store(C, slot_constants([7, -2], i32, spatial(32).local(2)))")
    assert got.tolist() == [7, -2] * 32


def test_a_scalar_is_spread_and_is_uniform_again():
    got = run("  n = block_index() + 5\n  store(C[0 +: 32], spread(n))\n"
              "  m = uniform(spread(n))\n  store(C[32 +: 32], fill(m, i32, [32]))")  # fmt: skip
    assert got.tolist() == [5] * 64


def test_threads_that_differ_are_no_scalar():
    with pytest.raises(VmError) as raised:
        run("  print(uniform(thread_index()))")
    assert raised.value.code == "E0510"


def test_undefined_is_all_ones_until_it_is_filled():
    text = (
        "vm 1\nprogram p(A: global(i32)[32], C: out(global(i32))[64]) grid (1) threads 32\n{\n"
        "  x = undefined(i32, [64], spatial(32).local(2))\n"
        "  at = cast(thread_index() * 4, i64)\n"
        "  store(C, nv.load_global(x, A, at, bytes=4, at=4))\n}\n"
    )
    a = Tensor.from_values("i32", np.arange(32, dtype=np.int32))
    got = reference.run(parse(text)["p"].instantiate(), {"A": a, "C": None}).outputs["C"].values()
    assert got.reshape(32, 2)[:, 0].tolist() == [-1] * 32
    assert got.reshape(32, 2)[:, 1].tolist() == list(range(32))
