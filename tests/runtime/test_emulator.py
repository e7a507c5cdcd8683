"""The emulator: what it finds wrong, in which order it runs, what it keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vm.errors import InternalError, VmError
from vm.runtime.emulator import EmulatorFault, HostOptions, compile_host, run

ORDERS = ("forward", "reverse", "random:1", "random:2", "random:3")


@pytest.fixture
def cache(objects):
    return objects


def launch(
    cache, body, *arguments, threads=64, shared=1024, grid=(1,), order="forward", **options
):
    """Runs a kernel with that body; its parameters are a, b ... (arrays), then n, m ... (int)."""
    arrays = [each for each in arguments if isinstance(each, np.ndarray)]
    names = [f"unsigned char* {name}" for name in "abcd"[: len(arrays)]]
    names += [f"int {name}" for name in "nmk"[: len(arguments) - len(arrays)]]
    text = f'#include "vm.h"\nVM_KERNEL(test, {threads}, 1)({", ".join(names)}) {{\n{body}\n}}\n'
    target = compile_host(text, cache, HostOptions(optimization=0, **options), "test.cpp")
    return run(target, "test", grid, threads, shared, arguments, order)


def fault(cache, body, *arguments, **options) -> EmulatorFault:
    with pytest.raises(EmulatorFault) as caught:
        launch(cache, body, *arguments, **options)
    return caught.value


def sites(error: EmulatorFault) -> dict[int, tuple[str, int, int]]:
    """By line: the name, how many threads, the first."""
    return {site.line: (site.name, site.count, site.thread) for site in error.sites}


STORE = "vm_store_global<4>({0} + VM_THREAD * 4, x.words, 0);"
LOAD = "vm_register<vm_i32, 1> x;\nvm_load_global<4>(x.words, 0, {0} + VM_THREAD * 4);"


@pytest.mark.parametrize("order", ORDERS)
def test_barrier_in_a_branch_names_both_places(cache, order):
    body = "if (VM_THREAD < 32)\n  vm_synchronize();\nelse\n  vm_synchronize();"
    error = fault(cache, body, order=order)
    assert error.kind == "divergent barrier"
    assert {line: name for line, (name, _, _) in sites(error).items()} == {
        4: "synchronize",
        6: "synchronize",
    }
    assert "test.cpp:" in str(error) and "|   vm_synchronize();" in str(error)


@pytest.mark.parametrize("order", ORDERS)
def test_barrier_that_some_never_reach_is_a_deadlock(cache, order):
    error = fault(cache, "if (VM_THREAD >= 32)\n  vm_synchronize();", order=order)
    assert (error.code, error.kind) == ("E0840", "deadlock")
    assert (
        sites(error) == {4: ("synchronize", 32, 32), 0: ("exited", 32, 0)}
        or sites(error)
        == {
            4: ("synchronize", 32, 63),
            0: ("exited", 32, 31),
        }
        or order.startswith("random")
    )


def test_barrier_within_a_warp(cache):
    error = fault(cache, "if (VM_THREAD % 2)\n  vm_barrier(1, 64);\nelse\n  vm_barrier(1, 64);")
    assert error.kind == "divergent barrier" and set(sites(error)) == {4, 6}


def test_barrier_with_two_counts(cache):
    error = fault(cache, "if (VM_THREAD < 32)\n  vm_barrier(3, 64);\nelse\n  vm_barrier(3, 32);")
    assert error.kind == "divergent barrier" and "counts" in str(error)


def test_lanes_at_different_warp_instructions(cache):
    body = """unsigned w = 0;
if (VM_THREAD % 4)
  w = vm_shuffle_word(w, 1);
else
  vm_ballot(true);"""
    error = fault(cache, body)
    assert error.kind == "divergent warp"
    assert {name for name, _, _ in sites(error).values()} == {"shuffle", "ballot"}


def test_warp_instruction_of_a_part_of_a_warp(cache):
    error = fault(cache, "vm_ballot(true);", threads=40)
    assert error.kind == "partial warp" and error.sites[0].thread >= 32


def test_waiting_for_what_never_comes(cache):
    word = np.zeros(1, np.uint32)
    error = fault(cache, "vm_wait_for((const unsigned*)a, 1);", word, threads=32, grid=(2,))
    assert error.kind == "deadlock" and {site.block for site in error.sites} == {
        (0, 0, 0),
        (1, 0, 0),
    }
    assert all(site.name == "wait_for" and site.count == 32 for site in error.sites)
    body = (
        "if (VM_THREAD == 0)\n  vm_mbarrier_init(0, 2);\nvm_synchronize();\nvm_mbarrier_wait(0, 0);"
    )
    error = fault(cache, body)
    assert error.kind == "deadlock" and sites(error)[6][:2] == ("mbarrier_wait", 64)


def test_later_blocks_run_when_earlier_ones_wait_for_them(cache):
    word = np.zeros(1, np.uint32)
    body = """
if (VM_BLOCK_INDEX(0) == 0) vm_wait_for((const unsigned*)a, 2);
if (VM_BLOCK_INDEX(0) > 0 && VM_THREAD == 0) vm_signal((unsigned*)a, VM_BLOCK_INDEX(0));"""
    launch(cache, body, word, grid=(3,), threads=32)
    assert word[0] == 2


@pytest.mark.parametrize("body, kind, words", [
    (LOAD.format("a") + "\n" + STORE.format("b"), "access", "byte 128 of argument buffer 1"),
    (LOAD.format("(a - 4)") + "\n" + STORE.format("a"), "access", "byte -4 of argument buffer 0"),
    ("unsigned w[4];\nvm_load_global<8>(w, 0, a + 4 + 4 * VM_THREAD);", "misaligned", "8 bytes"),
    ("unsigned w[4];\nvm_load_shared<16>(w, 0, 1016);", "misaligned", "byte 1016"),
    ("unsigned w[4];\nvm_store_shared<16>(1024 - 16 * (VM_THREAD < 63), w, 0);",
     "access", "has 1024"),
    ("vm_copy_async<16>(0, a + 256);", "access", "byte 256"),
    ("vm_copy_bulk(0, a, 24, 512);", "bulk copy", "multiple of 16"),
    ("vm_register<vm_i8, 1> z;\nvm_fill(z, 0);\nvm_div(z, z, z);", "division", "by zero"),
    ("n = vm_floor_modulo(n, m);", "division", "by zero"),
    ("vm_register<vm_bool, 2> z;\nvm_fill(z, 1);\nvm_set<1>(z, VM_THREAD != 9);\nvm_assert_all(z);",
     "assert", "failed"),
    ("VM_SHARED(2048);", "launch", "less shared memory"),
    ("vm_mbarrier_init(8, 0);\nvm_mbarrier_arrive(8);", "mbarrier", "more arrivals"),
])  # fmt: skip
def test_faults_of_one_thread(cache, body, kind, words):
    error = fault(cache, body, np.zeros(64, np.int32), np.zeros(32, np.int32), 5, 0)
    assert error.kind == kind and words in str(error)


def test_predicates_keep_addresses_from_being_used(cache):
    a = np.arange(8, dtype=np.uint32)
    body = """
unsigned w[4];
vm_load_global<16>(w, 0, a + 16 * VM_THREAD, VM_THREAD < 2);
vm_copy_async<16>(16 * VM_THREAD, a - 16, false);
vm_commit_async();
vm_wait_async<0>();
vm_store_global<16>(b - 1, w, 0, false);
vm_store_global<16>(b + 16 * VM_THREAD, w, 0);"""
    b = np.ones((64, 4), np.uint32)
    launch(cache, body, a, b)
    np.testing.assert_array_equal(b[:2].reshape(-1), a)
    assert not b[2:].any()


def test_writing_a_read_only_array(cache):
    a = np.zeros(64, np.int32)
    a.flags.writeable = False
    error = fault(cache, LOAD.format("a") + "\n" + STORE.format("a"), a)
    assert error.kind == "access" and "read-only" in str(error) and error.sites[0].line == 5


TRANSPOSE = """
vm_register<vm_i32, 1> x;
vm_copy_async<4>(4 * VM_THREAD, a + 4 * VM_THREAD);
vm_commit_async();
{wait}
{synchronize}
vm_load_shared<4>(x.words, 0, 4 * (63 - VM_THREAD));
vm_store_global<4>(b + 4 * VM_THREAD, x.words, 0);"""


def reversed_by(cache, order, wait="vm_wait_async<0>();", synchronize="vm_synchronize();"):
    a, b = np.arange(64, dtype=np.int32), np.zeros(64, np.int32)
    launch(cache, TRANSPOSE.format(wait=wait, synchronize=synchronize), a, b, order=order)
    return (b == a[::-1]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_copies_come_as_late_as_they_may(cache, order):
    assert reversed_by(cache, order)
    assert not reversed_by(cache, order, wait="")
    assert not reversed_by(cache, order, wait="vm_wait_async<1>();")
    assert not reversed_by(cache, order, synchronize="")


def test_shared_memory_begins_as_nan(cache):
    b = np.zeros(64, np.float32)
    load = "vm_register<vm_f32, 1> x;\nvm_load_shared<4>(x.words, 0, 4 * VM_THREAD);\n"
    launch(cache, load + STORE.format("a"), b)
    assert np.isnan(b).all()


def test_registers_begin_as_nan(cache):
    b = np.zeros(64, np.float32)
    launch(cache, "vm_register<vm_f32, 1> x;\n" + STORE.format("a"), b)
    assert np.isnan(b).all()


def test_orders_differ_where_the_program_leaves_it_open(cache):
    """Threads and blocks append their numbers: each order has its own, the same every time."""
    body = """
unsigned one[1] = {1u};
unsigned at[1];
vm_atomic_global<vm_atomic_add, vm_u32>(at, a, one);
const unsigned who[1] = {VM_BLOCK_INDEX(0) * 64u + VM_THREAD};
vm_store_global<4>(b + 4 * at[0], who, 0);"""

    def sequence(order):
        log = np.zeros(128, np.uint32)
        launch(cache, body, np.zeros(1, np.uint32), log, grid=(2,), order=order)
        assert sorted(log.tolist()) == list(range(128))
        return log.tolist()

    assert sequence("forward") == list(range(128))
    assert sequence("reverse") == list(range(127, -1, -1))
    assert sequence("random:4") == sequence("random:4") != sequence("random:5")


def test_places_follow_line_directives(cache):
    text = (
        '#include "vm.h"\nVM_KERNEL(k, 32, 1)() {\n#line 70 "matmul.vm"\n  vm_barrier(99, 32);\n}\n'
    )
    with pytest.raises(EmulatorFault) as caught:
        run(compile_host(text, cache), "k", (1,), 32, 0, [])
    assert (caught.value.sites[0].file, caught.value.sites[0].line) == ("matmul.vm", 70)


def test_printing(cache):
    body = """
vm_register<vm_f16, 2> x;
vm_fill(x, vm_constant<vm_f16>(0x3e00));
if (VM_THREAD == 3) {
  vm_print("x", x);
  vm_print_value("n", n);
}"""
    printed = launch(cache, body, 7).printed
    assert printed == "".join(
        f"{line}\n" for line in ("x[0] block 0 0 0 thread 3: 1.5", "x[1] block 0 0 0 thread 3: 1.5",
                                 "n[0] block 0 0 0 thread 3: 7")
    )  # fmt: skip


def test_parameters_of_every_kind(cache):
    text = """#include "vm.h"
VM_KERNEL(k, 1, 1)(unsigned char* out, int i, unsigned u, long long l, float f, double d, bool b) {
  vm_register<vm_f64, 6> x;
  vm_set<0>(x, i);
  vm_set<1>(x, u);
  vm_set<2>(x, (double)l);
  vm_set<3>(x, f);
  vm_set<4>(x, d);
  vm_set<5>(x, b);
  VM_UNROLL for (int k = 0; k < 6; k++) vm_store_global<8>(out + 8 * k, x.words, 8 * k);
}"""
    out = np.zeros(6)
    target = compile_host(text, cache)
    run(target, "k", (1,), 1, 0, [out, -5, 2**32 - 1, -(2**40), 0.1, 0.1, True])
    assert out.tolist() == [-5, 2**32 - 1, -(2**40), float(np.float32(0.1)), 0.1, 1]
    for wrong in ([], [out, 1, 2, 3, 4, 5], [1] * 7, [out[::2], 1, 2, 3, 4, 5, 6]):
        with pytest.raises(VmError) as caught:
            run(target, "k", (1,), 1, 0, wrong)
        assert caught.value.code == "E0842"


@pytest.mark.parametrize("call", [
    {"order": "sideways"}, {"threads": 2000}, {"grid": (0,)}, {"grid": (1, 1, 1, 1)},
    {"warp_width": 16},
])  # fmt: skip
def test_launches_that_cannot_be(cache, call):
    with pytest.raises(VmError) as caught:
        launch(cache, "", **call)
    assert caught.value.code == "E0842"


def test_objects_are_made_once_and_by_content(tmp_path):
    text = """#include "vm.h"
VM_KERNEL(k, 32, 1)(unsigned char* a) {
  unsigned one[1] = {ONE};
  vm_store_global<4>(a, one, 0);
}"""
    first = compile_host(text.replace("ONE", "1"), tmp_path)
    stamp = first.path.stat().st_mtime_ns
    again = compile_host(text.replace("ONE", "1"), tmp_path)
    other = compile_host(text.replace("ONE", "2"), tmp_path)
    wide = compile_host(text.replace("ONE", "1"), tmp_path, HostOptions(warp_width=64))
    assert again == first and again.path.stat().st_mtime_ns == stamp
    assert len({first.path, other.path, wide.path}) == 3
    for target, value in ((first, 1), (other, 2), (wide, 1)):
        a = np.zeros(1, np.uint32)
        run(target, "k", (1,), 32, 0, [a])
        assert a[0] == value


def test_many_compile_the_same_text_at_once(tmp_path):
    text = '#include "vm.h"\nVM_KERNEL(k, 32, 1)() {}\n'
    with ThreadPoolExecutor(2) as pool:
        targets = list(pool.map(lambda _: compile_host(text, tmp_path), range(2)))
    assert len(set(targets)) == 1
    run(targets[0], "k", (1,), 32, 0, [])


def test_text_that_is_no_program_is_our_mistake(cache):
    with pytest.raises(InternalError) as caught:
        compile_host('#include "vm.h"\nVM_KERNEL(k, 32, 1)() { vm_no_such_function(); }\n', cache)
    assert "vm_no_such_function" in str(caught.value)


def test_without_a_compiler(cache):
    with pytest.raises(VmError) as caught:
        compile_host("", cache, HostOptions(compiler="no-such-compiler"))
    assert caught.value.code == "E0841"


def test_address_sanitizer(cache):
    """What the emulator's own checks do not see: words of a register that are not there."""
    body = "vm_register<vm_i32, 4> x;\nvm_fill(x, 3);\nvm_load_global<4>(x.words, 4 * n, a);\n"
    body += STORE.format("a")
    a = np.arange(64, dtype=np.int32)
    launch(cache, body, a, 1, address_sanitizer=True)
    assert (a == 3).all()
    error = fault(cache, body, a, 5, address_sanitizer=True)
    assert error.kind == "sanitizer" and "buffer-" in str(error)
    assert any(site.file == "test.cpp" and site.line == 5 for site in error.sites)
    error = fault(cache, "if (VM_THREAD < 32)\n  vm_synchronize();", address_sanitizer=True)
    assert error.kind == "deadlock"


def test_a_block_of_1024_threads(cache):
    a = np.zeros(1024, np.int32)
    body = """
vm_register<vm_i32, 1> x;
vm_set<0>(x, VM_THREAD);
vm_store_shared<4>(4 * VM_THREAD, x.words, 0);
vm_synchronize();
vm_load_shared<4>(x.words, 0, 4092 - 4 * VM_THREAD);
""" + STORE.format("a")
    launch(cache, body, a, threads=1024, shared=4096)
    np.testing.assert_array_equal(a, np.arange(1023, -1, -1))
