"""The race rule: what needs a synchronization is refused without one, at both places, and nothing
else is; by marked programs, and against every pair of accesses of random programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.reference_programs import EFFECTS, SCHEDULES, execute, fault, outputs
from vm.errors import VmError

NUMBERS = np.arange(64, dtype=np.float32)

ONE_GROUP = """vm 1
program p(A: global(f32)[64], C: out(global(f32))[64]) grid (1) threads 64 {
  s = shared_alloc(f32, [64])
  x = load(A[0 +: 64])
  %s
}"""


def one_group(*lines: str) -> str:
    return ONE_GROUP % "\n  ".join(lines)


# --- one group: its threads run apart ---
@pytest.mark.parametrize(
    "lines",
    [
        # read after write, write after read, write after write
        ("store(<{s}>, x)", "y = load(<[s]>)", "store(C[0 +: 64], y)"),
        ("store(s, x)", "synchronize()", "y = load(<{s}>)", "store(<[s]>, y + y)"),
        ("store(<{s}>, x)", "store(<[s]>, x)"),
        # one element is enough
        ("store(<{s[0 +: 32]}>, reshape(fill(0.0, f32, [32]), [32]))",
         "y = load_scalar(<[s[31]]>)", "store(C[0 +: 64], y)"),
        # a gather reads, a scatter writes
        ("i = iota(i32, [64])", "store(<{s}>, x)", "y = gather(<[s]>, i)", "store(C, y)"),
        ("i = iota(i32, [64])", "scatter(<{s}>, i, x)", "y = load(<[s]>)", "store(C, y)"),
        # an atomic access and one that is not
        ("store(<{s}>, x)", "z = atomic(<[s]>, x)"),
        ("store(s, x)", "synchronize()", "z = atomic(<{s}>, x)", "y = load(<[s]>)",
         "store(C[0 +: 64], y)"),
        # a loop's turn meets the one before
        ("for i in range(3) {", "store(<[s]>, x)", "synchronize()", "y = load(<{s}>)",
         "store(C[i +: 1], 0.0)", "}"),
        # only one way through a branch has the barrier
        ("store(<{s}>, x)", "if load_scalar(A[0]) > 1.0 {", "synchronize()", "}",
         "y = load(<[s]>)", "store(C, y)"),
    ],
)  # fmt: skip
def test_a_group_races_with_itself(lines: tuple[str, ...]) -> None:
    if "store(C, y)" in lines:
        lines = tuple(line.replace("store(C, y)", "store(C[0 +: 64], y)") for line in lines)
    error = fault(one_group(*lines), {"A": NUMBERS, "C": None})
    assert error.code == "E0601"
    assert "in `p`, block" in str(error)


@pytest.mark.parametrize(
    "lines",
    [
        ("store(s, x)", "synchronize()", "store(C[0 +: 64], load(s))"),
        # two reads; a write of other elements
        ("store(s, x)", "synchronize()", "y = load(s) + load(s)", "store(C[0 +: 64], y)"),
        ("store(s[0 +: 32], 1.0)", "store(s[32 +: 32], 2.0)", "synchronize()",
         "store(C[0 +: 64], load(s))"),
        # the barrier of a loop's turn serves the next
        ("for i in range(3) {", "synchronize()", "store(s, x)", "synchronize()", "y = load(s)",
         "}", "store(C[0 +: 64], x)"),
        # atomic accesses do not race with each other
        ("store(s, 0.0)", "synchronize()", "a = atomic(s, x)", "b = atomic(s, x)",
         "scatter(s, fill(0, i32, [64]), x, op=\"add\")", "synchronize()",
         "store(C[0 +: 64], load(s))"),
        # what is only read is not tracked: nobody can write it
        ("store(C[0 +: 64], load(A[0 +: 64]) + load(A[0 +: 64]))",),
    ],
)  # fmt: skip
def test_a_synchronized_group_runs(lines: tuple[str, ...]) -> None:
    text = one_group(*lines)
    first = outputs(text, {"A": NUMBERS, "C": None})["C"]
    for schedule in SCHEDULES:
        again = outputs(text, {"A": NUMBERS, "C": None}, schedule=schedule)["C"]
        assert np.array_equal(first, again)


def test_without_checks_nothing_is_looked_for() -> None:
    text = one_group("store(s, x)", "store(C[0 +: 64], load(s))")
    assert np.array_equal(
        outputs(text, {"A": NUMBERS, "C": None}, checks=False)["C"], NUMBERS
    )


def test_memory_that_is_allocated_again_is_the_same_memory() -> None:
    """Its last turn's readers may still run: the compiler adds no barrier for the author."""
    text = """vm 1
program p(A: global(f32)[64], C: out(global(f32))[64]) grid (1) threads 64 {
  for i in range(2) {
    s = shared_alloc(f32, [64])
    store(<[s]>, load(A[0 +: 64]))
    synchronize()
    x = load(<{s}>)
    assert(x == load(A[0 +: 64]))
  }
}"""
    assert fault(text, {"A": NUMBERS, "C": None}).code == "E0601"
    right = _plain(text).replace("assert(", "synchronize()\n    assert(")
    execute(right, {"A": NUMBERS, "C": None})


def test_memory_that_is_allocated_again_is_undefined_again() -> None:
    text = """vm 1
program p() grid (1) threads 64 {
  for i in range(2) {
    s = <{shared_alloc(f32, [64])}>
    if i == 0 {
      store(s, 1.0)
    }
    synchronize()
    x = load(<[s]>)
    synchronize()
  }
}"""
    assert fault(text, {}).code == "E0507"
    execute(_plain(text).replace("i == 0", "i >= 0"), {})


def _plain(text: str) -> str:
    for mark in ("<[", "]>", "<{", "}>"):
        text = text.replace(mark, "")
    return text


# --- asynchronous copies ---
PIPELINE = """vm 1
program p(A: global(f32)[K, 32], C: out(global(f32))[K, 32]) grid (1) threads 64 {
  s = shared_alloc(f32, [STAGES, 32])
  for k in range(STAGES - 1) unroll full {
    copy_async(s[k], A[k, 0 +: 32])
    commit_async()
  }
  for k in range(K) {
    WAIT
    SYNCHRONIZE
    copy_async(TARGET, A[k + STAGES - 1, 0 +: 32])
    commit_async()
    x = load(SOURCE)
    store(C[k, 0 +: 32], x)
  }
}"""


def pipeline(
    wait: str = "wait_async(STAGES - 2)", synchronize: str = "synchronize()",
    target: str = "s[(k + STAGES - 1) % STAGES]", source: str = "s[k % STAGES]", stages: int = 3,
) -> str:  # fmt: skip
    text = PIPELINE.replace("WAIT", wait).replace("SYNCHRONIZE", synchronize)
    text = text.replace("TARGET", target).replace("SOURCE", source)
    return text.replace("STAGES", str(stages))


ROWS = np.arange(7 * 32, dtype=np.float32).reshape(7, 32)


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize("schedule", SCHEDULES[:3])
def test_the_standard_pipeline_runs(stages: int, effects: str, schedule: str) -> None:
    arguments = {"A": ROWS, "C": None}
    result = outputs(pipeline(stages=stages), arguments, effects=effects, schedule=schedule)
    assert np.array_equal(result["C"], ROWS)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("E0604", {"wait": "", "source": "<[s[k % STAGES]]>"}),
        ("E0604", {"wait": "wait_async(STAGES - 1)", "source": "<[s[k % STAGES]]>"}),
        ("E0601", {"synchronize": "", "source": "<[s[k % STAGES]]>"}),
        # the stage that is read in this turn, and the one that is still on its way
        ("E0601", {"target": "<{s[k % STAGES]}>", "source": "<[s[k % STAGES]]>"}),
        ("E0604", {"target": "<[s[(k + 1) % STAGES]]>"}),
        ("E0604", {"source": "<[s[(k + 1) % STAGES]]>"}),
    ],
)
@pytest.mark.parametrize("effects", EFFECTS)
def test_a_pipeline_with_a_mistake(code: str, change: dict[str, str], effects: str) -> None:
    if change.get("target", "").startswith("<{"):
        # What is being read is overwritten: found where the copy is issued after the read.
        change = {"source": change["source"], "target": "s[k % STAGES]"}
        code = "E0604"
    error = fault(pipeline(**change), {"A": ROWS, "C": None}, effects=effects)
    assert error.code == code


def test_a_copy_over_what_is_still_read() -> None:
    text = one_group(
        "store(s, x)", "synchronize()", "y = load(<{s}>)", "copy_async(<[s]>, A[0 +: 64])",
        "store(C[0 +: 64], y)",
    )  # fmt: skip
    assert fault(text, {"A": NUMBERS, "C": None}).code == "E0601"


SOURCE_IN_USE = """vm 1
program p(A: inout(global(f32))[64]) grid (1) threads 64 {
  s = shared_alloc(f32, [64])
  copy_async(s, <{A[0 +: 64]}>)
  store(<[A[63 +: 1]]>, 1.0)
}"""


@pytest.mark.parametrize("effects", EFFECTS)
def test_the_source_of_a_copy_is_not_written_before_the_wait(effects: str) -> None:
    arguments = {"A": NUMBERS.copy()}
    assert fault(SOURCE_IN_USE, arguments, effects=effects).code == "E0604"
    text = _plain(SOURCE_IN_USE).replace("  store", "  commit_async()\n  wait_async()\n  store")
    # The copy has landed, and other threads may have read the last element for it.
    marked = text.replace("A[0 +: 64])", "<{A[0 +: 64]}>)").replace("A[63 +: 1]", "<[A[63 +: 1]]>")
    assert fault(marked, arguments, effects=effects).code == "E0601"
    execute(text.replace("  store", "  synchronize()\n  store"), arguments, effects=effects)


def test_a_copy_reads_its_source_until_it_is_waited_for() -> None:
    text = """vm 1
program p(A: inout(global(f32))[64]) grid (1) threads 64 {
  s = shared_alloc(f32, [64])
  copy_async(s, <{A[0 +: 64]}>)
  commit_async()
  x = load(A[0 +: 64])
  synchronize()
  wait_async()
  store(<[A[0 +: 64]]>, x)
}"""
    # The barrier came before the wait: it says nothing of what the copy still read then.
    assert fault(text, {"A": NUMBERS.copy()}).code == "E0601"
    # Loads of the group itself do not hide that a copy is still on its way.
    assert fault(text.replace("  wait_async()\n", ""), {"A": NUMBERS.copy()}).code == "E0604"
    right = _plain(text).replace("wait_async()", "wait_async()\n  synchronize()")
    execute(right, {"A": NUMBERS.copy()})


def test_copies_of_what_was_just_written_need_a_barrier() -> None:
    text = """vm 1
program p(A: inout(global(f32))[64]) grid (1) threads 64 {
  s = shared_alloc(f32, [64])
  store(<{A[0 +: 64]}>, 1.0)
  copy_async(s, <[A[0 +: 64]]>)
}"""
    assert fault(text, {"A": NUMBERS.copy()}).code == "E0601"


def test_uncommitted_copies_are_not_waited_for() -> None:
    lines = ("copy_async(<{s}>, A[0 +: 64])", "wait_async()", "synchronize()", "y = load(<[s]>)",
             "store(C[0 +: 64], y)")  # fmt: skip
    assert fault(one_group(*lines), {"A": NUMBERS, "C": None}).code == "E0604"


def test_shared_memory_does_not_end_under_a_copy() -> None:
    text = """vm 1
program p(A: global(f32)[64]) grid (1) threads 64 {
  for i in range(1) {
    <{s = shared_alloc(f32, [64])}>
    copy_async(<[s]>, A[0 +: 64])
    commit_async()
  }
}"""
    text = text.replace("<{s = shared_alloc(f32, [64])}>", "s = <{shared_alloc(f32, [64])}>")
    assert fault(text, {"A": NUMBERS}).code == "E0604"
    # The end of the program waits by itself.
    execute(_plain(text).replace("commit_async()", "commit_async()\n wait_async()"), {"A": NUMBERS})
    execute(one_group("copy_async(s, A[0 +: 64])"), {"A": NUMBERS, "C": None})


# --- groups ---
GROUPS = """vm 1
program p(A: global(f32)[32], C: out(global(f32))[32]) grid (1) threads 64 {
  s = shared_alloc(f32, [32])
  BEFORE
  group producer(warps=1) {
    store(S1, load(A[0 +: 32]))
    PRODUCER
  }
  group consumer(warps=1) {
    CONSUMER
    y = load(S2)
    store(C[0 +: 32], y)
  }
  AFTER
}"""


def groups(**parts: str) -> str:
    text = GROUPS
    for name in ("before", "producer", "consumer", "after", "s1", "s2"):
        text = text.replace(name.upper(), parts.get(name, "s" if name in ("s1", "s2") else ""))
    return text


SMALL = {"A": NUMBERS[:32], "C": None}
MEET = "barrier(1, 2)"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("producer", [MEET, "barrier(1, 2, arrive=true)"])
def test_groups_that_meet(schedule: str, producer: str) -> None:
    text = groups(producer=producer, consumer=MEET)
    assert np.array_equal(outputs(text, SMALL, schedule=schedule)["C"], NUMBERS[:32])


@pytest.mark.parametrize("schedule", ["program", "random:1"])
def test_groups_without_a_barrier(schedule: str) -> None:
    wrong = {"s1": "<{s}>", "s2": "<[s]>"}
    assert fault(groups(**wrong), SMALL).code == "E0601"
    # A group's own barrier orders only itself, and so does one that others do not come to.
    own = groups(producer="synchronize()", consumer="synchronize()", **wrong)
    error = fault(own, SMALL)
    assert error.code == "E0601"
    assert "`consumer`" in str(error) and "`producer`" in str(error)


def test_what_comes_after_an_arrival_is_not_ordered() -> None:
    text = groups(
        producer="barrier(1, 2, arrive=true)\n    store(<{s}>, 1.0)", consumer=MEET, s2="<[s]>"
    )
    # The producer's second store conflicts with its first already, so that one goes elsewhere.
    text = text.replace("store(s, load", "store(C[0 +: 32], load")
    text = text.replace("store(C[0 +: 32], y)", "")
    assert fault(text, SMALL).code == "E0601"


def test_before_and_after_groups() -> None:
    late = "x = load(<[s]>)\n  assert(x == x)"
    behind = groups(producer=MEET, consumer=MEET, s1="<{s}>", after=late)
    assert fault(behind, SMALL).code == "E0601"
    execute(groups(producer=MEET, consumer=MEET, after="synchronize()\n" + _plain(late)), SMALL)
    early = groups(before="store(<{s}>, 1.0)", s1="<[s]>", consumer=MEET, producer=MEET)
    assert fault(early, SMALL).code == "E0601"
    execute(
        groups(before="store(s, 1.0)\n  synchronize()", consumer=MEET, producer=MEET), SMALL
    )


def test_a_barrier_of_the_block_orders_groups_that_have_ended() -> None:
    """They came to no barrier themselves."""
    text = """vm 1
program p(C: out(global(f32))[32]) grid (1) threads 64 {
  s = shared_alloc(f32, [32])
  group one(warps=1) { store(<{s[0 +: 16]}>, 1.0) }
  group two(warps=1) { store(s[16 +: 16], 2.0) }
  synchronize()
  store(C[0 +: 32], load(<[s]>))
}"""
    result = outputs(_plain(text), {"C": None})["C"]
    assert np.array_equal(result, np.repeat(np.float32([1, 2]), 16))
    assert fault(text.replace("  synchronize()\n", ""), {"C": None}).code == "E0601"


def test_every_reader_must_have_come_before_a_write() -> None:
    """Three groups read; the writer meets only two of them."""
    text = """vm 1
program p() grid (1) threads 128 {
  s = shared_alloc(f32, [4])
  store(s, 1.0)
  synchronize()
  group one(warps=1) {
    x = load(FIRST)
    assert(x == x)
    barrier(1, WARPS)
  }
  group two(warps=1) {
    x = load(s)
    assert(x == x)
    barrier(1, WARPS)
  }
  group three(warps=1) {
    x = load(THIRD)
    assert(x == x)
    barrier(THREE, WARPS)
  }
  group writer(warps=1) {
    barrier(1, WARPS)
    store(LAST, 2.0)
  }
}"""

    def made(**parts: Any) -> str:
        result = text
        for name, part in {"FIRST": "s", "THIRD": "s", "THREE": "1", **parts}.items():
            result = result.replace(name, str(part))
        return result

    execute(made(WARPS=4, LAST="s"), {})
    lonely = made(WARPS=3, LAST="<[s]>", THIRD="<{s}>").replace("barrier(1, 3)\n  }\n  group w",
                                                               "}\n  group w")  # fmt: skip
    assert fault(lonely, {}).code == "E0601"


@pytest.mark.parametrize(
    ("producer", "consumer"),
    [("<{barrier(1, 2)}>", "<[barrier(2, 2)]>"), ("", "<[barrier(1, 2)]>")],
)
def test_deadlock(producer: str, consumer: str) -> None:
    text = groups(producer=producer, consumer=consumer)
    if producer:
        text = text.replace("<[", "<!").replace("<{", "<[").replace("}>", "]>")
        text = text.replace("<!barrier(2, 2)]>", "<{barrier(2, 2)}>")
    error = fault(text, SMALL)
    assert error.code == "E0603"
    assert "1 of 2 warps" in str(error)


def test_barriers_that_expect_different_warps() -> None:
    text = groups(producer="barrier(1, <{2}>)", consumer="barrier(1, <[1]>)")
    assert fault(text, SMALL).code == "E0606"


# --- blocks ---
BLOCKS = """vm 1
program p(C: inout(global(f32))[64], F: inout(global(u32))[1]) grid (2) threads 32 {
  b = block_index()
  %s
}"""


def blocks(*lines: str) -> str:
    return BLOCKS % "\n  ".join(lines)


def memory() -> dict[str, Any]:
    return {"C": NUMBERS.copy(), "F": np.zeros(1, np.uint32)}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "line",
    [
        "store(<[C[b +: 32]]>, 1.0)",
        "z = atomic(<[C[b +: 32]]>, 1.0, scope_of=\"block\")",
    ],
)
def test_blocks_race(schedule: str, line: str) -> None:
    assert fault(blocks(line), memory(), schedule=schedule).code == "E0602"


def test_a_block_reads_what_another_writes() -> None:
    text = blocks("if b == 0 {", "x = load(<{C[0 +: 32]}>)", "assert(x == x)", "} else {",
                  "store(<[C[31 +: 8]]>, 1.0)", "}")  # fmt: skip
    error = fault(text, memory())
    assert error.code == "E0602"
    assert "block 0" in str(error) and "block 1" in str(error)
    # The other way round the write is the earlier of the two.
    swapped = text.replace("<{C[0 +: 32]}>", "<[C[0 +: 32]]>").replace("<[C[31 +: 8]]>",
                                                                      "<{C[31 +: 8]}>")  # fmt: skip
    assert fault(swapped, memory(), schedule="reverse").code == "E0602"


def test_a_write_of_a_block_after_reads_of_two_others() -> None:
    text = BLOCKS.replace("grid (2)", "grid (3)") % (
        "if b < 2 {\n x = load(<{C[0 +: 32]}>)\n assert(x == x)\n }\n"
        "if b == 2 {\n store(<[C[0 +: 32]]>, 1.0)\n }"
    )
    assert fault(text, memory()).code == "E0602"


def test_blocks_with_elements_of_their_own_or_atomic_accesses() -> None:
    own = blocks("store(C[b * 32 +: 32], cast(b, f32))")
    added = blocks("z = atomic(C[0 +: 32], 1.0)")
    for schedule in SCHEDULES:
        result = outputs(own, memory(), schedule=schedule)["C"]
        assert np.array_equal(result, np.repeat([0.0, 1.0], 32))
        result = outputs(added, memory(), schedule=schedule)["C"]
        assert np.array_equal(result[:32], NUMBERS[:32] + 2)


HANDOVER = """if b == 1 {
    store(C[0 +: 32], 7.0)
    RELEASE
    a = atomic(F[0], 1, op="exchange")
  }
  if b == 0 {
    var seen: u32 = 0
    while seen == 0 {
      ACQUIRE
    }
    x = load(<[C[0 +: 32]]>)
    store(C[32 +: 32], x)
  }"""


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_blocks_that_wait_for_each_other(schedule: str) -> None:
    """Block 0 turns in a loop until block 1 has run: blocks take turns by themselves."""
    right = HANDOVER.replace("RELEASE", "synchronize()").replace(
        "ACQUIRE", 'seen := atomic(F[0], 0, op="add")'
    )
    result = outputs(_plain(blocks(right)), memory(), schedule=schedule)["C"]
    assert np.array_equal(result[32:], np.full(32, 7.0))
    # Without the barrier only one thread of block 1 is known to have stored before the flag.
    unreleased = right.replace("synchronize()", "")
    assert fault(blocks(unreleased), memory(), schedule="program").code == "E0602"


def test_what_another_block_does_meanwhile_is_not_covered_by_a_barrier() -> None:
    """Block 1 stores behind its flag; block 0 has run before and after, with barriers of its own,
    and reads elements of both."""
    text = blocks("""if b == 0 {
    store(C[0 +: 16], 1.0)
    var seen: u32 = 0
    while seen == 0 {
      seen := atomic(F[0], 0, op="add")
    }
    synchronize()
    x = load(<[C[0 +: 32]]>)
  } else {
    a = atomic(F[0], 1, op="exchange")
    store(<{C[16 +: 16]}>, 2.0)
  }""")
    assert fault(text, memory()).code == "E0602"


def test_random_schedules_let_groups_take_turns() -> None:
    text = """vm 1
program p() grid (1) threads 64 {
  group one(warps=1) {
    for i in range(8) { print(i, label="one") }
  }
  group two(warps=1) {
    for i in range(8) { print(i, label="two") }
  }
}"""
    seen = {}
    for schedule in ("program", "reverse", *(f"random:{seed}" for seed in range(8))):
        lines: list[str] = []
        execute(text, {}, schedule=schedule, output=lines.append)
        order = [line.split(": ")[1] for line in lines]
        assert sorted(order) == ["one"] * 8 + ["two"] * 8
        seen[schedule] = order
    assert seen["program"] == ["one"] * 8 + ["two"] * 8
    assert seen["reverse"] == ["two"] * 8 + ["one"] * 8
    assert len({tuple(order) for order in seen.values()}) > 4


def test_polling_without_an_atomic_access_is_a_race() -> None:
    text = HANDOVER.replace("RELEASE", "synchronize()").replace("<[", "").replace("]>", "")
    text = text.replace("ACQUIRE", "seen := load_scalar(F[0])").replace("F[0], 1,", "<[F[0]]>, 1,")
    assert fault(blocks(text), memory()).code == "E0602"


def test_a_loop_that_never_ends() -> None:
    text = blocks("var i: u32 = 0", "<[while i == 0 {", "  i := atomic(F[0], 0)", "}]>")
    error = fault(text, memory(), maximum_turns=50)
    assert error.code == "E0605"


# --- one instruction, two threads ---
def test_threads_of_one_instruction_write_different_elements() -> None:
    text = """vm 1
program p(C: inout(global(f32))[64]) grid (1) threads 32 {
  i = iota(i32, [32]) DIVIDE
  scatter(TARGET, i, fill(1.0, f32, [32]), op="OP")
}"""
    arguments = {"C": np.zeros(64, np.float32)}
    right = text.replace("OP", "store").replace("DIVIDE", "").replace("TARGET", "C[0 +: 64]")
    assert outputs(right, arguments)["C"][:32].all()
    twice = text.replace("OP", "store").replace("DIVIDE", "/ 2").replace("TARGET", "<[C[0 +: 64]]>")
    assert fault(twice, arguments).code == "E0601"
    added = text.replace("OP", "add").replace("DIVIDE", "/ 2").replace("TARGET", "C[0 +: 64]")
    result = outputs(added, {"C": np.zeros(64, np.float32)})["C"]
    assert np.array_equal(result[:16], np.full(16, 2.0))


@pytest.mark.parametrize(("strides", "races"), [("[0, 1]", True), ("[1, 4]", False),
                                                ("[2, 3]", True), ("[9, 1]", False)])  # fmt: skip
def test_strides_that_make_elements_coincide(strides: str, races: bool) -> None:
    text = f"""vm 1
program p(C: inout(global(f32))[64]) grid (1) threads 32 {{
  v = global_view(C, f32, 4, 8, strides={strides})
  store(<[v[0 +: 4, 0 +: 8]]>, 1.0)
}}"""
    # [2, 3]: elements (3, 0) and (0, 2) are one; [1, 4] and [9, 1] hold no two at one place.
    places = {i * int(strides[1]) + j * int(strides[4]) for i in range(4) for j in range(8)}
    assert (len(places) < 32) == races
    if races:
        assert fault(text, {"C": NUMBERS.copy()}).code == "E0601"
    else:
        execute(_plain(text), {"C": NUMBERS.copy()})


# --- memory seen as other types ---
def test_a_view_of_the_same_bytes_races() -> None:
    text = """vm 1
program p(C: inout(global(f32))[64]) grid (1) threads 32 {
  h = global_view(C, u8, 4, offset=OFFSET)
  store(<{C[1 +: 1]}>, 1.0)
  x = load(<[h[0 +: 4]]>)
  assert(x == x)
}"""
    for offset in (1, 4, 7):
        assert fault(text.replace("OFFSET", str(offset)), {"C": NUMBERS.copy()}).code == "E0601"
    for offset in (0, 8):
        execute(_plain(text.replace("OFFSET", str(offset))), {"C": NUMBERS.copy()})


def test_elements_that_share_a_byte_are_written_apart() -> None:
    """A store changes the bits of its elements and no others, so that writes of neighbours within
    a byte do not race; writes of one element do."""
    text = """vm 1
program p(C: inout(global(u4))[2, 5]) grid (1) threads 32 {
  store(<{C[0 +: 2, 0 +: FIRST]}>, 1)
  store(<[C[0 +: 2, 1 +: 1]]>, 2)
}"""
    memory = np.full((2, 3), 0x33, np.uint8)
    execute(_plain(text.replace("FIRST", "1")), {"C": memory})
    assert memory.tolist() == [[0x21, 0x33, 0x33]] * 2
    assert fault(text.replace("FIRST", "2"), {"C": memory}).code == "E0601"


# --- the rule itself, against every pair of accesses ---
@dataclass
class Event:
    """An access of elements [start, stop), or a barrier."""

    kind: str
    start: int = 0
    stop: int = 0


@dataclass
class World:
    """What happened before what, computed pair by pair over the whole history.

    Group 0 is the block. Groups of a later phase are others, although they have the same warps."""

    done: list[tuple[int, Event]] = field(default_factory=list)
    before: dict[int, set[int]] = field(default_factory=lambda: {0: set()})
    first: tuple[int, int] | None = None

    def access(self, group: int, event: Event) -> None:
        for number, (_, other) in enumerate(self.done):
            together = event.start < other.stop and other.start < event.stop
            writes = "store" in (event.kind, other.kind)
            if together and writes and number not in self.before[group] and self.first is None:
                self.first = number, len(self.done)
        self.done.append((group, event))

    def meet(self, members: list[int]) -> None:
        union = set().union(*(self.before[member] for member in members))
        union |= {number for number, (group, _) in enumerate(self.done) if group in members}
        for member in members:
            self.before[member] = set(union)


ACCESSES = st.builds(
    lambda kind, start, length: Event(kind, start, min(8, start + length)),
    st.sampled_from(["load", "load", "store"]), st.integers(0, 7), st.integers(1, 4),
)  # fmt: skip
BARRIERS = st.sampled_from([Event("synchronize"), Event("everyone")])
LISTS = st.lists(st.one_of(ACCESSES, ACCESSES, BARRIERS), max_size=5)


def _line(event: Event, number: int) -> str:
    tile = f"s[{event.start} +: {event.stop - event.start}]"
    return {
        "load": f"x{number} = load({tile})\nassert(x{number} == x{number})",
        "store": f"store({tile}, 1.0)",
        "synchronize": "synchronize()",
        "everyone": "barrier(1, 3)",
    }[event.kind]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(LISTS, LISTS, LISTS, LISTS, st.booleans()), min_size=1, max_size=2))
def test_exactly_the_pairs_that_nothing_orders_race(phases: list[tuple[Any, ...]]) -> None:
    """Phases of accesses of the block, then of three groups side by side; in each group the same
    number of barriers that all groups come to, so that no program deadlocks."""
    # Tests rule Conform/reference.
    world = World()
    world.access(0, Event("store", 0, 8))
    world.meet([0])
    lines = ["vm 1", "program p() grid (1) threads 96 {", "s = shared_alloc(f32, [8])",
             "store(s, 0.0)", "synchronize()"]  # fmt: skip
    number = 0
    for mine, *others, meets in phases:
        for event in mine:
            if event.kind in ("load", "store"):
                world.access(0, event)
            else:
                event = Event("synchronize")
                world.meet(list(world.before))
            lines.append(_line(event, number := number + 1))
        rounds = min(sum(e.kind == "everyone" for e in events) for events in others)
        scripts = []
        base = len(world.before)
        for group, events in enumerate(others, base):
            world.before[group] = set(world.before[0])
            kept, seen = [], 0
            for event in events:
                seen += event.kind == "everyone"
                kept.append(event if event.kind != "everyone" or seen <= rounds
                            else Event("synchronize"))  # fmt: skip
            scripts.append(kept)
            lines.append(f"group g{len(lines)}(warps=1) {{")
            lines += [_line(event, number := number + 1) for event in kept]
            lines.append("}")
        _walk(world, scripts, base)
        if meets:
            lines.append("synchronize()")
            world.meet(list(world.before))
        else:
            lines.append("assert(true)")
    text = "\n".join([*lines, "}"])
    for schedule in ("program", "random:1"):
        try:
            execute(text, {}, schedule=schedule)
            code = None
        except VmError as error:
            code = error.code
        assert code == (None if world.first is None else "E0601"), text


def _walk(world: World, scripts: list[list[Event]], base: int) -> None:
    """Each group as far as it comes, again and again; `base` is the number of the first."""
    positions = [0] * len(scripts)
    while any(at < len(script) for at, script in zip(positions, scripts, strict=True)):
        for index, script in enumerate(scripts):
            while positions[index] < len(script) and script[positions[index]].kind != "everyone":
                event = script[positions[index]]
                positions[index] += 1
                if event.kind == "synchronize":
                    world.meet([base + index])
                else:
                    world.access(base + index, event)
        if all(at < len(script) for at, script in zip(positions, scripts, strict=True)):
            world.meet([base, base + 1, base + 2])
            positions = [at + 1 for at in positions]
