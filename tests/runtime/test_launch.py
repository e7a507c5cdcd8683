"""Calls on the fake driver: packing, host arrays, prepared launches, torch's fast way."""

import ctypes
import json
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.fake_driver import FakeDriver
from vm.compiler import pipeline
from vm.errors import VmError
from vm.isa.program import parse
from vm.runtime import compiled, cuda
from vm.runtime.cache import Entry
from vm.runtime.launch import Kernel, Parameters
from vm.runtime.manifest import Manifest, PointerArgument, ScalarArgument, SizeArgument

SCALED_SUM = Manifest(
    program="scaled_sum",
    kernel="scaled_sum",
    pointers=(
        PointerArgument("X", "f32", ("N",)),
        PointerArgument("Y", "f32", ("N",)),
        PointerArgument("Z", "f32", ("N",), access="out", alignment=4),
    ),
    sizes=(SizeArgument("N"),),
    scalars=(ScalarArgument("alpha", "f32"),),
    threads=128,
)


def grid(sizes):
    return (-(-sizes["N"] // 128), 1, 1)


def run_scaled_sum(blocks, parameters):
    """The kernel, as the fake driver runs it: reads its parameters where a GPU would."""
    addresses = (ctypes.c_void_p * 5).from_address(parameters)
    pointers = [ctypes.c_uint64.from_address(address).value for address in addresses[:3]]
    size = ctypes.c_int32.from_address(addresses[3]).value
    alpha = ctypes.c_float.from_address(addresses[4]).value
    x, y, z = ((ctypes.c_float * size).from_address(pointer) for pointer in pointers)
    for index in range(min(size, 128 * blocks[0])):
        z[index] = alpha * x[index] + y[index]


@pytest.fixture
def fake(monkeypatch):
    fake = FakeDriver()
    fake.kernel = run_scaled_sum
    monkeypatch.setattr(cuda, "_initialized", lambda: fake)
    monkeypatch.delenv("VM_SYNCHRONIZE", raising=False)
    cuda.device.cache_clear()
    yield fake
    cuda.device.cache_clear()


@pytest.fixture
def kernel(fake):
    return Kernel(SCALED_SUM, b"cubin", grid)


def inputs(size, seed=0):
    """Whole numbers, whose products and sums are exact however they are rounded."""
    x, y = np.random.default_rng(seed).integers(-100, 100, (2, size)).astype("f4")
    return x, y, np.full(size, np.nan, "f4")


class DeviceArray:
    """A device array by its interface; on the fake driver device memory is host memory."""

    def __init__(self, array, stream=None, device=0):
        self.array, self.stream = array, stream
        self.device = types.SimpleNamespace(id=device)

    @property
    def __cuda_array_interface__(self):
        return dict(self.array.__array_interface__) | {"version": 3, "stream": self.stream}


# Packing

NUMPY = {"bool": "?", "f16": "f2", "f32": "f4", "f64": "f8"}
NUMPY |= {f"{sign}{bits}": f"{sign}{bits // 8}" for sign in "iu" for bits in (8, 16, 32, 64)}
# What travels as its code: the integer that holds it, and the codes of 0, 1, 2, 3, 4 and 5.
CODED = {
    "u3": ("u1", [0, 1, 2, 3, 4, 5]),
    "u12": ("u2", [0, 1, 2, 3, 4, 5]),
    "i40": ("u8", [0, 1, 2, 3, 4, 5]),
    "bf16": ("u2", [0, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0]),
    "tf32": ("u4", [0, 0x3F800000, 0x40000000, 0x40400000, 0x40800000, 0x40A00000]),
    "f8e4m3": ("u1", [0, 0x38, 0x40, 0x44, 0x48, 0x4A]),
    "f4e2m1": ("u1", [0, 2, 4, 5, 6, 6]),
    "nf4": ("u1", [7, 15, 15, 15, 15, 15]),
}


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 3),
    st.lists(st.sampled_from(["i32", "i64"]), max_size=3),
    st.lists(st.sampled_from([*NUMPY, *CODED]), max_size=5),
    st.integers(0, 2),
)
def test_parameters_lie_as_a_c_structure(pointers, sizes, scalars, trailing):
    manifest = Manifest(
        "p",
        "k",
        tuple(PointerArgument(f"P{index}", "f32", ("N",)) for index in range(pointers)),
        tuple(SizeArgument(f"N + {index}", dtype) for index, dtype in enumerate(sizes)),
        tuple(ScalarArgument(f"s{index}", dtype) for index, dtype in enumerate(scalars)),
        threads=32,
    )
    parameters = Parameters(manifest, {"N": 1000}, [77 + index for index in range(trailing)])
    parameters.set_pointers([2**40 + index for index in range(pointers)])
    given = [dtype == "bool" or index + 1 for index, dtype in enumerate(scalars)]
    parameters.set_scalars(given)
    letters = ["u8"] * pointers
    letters += [f"i{int(dtype[1:]) // 8}" for dtype in sizes]
    letters += [NUMPY.get(dtype) or CODED[dtype][0] for dtype in scalars]
    letters += ["u8"] * trailing
    names = [f"f{index}" for index in range(len(letters))]
    structure = np.dtype({"names": names, "formats": letters}, align=True)
    base = ctypes.addressof(parameters.buffer)
    offsets = [structure.fields[name][1] for name in names]
    assert [address - base for address in parameters.addresses] == offsets
    values = [2**40 + index for index in range(pointers)]
    values += [1000 + index for index in range(len(sizes))]
    values += [CODED[dtype][1][value] if dtype in CODED else value
               for dtype, value in zip(scalars, given, strict=True)]  # fmt: skip
    values += [77 + index for index in range(trailing)]
    for letter, address, value in zip(letters, parameters.addresses, values, strict=True):
        raw = ctypes.string_at(address, np.dtype(letter).itemsize)
        assert np.frombuffer(raw, letter)[0] == value


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("i32", 2**31), ("u8", -1), ("i32", 1.5), ("f32", "1"), ("f16", 1e6), ("f32", None),
     ("bool", 2), ("bool", 1), ("u4", 16), ("i3", -5), ("u4", 1.0), ("bf16", 1e39), ("bf16", "1"),
     ("f8e4m3", 1e4), ("f8e8m0", 10**400)],
)
def test_scalars_that_do_not_fit(dtype, value):
    manifest = Manifest("p", "k", (), (), (ScalarArgument("alpha", dtype),), threads=32)
    with pytest.raises(VmError) as caught:
        Parameters(manifest, {}, []).set_scalars([value])
    assert caught.value.code == "E0837" and "alpha" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "value", "code"),
    [("i3", -4, 0b100), ("bf16", -0.0, 0x8000), ("bf16", 0.0, 0), ("bf16", float("inf"), 0x7F80),
     ("bf16", 1.00390625, 0x3F80), ("f8e8m0", 0.5, 126), ("f6e3m2", 1e9, 0b011111),
     ("f16", -2.0, 0xC000), ("bool", np.bool_(True), 1)],
)  # fmt: skip
def test_codes_of_scalars(dtype, value, code):
    manifest = Manifest("p", "k", (), (), (ScalarArgument("x", dtype),), threads=32)
    parameters = Parameters(manifest, {}, [])
    parameters.set_scalars([value])
    assert int.from_bytes(parameters.buffer.raw, "little") == code


def test_scalars_that_a_grid_and_a_fact_depend_on(fake):
    fake.kernel = None
    scalar = ScalarArgument("n", "i32", shapes=True)
    pointer = PointerArgument("X", "f32", ("N",), "out")
    manifest = Manifest("p", "k", (pointer,), (SizeArgument("N"),), (scalar,), threads=32,
                        facts=("n % 2 == 0", "n <= N"))  # fmt: skip
    kernel = Kernel(manifest, b"cubin", lambda sizes: (sizes["n"], 1, 1))
    x = np.zeros(8, "f4")
    for n in (4, 6, 4, 8):
        kernel(x, n)
    assert [grid for grid, *_ in fake.launches] == [(4, 1, 1), (6, 1, 1), (4, 1, 1), (8, 1, 1)]
    for code, n in (("E0836", 3), ("E0836", 10), ("E0837", "4"), ("E0837", 4.0)):
        with pytest.raises(VmError) as caught:
            kernel(x, n)
        assert caught.value.code == code
    assert len(fake.launches) == 4


def test_sizes_that_do_not_fit():
    manifest = Manifest("p", "k", (), (SizeArgument("N * N"),), (), threads=32)
    with pytest.raises(VmError) as caught:
        Parameters(manifest, {"N": 2**16}, [])
    assert caught.value.code == "E0837"


# Host arrays


@pytest.mark.parametrize("size", [1, 127, 128, 129, 1000])
def test_host_arrays_go_in_and_come_out(fake, kernel, size):
    x, y, z = inputs(size)
    kernel(x, y, z, 2.5)
    assert np.array_equal(z, np.float32(2.5) * x + y)
    assert sorted(fake.freed) == sorted(each for each in fake.freed if each in fake.memory)
    assert len(fake.freed) == 3


def test_the_same_host_memory_given_twice_is_copied_once(fake):
    x, _, z = inputs(64)
    Kernel(SCALED_SUM, b"cubin", grid)(x, x, z, 1.0)
    assert np.array_equal(z, x + x)
    assert len(fake.freed) == 2


def test_no_elements_launch_nothing(fake, kernel):
    kernel(*inputs(0), 1.0)
    assert fake.launches == []


def test_memory_is_freed_after_a_fault(fake, kernel):
    fake.results["cuLaunchKernelEx"] = 1
    with pytest.raises(VmError) as caught:
        kernel(*inputs(8), 1.0)
    assert caught.value.code == "E0824" and "scaled_sum" in str(caught.value)
    assert len(fake.freed) == 3
    fake.results["cuMemFree"] = fake.results["cuLaunchKernelEx"] = 700
    with pytest.raises(VmError) as caught:
        kernel(*inputs(8), 1.0)
    assert "cuLaunchKernelEx" in str(caught.value)  # and not the failure to free


def test_checks_come_before_any_launch(fake, kernel):
    x, y, z = inputs(64)
    wrong = [
        ("E0837", (x, y, z)),
        ("E0837", (x, y, z, 1.0, 2.0)),
        ("E0837", (x, y, z, "one")),
        ("E0828", (x, y, [1.0], 1.0)),
        ("E0830", (x, y[:-1], z, 1.0)),
        ("E0829", (x.astype("f8"), y, z, 1.0)),
        ("E0835", (x, y, x, 1.0)),
        ("E0833", (x, y, DeviceArray(z), 1.0)),
    ]
    for code, arguments in wrong:
        with pytest.raises(VmError) as caught:
            kernel(*arguments)
        assert caught.value.code == code
    assert fake.launches == []


# Device arrays


def test_device_arrays_are_used_in_place(fake, kernel):
    x, y, z = inputs(200)
    kernel(*(DeviceArray(each) for each in (x, y, z)), 3.0, stream=9)
    assert np.array_equal(z, np.float32(3.0) * x + y)
    assert fake.launches == [((2, 1, 1), (128, 1, 1), 0, 9, {})]
    assert fake.memory == {}


def test_the_stream_of_the_arrays_is_taken_and_others_are_waited_for(fake, kernel):
    x, y, z = inputs(8)
    kernel(DeviceArray(x), DeviceArray(y, stream=4), DeviceArray(z, stream=5), 1.0)
    assert fake.launches[0][3] == 4
    assert ("cuEventRecord", 0, 5) in fake.calls
    assert ("cuStreamWaitEvent", 4, 0, 0) in fake.calls


def test_prepared_launches(fake, kernel):
    x, y, z = inputs(300)
    prepared = kernel.prepare(*(DeviceArray(each) for each in (x, y, z)), 2.0, stream=3)
    assert fake.launches == []
    before = len(fake.calls)
    prepared.launch()
    assert np.array_equal(z, np.float32(2.0) * x + y)
    x += 1
    prepared.launch()
    assert np.array_equal(z, np.float32(2.0) * x + y)
    assert len(fake.calls) == before
    assert [each[3] for each in fake.launches] == [3, 3]
    with pytest.raises(VmError) as caught:
        kernel.prepare(x, y, z, 2.0)
    assert caught.value.code == "E0838"


def test_host_arrays_cannot_be_captured(fake, kernel):
    fake.captured[6] = 1
    with pytest.raises(VmError) as caught:
        kernel(*inputs(8), 1.0, stream=6)
    assert caught.value.code == "E0838"
    assert fake.launches == []


def test_a_grid_over_the_limit(fake):
    kernel = Kernel(SCALED_SUM, b"cubin", lambda sizes: (1, 65536, 1))
    with pytest.raises(VmError) as caught:
        kernel(*inputs(8), 1.0)
    assert caught.value.code == "E0827"


def test_workspace_and_semaphores_follow_the_arguments(fake):
    fields = SCALED_SUM.as_json() | {"workspace_bytes": "N * 4", "semaphores": "2"}
    seen = []

    def look(blocks, parameters):
        addresses = (ctypes.c_void_p * 7).from_address(parameters)
        seen.append([ctypes.c_uint64.from_address(each).value for each in addresses[5:]])

    fake.kernel = look
    kernel = Kernel(Manifest.from_json(json.loads(json.dumps(fields))), b"cubin", grid)
    arrays = [DeviceArray(each) for each in inputs(5000)]
    kernel(*arrays, 1.0, stream=2)
    device = cuda.device(0)
    assert seen == [[device.workspace(2, 20000), device.semaphores(2, 2)]]
    fake.captured[2] = 5
    kernel(*arrays, 1.0, stream=2)
    assert seen[1][0] != seen[0][0] and seen[1][1] != seen[0][1]


IN_TURN = """vm 1
program p(X: global(f32)[N], Z: out(global(f32))[32], parts: i32) grid (parts) threads 32 {
  sum = global_alloc(f32, [ceil_div(N, 7), 32])
  turn = semaphore_alloc([parts + 2])
  semaphore_wait(turn[0], block_index())
  semaphore_release(turn[0], (block_index() + 1) % parts)
}
"""


def test_a_compiled_program_gets_what_it_declares(fake):
    # Tests rule Embed/launch-memory: zeroed when they are made and not again, one for each stream.
    made = parse(IN_TURN)["p"].instantiate()
    manifest = pipeline.compile_source(made, pipeline.target("sm_90a")).manifest
    seen = []

    def look(blocks, parameters):
        addresses = (ctypes.c_void_p * 6).from_address(parameters)
        workspace, words = (ctypes.c_uint64.from_address(each).value for each in addresses[4:])
        semaphores = (ctypes.c_uint32 * (blocks[0] + 2)).from_address(words)
        seen.append((workspace, words, list(semaphores)))
        semaphores[1] = 7  # a program that does not leave them zero: nobody clears them

    fake.kernel = look
    kernel = Kernel(manifest, b"cubin", compiled.grid_of(made))
    x, z = DeviceArray(np.zeros(700, "f4")), DeviceArray(np.zeros(32, "f4"))
    for stream in (2, 2, 3):
        kernel(x, z, 3, stream=stream)
    device = cuda.device(0)
    first, again, other = seen
    assert first == (device.workspace(2, 100 * 128), device.semaphores(2, 5), [0] * 5)
    assert again == (*first[:2], [0, 7, 0, 0, 0])
    assert other == (device.workspace(3, 100 * 128), device.semaphores(3, 5), [0] * 5)
    assert first[0] != other[0] and first[1] != other[1]
    fake.captured[2] = 5  # a graph has its own: it may run beside later launches of the stream
    kernel(x, z, 3, stream=2)
    assert seen[3][0] not in (first[0], other[0]) and seen[3][2] == [0] * 5


# torch, as far as it can be told without it


class FakeTensor:
    layout, is_quantized, is_cuda = "torch.strided", False, True

    def __init__(self, array, ordinal=0):
        self.array, self.ordinal = array, ordinal
        self.shape, self.dtype, self.device = array.shape, "torch.float32", f"cuda:{ordinal}"

    def is_conj(self):
        return False

    is_neg = is_conj

    def get_device(self):
        return self.ordinal

    def stride(self):
        return tuple(stride // 4 for stride in self.array.strides)

    def is_contiguous(self):
        return self.array.flags.c_contiguous

    def data_ptr(self):
        return self.array.ctypes.data

    def element_size(self):
        return 4


class FakeGuards:
    """torch's check of many tensors at once."""

    made = 0

    def __init__(self, *tensors, dynamic_dims_sizes, dynamic_dims_strides):
        FakeGuards.made += 1
        assert [tuple(each) for each in dynamic_dims_sizes] == [each.shape for each in tensors]
        self.expected = [(each.shape, each.stride(), each.dtype, each.device) for each in tensors]

    def check(self, *tensors):
        if len(tensors) != len(self.expected):
            raise TypeError("wrong length")
        return all(isinstance(each, FakeTensor) for each in tensors) and self.expected == [
            (each.shape, each.stride(), each.dtype, each.device) for each in tensors
        ]


@pytest.fixture(params=["with guards", "without"])
def torch(monkeypatch, request):
    module = types.ModuleType("torch")
    module.Tensor = FakeTensor
    module.stream = 1
    module._C = types.SimpleNamespace(_cuda_getCurrentRawStream=lambda ordinal: module.stream)
    if request.param == "with guards":
        guards = types.SimpleNamespace(TensorGuards=FakeGuards)
        module._C._dynamo = types.SimpleNamespace(guards=guards)
    FakeGuards.made = 0
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def test_a_second_call_only_launches(fake, kernel, torch):
    for turn in range(4):
        x, y, z = inputs(200, seed=turn)
        before = len(fake.calls)
        kernel(FakeTensor(x), FakeTensor(y), FakeTensor(z), 2.0 + turn)
        assert np.array_equal(z, np.float32(2.0 + turn) * x + y)
        assert turn == 0 or len(fake.calls) == before
    assert len(fake.launches) == 4


def test_shapes_may_alternate(fake, kernel, torch):
    sets = [inputs(size, seed=size) for size in (16, 200, 16, 31)]
    for _ in range(3):
        for x, y, z in sets:
            z.fill(np.nan)
            kernel(FakeTensor(x), FakeTensor(y), FakeTensor(z), 2.0)
            assert np.array_equal(z, np.float32(2.0) * x + y)
    assert [each[0][0] for each in fake.launches] == [1, 2, 1, 1] * 3
    assert FakeGuards.made in (0, 3)  # one for each shape, where there are any


def test_devices_do_not_mix(fake, kernel, torch):
    fake.devices = 2
    sets = [(ordinal, inputs(16, seed=ordinal)) for ordinal in (0, 1)]
    for _ in range(3):
        for ordinal, (x, y, z) in sets:
            tensors = [FakeTensor(each, ordinal) for each in (x, y, z)]
            launched = len(cuda.device(ordinal).launched)
            kernel(*tensors, 2.0)
            assert np.array_equal(z, np.float32(2.0) * x + y)
            assert len(cuda.device(ordinal).launched) == launched + 1
    mixed = [FakeTensor(x), FakeTensor(y, 1), FakeTensor(z)]
    with pytest.raises(VmError) as caught:
        kernel(*mixed, 2.0)
    assert caught.value.code == "E0833"


def test_tensors_without_memory_are_not_launched(fake, kernel, torch):
    x, y, z = (FakeTensor(each) for each in inputs(16))
    kernel(x, y, z, 1.0)
    ghost = FakeTensor(inputs(16)[0])
    ghost.data_ptr = lambda: 0
    ghost.device = "meta"
    with pytest.raises(VmError) as caught:
        kernel(ghost, y, z, 1.0)
    assert caught.value.code == "E0833"
    assert len(fake.launches) == 1


def test_the_current_stream_is_asked_for_at_every_call(fake, kernel, torch):
    tensors = [FakeTensor(each) for each in inputs(16)]
    for stream in (1, 8, 1, 8):
        torch.stream = stream
        kernel(*tensors, 1.0)
    kernel(*tensors, 1.0, stream=12)
    assert [each[3] for each in fake.launches] == [1, 8, 1, 8, 12]


def test_known_shapes_are_still_checked(fake, kernel, torch):
    x, y, z = inputs(64)
    tensors = [FakeTensor(each) for each in (x, y, z)]
    kernel(*tensors, 1.0)
    launched = len(fake.launches)
    unaligned = np.frombuffer(bytearray(64 * 4 + 1), "u1")[1:].view("f4")
    strided = np.zeros(128, "f4")[::2]
    short = np.zeros(63, "f4")
    wrong = [
        ("E0835", (tensors[0], tensors[1], FakeTensor(x))),
        ("E0831", (tensors[0], tensors[1], FakeTensor(unaligned))),
        ("E0832", (tensors[0], FakeTensor(strided), tensors[2])),
        ("E0830", (tensors[0], FakeTensor(short), tensors[2])),
    ]
    for code, arguments in wrong:
        with pytest.raises(VmError) as caught:
            kernel(*arguments, 1.0)
        assert caught.value.code == code
    with pytest.raises(VmError) as caught:
        kernel(*tensors)
    assert caught.value.code == "E0837"
    assert len(fake.launches) == launched
    kernel(*tensors, 2.0)
    assert np.array_equal(z, np.float32(2.0) * x + y)


def test_threads_do_not_mix_their_arguments(fake, kernel, torch):
    sets = [inputs(32, seed=index) for index in range(6)]
    wrong = []

    def call_often(x, y, z):
        tensors = [FakeTensor(each) for each in (x, y, z)]
        for turn in range(40):
            kernel(*tensors, float(turn))
            if not np.array_equal(z, np.float32(turn) * x + y):
                wrong.append(turn)

    threads = [threading.Thread(target=call_often, args=each) for each in sets]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def test_import_needs_no_cuda():
    code = "import sys, vm.runtime.launch; print([n for n in sys.modules if n.startswith('cuda')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


ADDITION = """vm 1
program add(A: global(f32)[M, N], C: out(global(f32))[M, N]) grid (M) threads 32 {
  m = block_index()
  store(C[m, 0 +: 64], load(A[m, 0 +: 64]) + 1.0)
}
"""


def test_a_compiled_program_takes_the_variant_that_its_arrays_allow(fake, torch, monkeypatch):
    program = parse(ADDITION)["add"].instantiate()

    def cubin_of(kernel, target, variant):
        manifest = compiled.emitted(kernel, target, variant).manifest
        return Entry(b"cubin", {"manifest": manifest.as_json()})

    taken = []

    def spied(name, original):
        def spy(self, *arguments):
            done = original(self, *arguments)
            if done is not False:
                taken.append((name, self.manifest.pointers[0].alignment))
            return done

        return spy

    for name in ("launch_known", "_call"):
        monkeypatch.setattr(Kernel, name, spied(name, getattr(Kernel, name)))
    monkeypatch.setattr(compiled, "cubin_of", cubin_of)
    fake.kernel = None
    call = compiled.CompiledProgram(program, "sm_90a")
    memory = np.zeros(4096, "f4")
    start = -memory.ctypes.data // 4 % 4  # the first element at a multiple of 16 bytes

    def at(element, columns=8):
        first = start + element
        return FakeTensor(memory[first : first + 2 * columns].reshape(2, columns))

    calls = [
        ((at(0), at(64)), ("_call", 16)),
        ((at(0), at(128)), ("launch_known", 16)),
        ((at(1), at(128)), ("_call", 4)),
        ((at(1), at(128)), ("launch_known", 4)),
        ((at(64), at(128)), ("launch_known", 16)),
        ((at(0, 7), at(64, 7)), ("_call", 4)),
        ((at(0, 7), at(64, 7)), ("launch_known", 4)),
        ((at(0), at(64)), ("launch_known", 16)),
    ]
    for arrays, _ in calls:
        call(*arrays)
    assert taken == [wanted for _, wanted in calls]
