"""Measuring on the fake driver: which memory launches use, how often they are repeated."""

import ctypes

import numpy as np
import pytest

from tests.runtime.fake_driver import FakeDriver
from vm.compiler.pipeline import compile_source, target
from vm.isa.dtypes import dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime import cuda, stopwatch
from vm.runtime.cache import Entry
from vm.runtime.stopwatch import MOST_CALLS, SAMPLE_US, CudaStopwatch

TEXT = """vm 1
program scaled(A: global(f32)[N], W: {weights}, C: out(global(f32))[N])
  grid (1) threads 32
{{
  i = 0
  store(C[i +: 32], load(A[i +: 32]) + load(W[i +: 32]))
}}
"""
SIZE = 32


class TimedDriver(FakeDriver):
    """A launch takes 5 us; a replay of a graph 3 us more. `graphs` are the launches of each."""

    def __init__(self):
        super().__init__()
        self.graphs, self.pointers, self.waiting = [], [], False
        self.kernel = self.add
        self.free_bytes = 64 << 30

    def add(self, blocks, parameters):
        addresses = (ctypes.c_void_p * 3).from_address(parameters)
        pointers = [ctypes.c_uint64.from_address(address).value for address in addresses]
        a, w, c = ((ctypes.c_float * SIZE).from_address(pointer) for pointer in pointers)
        for index in range(SIZE):
            c[index] = a[index] + w[index]
        self.pointers.append(pointers)

    def cuStreamBeginCapture(self, stream, mode):
        self.before = len(self.launches)
        return self.answer("cuStreamBeginCapture", (stream,))

    def cuStreamEndCapture(self, stream):
        self.graphs.append(len(self.launches) - self.before)
        return self.answer("cuStreamEndCapture", (stream,), len(self.graphs))

    def cuEventElapsedTime(self, begin, end):
        return self.answer("cuEventElapsedTime", (), (5 * self.graphs[-1] + 3) / 1000)

    def cuMemGetInfo(self):
        return self.answer("cuMemGetInfo", (), self.free_bytes, 80 << 30)


@pytest.fixture
def fake(monkeypatch):
    fake = TimedDriver()
    monkeypatch.setattr(cuda, "_initialized", lambda: fake)
    monkeypatch.setattr(stopwatch, "cubin_of", _described)
    monkeypatch.setattr(stopwatch, "ROTATE_BYTES", 20 * SIZE * 4)
    cuda.device.cache_clear()
    yield fake
    cuda.device.cache_clear()


def _described(kernel, target_name, variant):
    """What is compiled, as far as the fake driver needs it."""
    made = compile_source(kernel, target(target_name), variant)
    return Entry(b"", {"manifest": made.manifest.as_json()})


def kernel(weights="constant(global(f32))[N]"):
    return parse(TEXT.format(weights=weights))["scaled"].instantiate()


def arguments():
    a, w = np.arange(2 * SIZE, dtype="f4").reshape(2, SIZE)
    c = np.full(SIZE, -1, "f4")
    return {n: Tensor(dtype("f32"), (SIZE,), x) for n, x in (("A", a), ("W", w), ("C", c))}


def test_constants_and_outputs_rotate_and_inputs_stay(fake):
    CudaStopwatch().measure(kernel(), arguments())
    a, w, c = ({pointers[index] for pointers in fake.pointers} for index in range(3))
    # W and C together are 20 times SIZE numbers: 10 copies of each
    assert (len(a), len(w), len(c)) == (1, 10, 10)
    first = fake.pointers[:10]
    assert all(now == then for now, then in zip(fake.pointers[10:20], first, strict=True))


def test_without_constants_all_inputs_rotate(fake):
    CudaStopwatch().measure(kernel("global(f32)[N]"), arguments())
    assert [len({pointers[i] for pointers in fake.pointers}) for i in range(3)] == [7, 7, 7]


def test_the_callers_buffers_are_neither_used_nor_written(fake):
    given = arguments()
    before = {name: tensor.storage.copy() for name, tensor in given.items()}
    CudaStopwatch().measure(kernel(), given)
    theirs = {tensor.storage.__array_interface__["data"][0] for tensor in given.values()}
    assert not theirs & {pointer for pointers in fake.pointers for pointer in pointers}
    for name, tensor in given.items():
        assert np.array_equal(tensor.storage, before[name])
    c = (ctypes.c_float * SIZE).from_address(fake.pointers[-1][2])
    assert list(c) == [32.0 + 2 * i for i in range(SIZE)]  # the inputs were there


def test_a_replay_lasts_long_enough_and_ends_where_the_next_begins(fake):
    found = CudaStopwatch().measure(kernel(), arguments())
    probe, sampled = fake.graphs
    assert probe == 20 and probe % 10 == sampled % 10 == 0
    assert 5 * sampled >= SAMPLE_US - 50
    assert found.calls == sampled
    assert found.us == found.low == found.high == pytest.approx(5 + 3 / sampled)


def test_everything_is_given_back_also_after_a_fault(fake):
    CudaStopwatch().measure(kernel(), arguments())
    assert sorted(fake.freed) == sorted(fake.memory)
    fake.results["cuGraphInstantiate"] = 2  # out of memory
    with pytest.raises(Exception, match="E0824"):
        CudaStopwatch().measure(kernel(), arguments())
    assert sorted(fake.freed) == sorted(fake.memory)
    made, ended = (sum(call[0] == name for call in fake.calls)
                   for name in ("cuStreamCreate", "cuStreamDestroy"))  # fmt: skip
    assert made == ended + 1  # the device keeps one


def test_copies_leave_half_of_the_memory_free_but_are_at_least_two(fake, monkeypatch):
    monkeypatch.setattr(stopwatch, "ROTATE_BYTES", 1 << 30)
    fake.free_bytes = 2 * 5 * (2 * SIZE * 4)
    CudaStopwatch().measure(kernel(), arguments())
    assert len({pointers[1] for pointers in fake.pointers}) == 5
    fake.pointers.clear()
    fake.free_bytes = 0
    CudaStopwatch().measure(kernel(), arguments())
    assert len({pointers[1] for pointers in fake.pointers}) == 2
    assert max(fake.graphs) <= MOST_CALLS


def _at(residue):
    """Numbers that begin so many bytes behind a multiple of 16."""
    whole = np.zeros(SIZE + 4, "f4")
    start = (residue - whole.__array_interface__["data"][0]) % 16 // 4
    return Tensor(dtype("f32"), (SIZE,), whole[start : start + SIZE])


@pytest.mark.parametrize("residue, variant", [(0, "aligned"), (4, "none")])
def test_copies_are_aligned_as_what_they_are_copies_of(fake, monkeypatch, residue, variant):
    variants = []
    monkeypatch.setattr(
        stopwatch, "cubin_of", lambda k, t, v: variants.append(v) or _described(k, t, v)
    )
    given = {name: _at(residue if name == "W" else 0) for name in "AWC"}
    CudaStopwatch().measure(kernel(), given)
    assert variants == [variant]
    assert {pointers[1] % 16 for pointers in fake.pointers} == {residue}
