"""The device side on a GPU: answers, streams, graphs, faults, and what a launch costs.

Run with `python -m pytest tests/gpu -m gpu -s`; needs torch, and CuPy and JAX where they are.
"""

import ctypes
import functools
import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import vm
from vm.errors import VmError
from vm.runtime import cuda
from vm.runtime.cache import Cache, Entry, entry_key
from vm.runtime.launch import Kernel
from vm.runtime.manifest import Manifest, PointerArgument, ScalarArgument, SizeArgument
from vm.runtime.nvrtc import compile_cubin, toolchain

pytestmark = pytest.mark.gpu

SCALED_SUM = """
extern "C" __global__ void scaled_sum(const float *x, const float *y, float *z, int n,
                                      float alpha) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) z[i] = alpha * x[i] + y[i];
}
"""

# Sums in two stages: blocks leave parts in the workspace, and the last one, which a semaphore tells
# it is, adds them in order and puts the semaphore back to zero.
TOTAL = """
extern "C" __global__ void total(const float *x, float *sum, int n, float *parts, unsigned *count) {
  float part = 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 256; ++i) {
      int at = blockIdx.x * 256 + i;
      if (at < n) part += x[at];
    }
    parts[blockIdx.x] = part;
    __threadfence();
    if (atomicAdd(count, 1) == gridDim.x - 1) {
      float all = 0;
      for (int i = 0; i < gridDim.x; ++i) all += ((volatile float *)parts)[i];
      sum[0] = all;
      count[0] = 0;
    }
  }
}
"""

# Each block writes its rank in the cluster and reverses 25,000 floats through shared memory.
REVERSE = """
extern "C" __global__ void reverse(const float *x, float *y, int *rank) {
  extern __shared__ float tile[];
  unsigned mine;
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(mine));
  for (int i = threadIdx.x; i < 25000; i += blockDim.x) tile[i] = x[blockIdx.x * 25000 + i];
  __syncthreads();
  for (int i = threadIdx.x; i < 25000; i += blockDim.x) y[blockIdx.x * 25000 + i] = tile[24999 - i];
  if (threadIdx.x == 0) rank[blockIdx.x] = mine;
  asm volatile("griddepcontrol.launch_dependents;");
}
"""

# As many parameters as a quantized product takes, and no work.
EMPTY = """
extern "C" __global__ void empty(const void *a, const void *p, const void *s, const void *z,
                                 void *c, int m, int n, int k) {}
"""


@pytest.fixture(scope="module")
def torch():
    return importlib.import_module("torch")


@functools.cache
def compiled(source, name):
    return compile_cubin(source, cuda.device(0).target, name)


def vector(name, dtype="f32", **changes):
    return PointerArgument(name, dtype, ("N",), **changes)


def scaled_sum():
    manifest = Manifest(
        "scaled_sum",
        "scaled_sum",
        (vector("X"), vector("Y"), vector("Z", access="out")),
        (SizeArgument("N"),),
        (ScalarArgument("alpha", "f32"),),
        threads=128,
    )
    cubin = compiled(SCALED_SUM, "scaled_sum").cubin
    return Kernel(manifest, cubin, lambda sizes: (-(-sizes["N"] // 128), 1, 1))


def total():
    manifest = Manifest(
        "total",
        "total",
        (vector("X"), PointerArgument("S", "f32", ("1",), access="out")),
        (SizeArgument("N"),),
        (),
        threads=32,
        workspace_bytes="ceil_div(N, 256) * 4",
        semaphores="1",
    )
    cubin = compiled(TOTAL, "total").cubin
    return Kernel(manifest, cubin, lambda sizes: (-(-sizes["N"] // 256), 1, 1))


def reverse():
    manifest = Manifest(
        "reverse",
        "reverse",
        (
            PointerArgument("X", "f32", ("B", "25000")),
            PointerArgument("Y", "f32", ("B", "25000"), access="out"),
            PointerArgument("R", "i32", ("B",), access="out"),
        ),
        (),
        (),
        threads=256,
        shared_bytes=100_000,
        pdl=True,
        cluster=(2, 1, 1),
    )
    cubin = compiled(REVERSE, "reverse").cubin
    return Kernel(manifest, cubin, lambda sizes: (sizes["B"], 1, 1))


def whole(size, seed):
    """Whole numbers small enough that every sum of them is exact in f32."""
    return np.random.default_rng(seed).integers(-100, 100, size).astype("f4")


SIZES = [1, 127, 128, 129, 100_003]


@pytest.mark.parametrize("size", SIZES)
def test_host_arrays(size):
    x, y, z = whole(size, 0), whole(size, 1), np.full(size, np.nan, "f4")
    scaled_sum()(x, y, z, 3.0)
    assert np.array_equal(z, 3 * x + y)


@pytest.mark.parametrize("size", SIZES)
def test_torch_tensors_in_place(torch, size):
    kernel = scaled_sum()
    for seed in range(3):
        x, y = whole(size, seed), whole(size, seed + 10)
        tensors = [torch.tensor(each, device="cuda") for each in (x, y)]
        z = torch.full((size,), float("nan"), device="cuda")
        address = z.data_ptr()
        kernel(*tensors, z, 2.0 + seed)
        assert z.data_ptr() == address
        assert np.array_equal(z.cpu().numpy(), (2 + seed) * x + y)


def test_cupy_arrays():
    cupy = importlib.import_module("cupy")
    x, y = whole(1000, 0), whole(1000, 1)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        given = [cupy.asarray(each) for each in (x, y)]
        z = cupy.full(1000, cupy.nan, "f4")
        scaled_sum()(*given, z, 3.0)
        stream.synchronize()
    assert np.array_equal(cupy.asnumpy(z), 3 * x + y)


def test_dlpack_arrays(torch):
    class OnlyDlpack:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

        def __dlpack__(self, **options):
            return self.tensor.__dlpack__(**options)

    x, y = whole(1000, 0), whole(1000, 1)
    z = torch.full((1000,), float("nan"), device="cuda")
    given = [torch.tensor(each, device="cuda") for each in (x, y)]
    scaled_sum()(*(OnlyDlpack(each) for each in (*given, z)), 3.0)
    assert np.array_equal(z.cpu().numpy(), 3 * x + y)


def test_torch_dtypes_are_told_by_their_names(torch):
    from vm.runtime.arrays import describe

    for name, ours in {"bfloat16": "bf16", "float8_e4m3fn": "f8e4m3", "uint8": "u8"}.items():
        tensor = torch.zeros((4, 8), device="cuda").to(getattr(torch, name)).t()
        described = describe(tensor)
        assert (described.dtype, described.device) == (ours, "cuda:0")
        assert (described.shape, described.strides) == ((8, 4), (1, 8))


def test_the_current_stream_is_used(torch):
    # Tests rule Order/launch.
    kernel = scaled_sum()
    size = 1 << 20
    x, z = torch.ones(size, device="cuda"), torch.zeros(size, device="cuda")
    stream = torch.cuda.Stream()
    for turn in range(20):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(2_000_000)  # what follows is wrong unless it waits for this stream
            x.fill_(turn)
            kernel(x, x, z, 2.0)
            after = z.clone()
        stream.synchronize()
        assert torch.all(after == 3 * turn)


def test_workspace_and_semaphores_over_many_launches(torch):
    kernel = total()
    for size in (5, 256, 257, 70_001):
        for seed in range(5):
            x = whole(size, seed)
            given, result = torch.tensor(x, device="cuda"), torch.full((1,), -1.0, device="cuda")
            kernel(given, result)
            kernel(given, result)
            assert result.item() == x.sum(dtype="f8")


@pytest.mark.parametrize("warm", [True, False])
def test_graphs(torch, warm):
    """Captured also as the very first call: loading and allocating are no part of the graph."""
    size = 50_001
    kernel, adding = total(), scaled_sum()
    x = torch.tensor(whole(size, 0), device="cuda")
    y, result = torch.zeros(size, device="cuda"), torch.zeros(1, device="cuda")
    if warm:
        adding(x, x, y, 2.0)
        kernel(y, result)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        adding(x, x, y, 2.0)
        kernel(y, result)
    for seed in range(4):
        values = whole(size, seed + 20)
        x.copy_(torch.tensor(values))
        y.fill_(float("nan"))
        result.fill_(float("nan"))
        graph.replay()
        kernel(x, torch.empty(1, device="cuda"))  # has other memory than the graph
        assert result.item() == 3 * values.sum(dtype="f8")


def test_prepared_launches_in_a_graph(torch):
    x, y, z = (torch.zeros(1000, device="cuda") for _ in range(3))
    stream = torch.cuda.Stream()
    prepared = scaled_sum().prepare(x, y, z, 5.0, stream=stream.cuda_stream)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(3):
            prepared.launch()
    x.fill_(2)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.all(z == 10)


def test_shared_memory_clusters_and_dependent_launches(torch):
    """On Hopper and later: no other test here needs that."""
    kernel = reverse()
    x = torch.arange(8 * 25000, device="cuda", dtype=torch.float32).reshape(8, 25000)
    once, twice = torch.full_like(x, -1), torch.full_like(x, -1)
    ranks = torch.full((8,), -1, device="cuda", dtype=torch.int32)
    for _ in range(50):  # each begins before the one ahead of it has ended, and waits itself
        kernel(x, once, ranks)
        kernel(once, twice, ranks)
    assert torch.equal(once, x.flip(1)) and torch.equal(twice, x)
    assert ranks.tolist() == [0, 1] * 4


def test_a_thread_that_never_used_the_gpu(torch):
    x, y, z = (torch.full((1000,), 2.0, device="cuda") for _ in range(3))
    prepared = scaled_sum().prepare(x, y, z, 4.0)
    thread = threading.Thread(target=prepared.launch)
    thread.start()
    thread.join()
    torch.cuda.synchronize()
    assert torch.all(z == 10)


def test_another_architecture(torch):
    other = "sm_80" if cuda.device(0).capability >= (9, 0) else "sm_90a"
    cubin = compile_cubin(SCALED_SUM, other, "scaled_sum").cubin
    kernel = Kernel(scaled_sum().manifest, cubin, lambda sizes: (1, 1, 1))
    x, y, z = (torch.zeros(10, device="cuda") for _ in range(3))
    with pytest.raises(VmError) as caught:
        kernel(x, y, z, 1.0)
    assert caught.value.code == "E0826"


FAULT = """
import torch
from vm.errors import VmError
from vm.runtime import cuda
from vm.runtime.launch import Kernel
from vm.runtime.manifest import Manifest, PointerArgument, SizeArgument
from vm.runtime.nvrtc import compile_cubin

def kernel(program, body):
    source = f'extern "C" __global__ void k(float *x, int n) {{ {body} }}'
    pointers = (PointerArgument("X", "f32", ("N",), access="out"),)
    manifest = Manifest(program, "k", pointers, (SizeArgument("N"),), (), threads=32)
    cubin = compile_cubin(source, cuda.device(0).target, "k").cubin
    return Kernel(manifest, cubin, lambda sizes: (1, 1, 1))

x = torch.zeros(32, device="cuda")
good = kernel("good_program", "x[0] = 1;")
bad = kernel("bad_program", "*(float *)(1ull << 60) = 1;")
good(x)
cuda.device(0).synchronize()
for step in (lambda: bad(x), lambda: cuda.device(0).synchronize(), lambda: good(x)):
    try:
        step()
        print("none |")
    except VmError as error:
        print(error.code, "|", error.diagnostics[0].message)
"""


@pytest.mark.parametrize("wait", [False, True])
def test_faults_name_the_program(wait):
    environment = os.environ | {"VM_SYNCHRONIZE": "1" if wait else "0"}
    run = subprocess.run(
        [sys.executable, "-c", FAULT], capture_output=True, text=True, env=environment, check=False
    )
    lines = [line.split(" | ") for line in run.stdout.splitlines()]
    print(run.stdout, run.stderr[-500:])
    assert [line[0] for line in lines] == ["E0825" if wait else "none |", "E0825", "E0825"]
    assert "bad_program" in lines[1][1] and "ILLEGAL" in lines[1][1]
    assert "good_program cannot run" in lines[2][1] and "bad_program" in lines[2][1]
    if wait:
        assert "bad_program faulted" in lines[0][1]


# What it costs

BARE = """
typedef int (*Launch)(const void *, void *, void **, void **);
extern "C" int many(Launch launch, const void *configuration, void *function, void **parameters,
                    int count) {
  int code = 0;
  for (int i = 0; i < count; ++i) code |= launch(configuration, function, parameters, 0);
  return code;
}
"""
SAME_SIGNATURE = """vm 1

program touch(A: global(f16)[M, K], P: global(u8)[K / 64, N / 128, 4096],
              S: global(f16)[K / 128, N], Z: global(u4)[K / 128, N], C: out(global(f16))[M, N])
  grid (1) threads 128 where K % 128 == 0, N % 128 == 0, aligned(A, 16), aligned(P, 16)
{
  store(C[0 +: 1, 0 +: 128], fill(0.0, dtype=f16, shape=[1, 128]))
}
"""
COUNT = 300  # launches in flight: under the depth of the queue, so that none waits for the GPU


def seconds_each(run, torch):
    """The least over repeated batches of the seconds per launch, which is the cost on a quiet
    processor; the GPU is idle at the start of each."""
    found = []
    for _ in range(12):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) / COUNT)
    return min(found)


def note(**numbers):
    """Print, and keep where the caller of the tests wants it."""
    print(json.dumps(numbers))
    if "OUT" in os.environ:
        with open(os.path.join(os.environ["OUT"], "launch.json"), "a") as file:
            file.write(json.dumps(numbers) + "\n")


def bare_loop(folder):
    """A C function that calls cuLaunchKernelEx over and over."""
    (folder / "many.cpp").write_text(BARE)
    library = folder / "many.so"
    command = ["g++", "-O2", "-shared", "-fPIC", str(folder / "many.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).many


def test_cost_of_a_launch(torch, tmp_path):
    shape = ("M", "K")
    manifest = Manifest(
        "empty",
        "empty",
        (
            PointerArgument("A", "f16", shape, alignment=16),
            PointerArgument("P", "u8", ("K / 64", "N / 128", "4096"), alignment=16),
            PointerArgument("S", "f16", ("K / 128", "N")),
            PointerArgument("Z", "u4", ("K / 128", "N")),
            PointerArgument("C", "f16", ("M", "N"), access="out"),
        ),
        (SizeArgument("M"), SizeArgument("N"), SizeArgument("K")),
        (),
        threads=128,
        facts=("K % 128 == 0", "N % 128 == 0"),
    )
    kernel = Kernel(manifest, compiled(EMPTY, "empty").cubin, lambda sizes: (1, 1, 1))
    half = {"device": "cuda", "dtype": torch.float16}
    byte = {"device": "cuda", "dtype": torch.uint8}
    arrays = (
        torch.zeros((16, 1024), **half),
        torch.zeros((16, 8, 4096), **byte),
        torch.zeros((8, 1024), **half),
        torch.zeros((8, 512), **byte),
        torch.zeros((16, 1024), **half),
    )
    other = (*arrays[:4], torch.zeros((16, 1024), **half))
    kernel(*arrays)
    prepared = kernel.prepare(*arrays)
    cells = inspect.getclosurevars(prepared.launch).nonlocals
    function, (configuration, handle, parameters, extra) = (
        cells["invoke"].func,
        cells["invoke"].args,
    )

    def bare_python():
        for _ in range(COUNT):
            function(configuration, handle, parameters, extra)

    def prepared_launches():
        launch = prepared.launch
        for _ in range(COUNT):
            launch()

    def full_calls():
        for _ in range(COUNT):
            kernel(*arrays)

    program = vm.compile(vm.parse(SAME_SIGNATURE)["touch"])
    program(*arrays)

    def calls_of_a_compiled_program():
        for _ in range(COUNT):
            program(*arrays)

    def full_calls_other_output():
        for _ in range(COUNT // 2):
            kernel(*arrays)
            kernel(*other)

    many, address = bare_loop(tmp_path), ctypes.cast(function, ctypes.c_void_p)

    def bare_c():
        assert many(address, configuration, handle, parameters, COUNT) == 0

    runs = {
        "bare_c": bare_c,
        "bare_python": bare_python,
        "prepared": prepared_launches,
        "full": full_calls,
        "program": calls_of_a_compiled_program,
        "full_other_output": full_calls_other_output,
    }
    rounds = [{name: seconds_each(run, torch) for name, run in runs.items()} for _ in range(15)]
    best = {name: min(each[name] for each in rounds) * 1e6 for name in runs}
    note(what="microseconds a launch", **{name: round(value, 3) for name, value in best.items()})
    assert best["prepared"] - best["bare_python"] < 0.5
    assert best["full"] - best["bare_python"] < 3
    assert best["program"] - best["bare_python"] < 3
    assert best["full_other_output"] - best["bare_python"] < 5  # addresses are checked again


def test_cost_of_a_warm_load(torch, tmp_path):
    device = cuda.device(0)
    steps = "".join(f"a[{i % 16}] = a[{(i * 7 + 3) % 16}] * b[{i}] + {i}.5f;" for i in range(800))
    source = f"""extern "C" __global__ void long_one(float *x, const float *b) {{
      float a[16]; for (int i = 0; i < 16; ++i) a[i] = x[i * 32 + threadIdx.x];
      {steps} for (int i = 0; i < 16; ++i) x[i * 32 + threadIdx.x] = a[i]; }}"""
    manifest = Manifest(
        "long_one",
        "long_one",
        (
            PointerArgument("X", "f32", ("512",), access="inout"),
            PointerArgument("B", "f32", ("N",)),
        ),
        (),
        (),
        threads=32,
    )
    x, b = torch.zeros(512, device="cuda"), torch.zeros(800, device="cuda")

    def compile():
        cubin = compile_cubin(source, device.target, "long_one").cubin
        return Entry(cubin, manifest.as_json())

    def load():
        start = time.perf_counter()
        key = entry_key(source, device.target, [], {"toolchain": toolchain(), "vm": "0"})
        entry = Cache(tmp_path).get_or_compile(key, compile)
        found = Manifest.from_json(entry.metadata)
        kernel = Kernel(found, entry.payload, lambda sizes: (1, 1, 1))
        kernel.prepare(x, b).launch()
        return time.perf_counter() - start, len(entry.payload)

    cold, size = load()
    warm = statistics.median(load()[0] for _ in range(20))
    note(what="milliseconds a load", cold=cold * 1e3, warm=warm * 1e3, cubin_bytes=size)
    assert warm < 5e-3
