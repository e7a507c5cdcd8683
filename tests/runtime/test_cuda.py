"""The driver API against a fake driver: structures, memory of streams, captures, errors."""

import ctypes
import sys
import threading

import pytest
from cuda.bindings import driver as real

from tests.runtime.fake_driver import CONTEXT, FakeDriver
from vm.errors import VmError
from vm.runtime import cuda
from vm.runtime.cuda import Device, make_launch


@pytest.fixture
def fake(monkeypatch):
    fake = FakeDriver()
    monkeypatch.setattr(cuda, "_initialized", lambda: fake)
    monkeypatch.delenv("VM_SYNCHRONIZE", raising=False)
    return fake


@pytest.fixture
def device(fake):
    return Device(0)


def load(device, program="matmul", threads=128, shared_bytes=0, cluster=1):
    return device.load(b"cubin", "kernel", program, threads, shared_bytes, cluster)


def launch(device, program="matmul", **changes):
    options = {"grid": (2, 3, 4), "threads": 128, "shared_bytes": 1024, "stream": 7} | changes
    parameters = (ctypes.c_void_p * 1)()
    return make_launch(device, load(device, program), parameters=parameters, **options)


def count(fake, name):
    return sum(call[0] == name for call in fake.calls)


def test_structures_have_the_sizes_of_cuda_h():
    assert ctypes.sizeof(cuda._Configuration) == real.sizeof(real.CUlaunchConfig)
    assert ctypes.sizeof(cuda._Attribute) == real.sizeof(real.CUlaunchAttribute)
    identifiers = real.CUlaunchAttributeID
    assert cuda._CLUSTER_DIMENSION == identifiers.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
    serialization = identifiers.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    assert serialization == cuda._PROGRAMMATIC_SERIALIZATION
    named = {int(each): each.name for each in real.CUresult}
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in {named[code] for code in cuda.STICKY}
    assert {named[201], named[400], named[209]} == {
        "CUDA_ERROR_INVALID_CONTEXT",
        "CUDA_ERROR_INVALID_HANDLE",
        "CUDA_ERROR_NO_BINARY_FOR_GPU",
    }


def test_what_a_launch_says(fake, device):
    launch(device)()
    assert fake.launches == [((2, 3, 4), (128, 1, 1), 1024, 7, {})]
    launch(device, pdl=True, cluster=(2, 1, 1), stream=0)()
    assert fake.launches[1] == ((2, 3, 4), (128, 1, 1), 1024, 0, {6: (1, 0, 0), 4: (2, 1, 1)})


def test_pdl_is_left_out_where_there_is_none(monkeypatch):
    fake = FakeDriver(capability=(8, 9))
    monkeypatch.setattr(cuda, "_initialized", lambda: fake)
    launch(Device(0), pdl=True)()
    assert fake.launches[0][-1] == {}


def test_a_launch_calls_nothing_else(fake, device):
    prepared = launch(device)
    before = len(fake.calls)
    for _ in range(3):
        prepared()
    assert len(fake.launches) == 3 and len(fake.calls) == before


@pytest.mark.parametrize(("capability", "target"), [((8, 0), "sm_80"), ((9, 0), "sm_90a")])
def test_target(monkeypatch, capability, target):
    monkeypatch.setattr(cuda, "_initialized", lambda: FakeDriver(capability))
    assert Device(0).target == target


def test_dynamic_shared_memory_over_the_default_is_opted_into(fake, device):
    load(device, shared_bytes=48 << 10)
    assert count(fake, "cuFuncSetAttribute") == 0
    load(device, shared_bytes=100_000)
    name = "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"
    assert ("cuFuncSetAttribute", name, 100_000) in fake.calls
    load(device, cluster=16)
    name = "CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED"
    assert ("cuFuncSetAttribute", name, 1) in fake.calls


def test_what_does_not_fit(fake, device):
    fake.static_shared = 1024
    load(device, shared_bytes=(227 << 10) - 1024)
    for wrong in ({"shared_bytes": (227 << 10) - 1023}, {"threads": 1025}):
        with pytest.raises(VmError) as caught:
            load(device, **wrong)
        assert caught.value.code == "E0827" and "matmul" in str(caught.value)


def test_cubin_of_another_architecture(fake, device):
    fake.results["cuModuleLoadData"] = 209
    with pytest.raises(VmError) as caught:
        load(device)
    assert caught.value.code == "E0826"
    assert "sm_90a" in str(caught.value)


def test_errors_name_the_program(fake, device):
    prepared = launch(device)
    fake.results["cuLaunchKernelEx"] = 1
    with pytest.raises(VmError) as caught:
        prepared()
    assert caught.value.code == "E0824"
    assert "matmul" in str(caught.value) and "CUDA_ERROR_INVALID_VALUE" in str(caught.value)
    fake.results.clear()
    prepared()  # not sticky


def test_a_lost_context_is_told_with_the_program_that_lost_it(fake, device):
    launch(device, "softmax")()
    device.synchronize()
    launch(device, "matmul")()
    fake.results["cuCtxSynchronize"] = 700
    with pytest.raises(VmError) as caught:
        device.synchronize()
    assert caught.value.code == "E0825"
    assert "matmul is the only program" in str(caught.value)
    assert "softmax" not in str(caught.value)  # it ended well before
    fake.results["cuLaunchKernelEx"] = 700
    with pytest.raises(VmError) as caught:
        launch(device, "softmax")()
    assert caught.value.code == "E0825"
    text = str(caught.value)
    assert "softmax cannot run" in text and "matmul" in text and "ILLEGAL_ADDRESS" in text


def test_several_suspects_are_listed_newest_first(fake, device):
    for program in ("first", "second", "first"):
        launch(device, program)()
    fake.results["cuStreamSynchronize"] = 719
    with pytest.raises(VmError, match="newest first: first, second"):
        device.synchronize("first", 7)


def test_waiting_after_each_launch_names_the_one(fake, monkeypatch):
    monkeypatch.setenv("VM_SYNCHRONIZE", "1")
    device = Device(0)
    launch(device, "good")()
    assert ("cuStreamSynchronize", 7) in fake.calls
    fake.results["cuStreamSynchronize"] = 716
    with pytest.raises(VmError, match="bad faulted"):
        launch(device, "bad")()
    fake.results.clear()
    fake.captured[7] = 1
    before = count(fake, "cuStreamSynchronize")
    launch(device, "good")()
    assert count(fake, "cuStreamSynchronize") == before  # a capture must not wait


def test_a_thread_without_a_context(fake, device):
    prepared = launch(device)
    fake.context = 0  # as in a new thread
    prepared()
    assert len(fake.launches) == 1 and fake.context == CONTEXT


def test_another_context_is_put_back(fake, device):
    prepared = launch(device)
    fake.context = 0xBAD
    prepared()
    assert len(fake.launches) == 1 and fake.context == 0xBAD


def test_workspace_belongs_to_a_stream_and_grows(fake, device):
    one = device.workspace(1, 5000)
    assert device.workspace(1, 4000) == one
    assert device.workspace(2, 4000) != one
    larger = device.workspace(1, 5001)
    assert larger != one and len(fake.memory[larger]) >= 10000
    assert device.workspace(1, 10000) == larger
    assert fake.freed == []  # a graph may hold the smaller one


def test_semaphores_are_zero_once(fake, device):
    pointer = device.semaphores(1, 100)
    words = (ctypes.c_uint32 * 1024).from_address(pointer)
    assert not any(words)
    words[3] = 9
    assert device.semaphores(1, 1000) == pointer and words[3] == 9
    zeroed = count(fake, "cuMemsetD8Async")
    assert zeroed == 1
    assert device.workspace(1, 64) != pointer


def test_a_capture_has_its_own_memory(fake, device):
    eager = device.workspace(1, 100)
    fake.captured[1] = 11
    first = device.workspace(1, 100)
    assert first != eager and device.workspace(1, 100) == first
    fake.captured[1] = 12
    assert device.workspace(1, 100) not in (eager, first)
    del fake.captured[1]
    assert device.workspace(1, 100) == eager
    modes = [call[1] for call in fake.calls if call[0] == "cuThreadExchangeStreamCaptureMode"]
    relaxed = real.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    assert modes.count(relaxed) == len(modes) / 2  # every one is put back


def test_threads_get_one_workspace(fake, device):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(device.workspace(3, 1 << 20)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_streams_are_ordered_by_an_event(fake, device):
    before = len(fake.calls)
    device.order(5, 6)
    names = [call[0] for call in fake.calls[before:]]
    assert names == ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy"]


def test_unknown_results_are_told_by_number(fake, device):
    assert device._explain(123456) == ("CUresult 123456", "unknown error")


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    cuda._initialized.cache_clear()
    with pytest.raises(VmError) as caught:
        cuda.device(0)
    assert caught.value.code == "E0820"


@pytest.mark.parametrize("result", [100, RuntimeError("Failed to dlopen libcuda.so.1")])
def test_no_gpu(monkeypatch, result):
    class Absent:
        @staticmethod
        def cuInit(flags):
            if isinstance(result, Exception):
                raise result
            return (real.CUresult(result),)

        @staticmethod
        def cuGetErrorString(code):
            return (0, b"no CUDA-capable device is detected")

    monkeypatch.setattr(cuda, "import_bindings", lambda name: Absent)
    cuda._initialized.cache_clear()
    with pytest.raises(VmError) as caught:
        cuda.device(0)
    assert caught.value.code == "E0821"
    assert "vm doctor" in str(caught.value)


def test_no_such_device(fake):
    with pytest.raises(VmError) as caught:
        cuda.device(3)
    assert caught.value.code == "E0821"
    assert "cuda:3" in str(caught.value)
