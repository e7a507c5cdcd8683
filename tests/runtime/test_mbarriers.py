"""Mbarriers and bulk copies: rings of stages run in every order; each rule that a ring may break is
found, by its code and at its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.reference_programs import EFFECTS, SCHEDULES, execute, fault, outputs
from vm.errors import VmError
from vm.isa.program import parse
from vm.isa.tensor import Tensor

NUMBERS = np.arange(256, dtype=np.float32)
GIVEN: dict[str, Any] = {"A": NUMBERS, "C": None}

RING = """vm 1
program p(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 64 {
  s = shared_alloc(f32, [2, 64])
  full = mbarrier_alloc([2])
  empty = mbarrier_alloc([2])
  group producer(warps=1) {
    for i in range(4) {
      %(wait_empty)s
      %(expect)s
      %(copy)s
    }
  }
  group consumer(warps=1) {
    for i in range(4) {
      %(wait_full)s
      x = %(load)s
      store(C[i * 64 +: 64], x)
      %(arrive)s
    }
  }
}"""
PARTS = {
    "wait_empty": "mbarrier_wait(empty[i % 2], (i / 2 + 1) % 2)",
    "expect": "mbarrier_expect(full[i % 2], 256)",
    "copy": "copy_bulk(s[i % 2], A[i * 64 +: 64], full[i % 2])",
    "wait_full": "mbarrier_wait(full[i % 2], i / 2 % 2)",
    "load": "load(s[i % 2])",
    "arrive": "mbarrier_arrive(empty[i % 2])",
}


def ring(**parts: str) -> str:
    return RING % {**PARTS, **parts}


ALONE = """vm 1
program p(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 64 {
  s = shared_alloc(f32, [2, 64])
  full = mbarrier_alloc([2], warps=2)
  %s
}"""


def alone(*lines: str) -> str:
    """One group: the block."""
    return ALONE % "\n  ".join(lines)


FILL = ("mbarrier_expect(full[0], 256)", "copy_bulk(s[0], A[0 +: 64], full[0])")
READ = "store(C[0 +: 64], load(s[0]))"


# --- what is right ---
@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "parts",
    [
        {},
        # copies before the bytes are expected, and the bytes expected in two parts
        {"expect": PARTS["copy"], "copy": PARTS["expect"]},
        {"copy": "copy_bulk(s[i % 2, 0 +: 32], A[i * 64 +: 32], full[i % 2])\n"
                 "copy_bulk(s[i % 2, 32 +: 32], A[i * 64 + 32 +: 32], full[i % 2])"},
        # waiting again for what is known to be over
        {"wait_full": PARTS["wait_full"] + "; " + PARTS["wait_full"]},
    ],
)  # fmt: skip
def test_a_ring_gives_the_same_in_every_order(parts, schedule, effects) -> None:
    got = outputs(ring(**parts), GIVEN, schedule=schedule, effects=effects)["C"]
    assert np.array_equal(got, NUMBERS)


@settings(deadline=None, max_examples=30)
@given(
    stages=st.integers(1, 4), turns=st.integers(0, 7), warps=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_rings_of_any_depth(stages: int, turns: int, warps: int, seed: int) -> None:
    """Consumers of one or two warps; the producer runs ahead as far as there are stages."""
    text = f"""vm 1
program p(A: global(f32)[256], C: out(global(f32))[256]) grid (1) threads 96 {{
  s = shared_alloc(f32, [{stages}, 32])
  full = mbarrier_alloc([{stages}])
  empty = mbarrier_alloc([{stages}], warps={warps})
  group producer(warps=1) {{
    for i in range({turns}) {{
      mbarrier_wait(empty[i % {stages}], (i / {stages} + 1) % 2)
      mbarrier_expect(full[i % {stages}], 128)
      copy_bulk(s[i % {stages}], A[i * 32 +: 32], full[i % {stages}])
    }}
  }}
  group consumer(warps={warps}) {{
    for i in range({turns}) {{
      mbarrier_wait(full[i % {stages}], i / {stages} % 2)
      store(C[i * 32 +: 32], load(s[i % {stages}]))
      mbarrier_arrive(empty[i % {stages}])
    }}
  }}
}}"""
    out = np.zeros(256, np.float32)
    execute(text, {"A": NUMBERS, "C": out}, schedule=f"random:{seed}", effects=f"random:{seed}")
    expected = np.where(np.arange(256) < 32 * turns, NUMBERS, 0)
    assert np.array_equal(out, expected)


def test_a_ring_of_one_group_needs_its_own_barrier_only() -> None:
    lines = (
        "for i in range(4) {", "  mbarrier_expect(full[0], 256)",
        "  copy_bulk(s[0], A[i * 64 +: 64], full[0])", "  mbarrier_wait(full[0], i % 2)",
        "  store(C[i * 64 +: 64], load(s[0]))", "  synchronize()", "}",
    )  # fmt: skip
    assert np.array_equal(outputs(alone(*lines), GIVEN)["C"], NUMBERS)


def test_two_groups_wait_for_one_phase() -> None:
    text = """vm 1
program p(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 64 {
  s = shared_alloc(f32, [256])
  full = mbarrier_alloc([1])
  group one(warps=1) {
    mbarrier_expect(full[0], 1024); copy_bulk(s, A[0 +: 256], full[0])
    mbarrier_wait(full[0], 0)
    store(C[0 +: 128], load(s[0 +: 128]))
  }
  group two(warps=1) {
    mbarrier_wait(full[0], 0)
    store(C[128 +: 128], load(s[128 +: 128]))
  }
}"""
    for schedule in SCHEDULES:
        for effects in EFFECTS:
            got = outputs(text, GIVEN, schedule=schedule, effects=effects)["C"]
            assert np.array_equal(got, NUMBERS)


def test_a_wait_orders_what_came_before_the_arrivals() -> None:
    """Ordinary stores too: no copy is needed, and no other barrier."""
    text = """vm 1
program p(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 64 {
  s = shared_alloc(f32, [256])
  done = mbarrier_alloc([1])
  group one(warps=1) { store(s, load(A[0 +: 256])); mbarrier_arrive(done[0]) }
  group two(warps=1) { mbarrier_wait(done[0], 0); store(C[0 +: 256], load(s)) }
}"""
    for schedule in SCHEDULES:
        assert np.array_equal(outputs(text, GIVEN, schedule=schedule)["C"], NUMBERS)
    missing = text.replace("mbarrier_wait(done[0], 0); ", "")
    missing = missing.replace("store(s,", "store(<{s}>,").replace("load(s)", "load(<[s]>)")
    assert fault(missing, GIVEN).code == "E0601"


def test_packed_elements_are_copied_bit_for_bit() -> None:
    text = """vm 1
program p(A: global(u4)[8, 64], C: out(global(u4))[8, 64]) grid (1) threads 32 {
  s = shared_alloc(u4, [8, 64])
  full = mbarrier_alloc([1])
  mbarrier_expect(full[0], 128); copy_bulk(s[2 +: 4], A[1 +: 4], full[0])
  mbarrier_wait(full[0], 0)
  store(C[0 +: 4], load(s[2 +: 4]))
}"""
    codes = np.random.default_rng(1).integers(0, 16, (8, 64)).astype(np.uint8)
    out = Tensor.from_codes("u4", np.zeros((8, 64), np.uint8))
    execute(text, {"A": Tensor.from_codes("u4", codes), "C": out})
    assert np.array_equal(out.codes()[:4], codes[1:5])


# --- what is wrong: the code, the place, and the place it disagrees with ---
@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize(
    ("code", "text"),
    [
        # the target is touched before a wait, the source written
        ("E0604", alone(FILL[0], "copy_bulk(<{s[0]}>, A[0 +: 64], full[0])",
                        "store(C[0 +: 64], load(<[s[0]]>))")),
        ("E0604", alone(FILL[0], "copy_bulk(<{s[0]}>, A[0 +: 64], full[0])",
                        "store(<[s[0]]>, 1.0)", "mbarrier_wait(full[0], 0)")),
        ("E0604", alone("store(C[0 +: 64], 1.0)", "synchronize()", FILL[0],
                        "copy_bulk(s[0], <{C[0 +: 64]}>, full[0])",
                        "store(<[C[0 +: 64]]>, 2.0)", "mbarrier_wait(full[0], 0)")),
        # a barrier of the block is no wait for the copy
        ("E0604", alone(FILL[0], "copy_bulk(<{s[0]}>, A[0 +: 64], full[0])", "synchronize()",
                        "store(C[0 +: 64], load(<[s[0]]>))")),
        # a wait for the phase before is none for this one: it may be over, and may not
        ("E0609", alone("mbarrier_expect(<{full[0]}>, 256)", FILL[1],
                        "mbarrier_wait(full[0], <[1]>)", READ)),
        ("E0604", alone("copy_bulk(<{s[0]}>, A[0 +: 64], full[0])",
                        "mbarrier_wait(full[0], 1)", "store(C[0 +: 64], load(<[s[0]]>))")),
        # another stage's phase
        ("E0604", alone(*FILL, "mbarrier_expect(full[1], 256)",
                        "copy_bulk(<{s[1]}>, A[64 +: 64], full[1])", "mbarrier_wait(full[0], 0)",
                        "store(C[0 +: 64], load(<[s[1]]>))")),
        # the block ends first
        ("E0604", alone(FILL[0], "copy_bulk(<[s[0]]>, A[0 +: 64], full[0])")),
        # a stage is filled again before its readers are known to be done
        ("E0601", alone(*FILL, "mbarrier_wait(full[0], 0)", "store(C[0 +: 64], load(<{s[0]}>))",
                        FILL[0], "copy_bulk(<[s[0]]>, A[64 +: 64], full[0])",
                        "mbarrier_wait(full[0], 1)")),
        # out of the tensor: a bulk copy does not clip
        ("E0501", alone(FILL[0], "copy_bulk(s[0], <[A[224 +: 64]]>, full[0])")),
        ("E0501", alone("n = load_scalar(A[9])", "mbarrier_arrive(<[full[cast(n, i32)]]>)")),
        # not at a multiple of 16 bytes
        ("E0511", alone(FILL[0], "copy_bulk(s[0], <[A[2 +: 64]]>, full[0])")),
        ("E0511", alone("mbarrier_expect(full[0], 128)",
                        "copy_bulk(<[s[0, 3 +: 32]]>, A[0 +: 32], full[0])")),
        # arrivals that may count in another phase
        ("E0607", alone("mbarrier_arrive(<{full[0]}>)", "mbarrier_arrive(<[full[0]]>)")),
        ("E0607", alone(*FILL, "mbarrier_arrive(<[full[0]]>)", "mbarrier_wait(full[0], 0)")),
        ("E0607", alone("mbarrier_arrive(<{full[0]}>)",
                        "copy_bulk(s[0], A[0 +: 64], <[full[0]]>)")),
        ("E0607", alone("mbarrier_expect(<{full[0]}>, 256)", "mbarrier_arrive(<[full[0]]>)")),
        # more bytes than expected
        ("E0608", alone("mbarrier_expect(<{full[0]}>, 128)",
                        "copy_bulk(s[0], A[0 +: 64], <[full[0]]>)")),
        ("E0608", alone("copy_bulk(s[0], A[0 +: 64], full[0])", "mbarrier_arrive(<[full[0]]>)")),
        # a wait for nothing that will come
        ("E0603", alone("<[mbarrier_wait(full[0], 0)]>")),
        ("E0603", alone("copy_bulk(s[0], A[0 +: 64], full[0])", "<[mbarrier_wait(full[0], 0)]>")),
        ("E0603", alone("mbarrier_expect(full[0], 512)", FILL[1],
                        "<[mbarrier_wait(full[0], 0)]>")),
        # no parity
        ("E0609", alone("n = load_scalar(A[2])", "mbarrier_wait(full[0], <[cast(n, i32)]>)")),
    ],
)  # fmt: skip
def test_one_group_breaks_a_rule(code: str, text: str, effects: str) -> None:
    assert fault(text, GIVEN, effects=effects).code == code


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        # the consumer does not wait: it may run first, and finds nothing, or in the midst of a copy
        ("E0604", {"wait_full": "", "load": "load(<[s[i % 2]]>)",
                   "copy": "copy_bulk(<{s[i % 2]}>, A[i * 64 +: 64], full[i % 2])"}),
        # the producer does not wait for the consumer
        ("E0607", {"wait_empty": "",
                   "expect": "mbarrier_expect(<[full[i % 2]]>, 256)"}),
        # the wrong parity: the producer waits for what the consumer has yet to do
        ("E0603", {"wait_empty": "<[mbarrier_wait(empty[i % 2], i / 2 % 2)]>",
                   "wait_full": "<{mbarrier_wait(full[i % 2], i / 2 % 2)}>"}),
        # the wrong parity: the consumer may go on at once
        ("E0609", {"wait_full": "mbarrier_wait(full[i % 2], <[(i / 2 + 1) % 2]>)"}),
        # nobody says that a stage is free
        ("E0603", {"arrive": "", "wait_empty": "<[mbarrier_wait(empty[i % 2], (i / 2 + 1) % 2)]>"}),
        # fewer bytes than expected
        ("E0603", {"expect": "mbarrier_expect(full[i % 2], 512)",
                   "wait_empty": "<[mbarrier_wait(empty[i % 2], (i / 2 + 1) % 2)]>",
                   "wait_full": "<{mbarrier_wait(full[i % 2], i / 2 % 2)}>"}),
        # no bytes expected: the phase is over without them
        ("E0607", {"expect": "mbarrier_arrive(<{full[i % 2]}>)",
                   "copy": "copy_bulk(s[i % 2], A[i * 64 +: 64], <[full[i % 2]]>)"}),
    ],
)  # fmt: skip
def test_a_ring_with_one_mistake(code: str, parts: dict[str, str]) -> None:
    assert fault(ring(**parts), GIVEN).code == code


def test_a_deadlock_says_what_each_phase_waits_for() -> None:
    text = ring(
        expect="mbarrier_expect(full[i % 2], 512)",
        wait_empty="<[mbarrier_wait(empty[i % 2], (i / 2 + 1) % 2)]>",
    )
    shown = str(fault(text, GIVEN))
    assert "phase 0 of `full`[0] expects 512 bytes, and copies bring 256" in shown
    assert "phase 0 of `empty`[0] has the arrivals of 0 of 1 warps" in shown


def test_a_group_that_is_left_behind() -> None:
    text = """vm 1
program p(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 64 {
  turn = mbarrier_alloc([1])
  group one(warps=1) {
    for i in range(3) { mbarrier_arrive(<{turn[0]}>); mbarrier_wait(turn[0], i % 2) }
  }
  group two(warps=1) { mbarrier_wait(turn[0], <[0]>) }
  store(C[0 +: 256], 0.0)
}"""
    assert fault(text, GIVEN).code == "E0609"


@pytest.mark.parametrize("place", ["for i in range(2) {", "if c {", "group g(warps=1) {"])
def test_mbarriers_are_made_once(place: str) -> None:
    head = f"vm 1\nprogram p(c: bool) grid (1) threads 64 {{\n  {place}\n"
    text = head + "    m = mbarrier_alloc([2])\n    mbarrier_arrive(m[0])\n  }\n}"
    with pytest.raises(VmError) as caught:
        parse(text)["p"].instantiate()
    assert (caught.value.code, caught.value.origin.line) == ("E0408", 4)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("E0302", "mbarrier_arrive(<[full]>)"),
        ("E0305", "mbarrier_arrive(full[<[2]>])"),
        ("E0203", "x = load(<[full]>)"),
        ("E0203", "store(<[full[0]]>, 1)"),
        ("E0203", "mbarrier_arrive(<[s[0]]>)"),
        ("E0205", "mbarrier_wait(full[0], <[1.5]>)"),
        ("E0209", "mbarrier_wait(full[0], <[2]>)"),
        ("E0209", "mbarrier_expect(full[0], <[24]>)"),
        ("E0209", "mbarrier_expect(full[0], <[-16]>)"),
        ("E0209", "mbarrier_expect(full[0], <[1048576]>)"),
        ("E0302", "copy_bulk(s[0], <[A[0 +: 32]]>, full[0])"),
        ("E0302", "copy_bulk(s[0], A[0 +: 64], <[full]>)"),
        ("E0303", "copy_bulk(s[0, 0 +: 3], <[A[0 +: 3]]>, full[0])"),
        ("E0303", "copy_bulk(<[s[0 +: 2, 0 +: 32]]>, B[0 +: 2, 0 +: 32], full[0])"),
        ("E0303", "copy_bulk(s[0 +: 2], <[B[0 +: 2, 0 +: 64]]>, full[0])"),
        ("E0303", "m = mbarrier_alloc(<[[0]]>)"),
        ("E0209", "m = mbarrier_alloc([2], warps=<[0]>)"),
    ],
)
def test_what_is_refused_before_it_runs(code: str, line: str) -> None:
    head = """vm 1
program p(A: global(f32)[N], B: global(f32)[4, 96]) grid (1) threads 64 {
  s = shared_alloc(f32, [2, 64])
  full = mbarrier_alloc([2])
"""
    start, end = line.index("<["), line.rindex("]>")
    plain = line[:start] + line[start + 2 : end] + line[end + 2 :]
    with pytest.raises(VmError) as caught:
        parse(f"{head}  {plain}\n}}")["p"].instantiate()
    origin = caught.value.origin
    assert (caught.value.code, origin.line) == (code, 5), caught.value
    assert (origin.column, origin.end_column) == (3 + start, 3 + end - 2), caught.value
