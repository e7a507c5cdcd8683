"""The two ceilings of the machine at hand: bytes read from HBM per second, f16 flops per second.

Reading: the fastest of a few read-only kernels over 2 GiB. Both families check what they read, by
a sum that torch computes too. Multiplying: the fastest of a few cuBLAS products on random data.
A ceiling is the fastest sample, not the median.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.peers.peer import Prepared
from benchmarks.timing import TimedGraph, capture, interleaved_samples

READ_BYTES = 2 << 30
TILE_BYTES = 32 << 10
STAGES = 6
THREADS = 512
PLAIN_VARIANTS = ((2, 8), (4, 4), (4, 8), (8, 4))
"""Blocks per multiprocessor and 16-byte loads in flight per thread."""
MATRIX_SIZES = (4096, 6144, 8192)
ROUNDS = 9
REST_SECONDS = 0.5

SOURCE = r"""
typedef unsigned int u32;
typedef unsigned long long u64;

// Every thread has LOADS independent 16-byte loads in flight; adds up all 32-bit words.
template <int LOADS>
__device__ void read_plain(const uint4* data, u64 count, u32* sum) {
  const u64 stride = (u64)gridDim.x * blockDim.x;
  u32 total = 0;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += LOADS * stride) {
    uint4 piece[LOADS];
#pragma unroll
    for (int j = 0; j < LOADS; ++j) {
      piece[j] = make_uint4(0, 0, 0, 0);
      if (i + j * stride < count) {
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(piece[j].x), "=r"(piece[j].y), "=r"(piece[j].z), "=r"(piece[j].w)
                     : "l"(data + i + j * stride));
      }
    }
#pragma unroll
    for (int j = 0; j < LOADS; ++j) total += piece[j].x + piece[j].y + piece[j].z + piece[j].w;
  }
  for (int lane = 16; lane > 0; lane /= 2) total += __shfl_xor_sync(~0u, total, lane);
  if (threadIdx.x % 32 == 0) atomicAdd(sum, total);
}
extern "C" __global__ void read_plain_4(const uint4* data, u64 count, u32* sum) {
  read_plain<4>(data, count, sum);
}
extern "C" __global__ void read_plain_8(const uint4* data, u64 count, u32* sum) {
  read_plain<8>(data, count, sum);
}

#if __CUDA_ARCH__ >= 900
// One thread keeps STAGES bulk copies of TILE_BYTES in flight; adds up each tile's first word.
extern "C" __global__ void read_bulk(const char* data, u64 bytes, u32* sum) {
  extern __shared__ __align__(128) char ring[];
  __shared__ u64 landed[STAGES];
  if (threadIdx.x != 0) return;
  const u32 ring_address = (u32)__cvta_generic_to_shared(ring);
  const u32 landed_address = (u32)__cvta_generic_to_shared(landed);
  for (int stage = 0; stage < STAGES; ++stage) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(landed_address + 8 * stage));
  }
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  const u64 tiles = bytes / TILE_BYTES;
  auto issue = [&](u64 tile, int stage) {
    if (tile >= tiles) return;
    const u32 barrier = landed_address + 8 * stage;
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 ::"r"(barrier), "r"(TILE_BYTES) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];"
                 ::"r"(ring_address + stage * TILE_BYTES), "l"(data + tile * TILE_BYTES),
                 "r"(TILE_BYTES), "r"(barrier) : "memory");
  };
  for (int stage = 0; stage < STAGES; ++stage) issue(blockIdx.x + (u64)stage * gridDim.x, stage);
  u32 total = 0, step = 0;
  for (u64 tile = blockIdx.x; tile < tiles; tile += gridDim.x, ++step) {
    const int stage = step % STAGES;
    u32 done = 0;
    while (!done) {
      asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
                   "selp.u32 %0, 1, 0, p; }"
                   : "=r"(done) : "r"(landed_address + 8 * stage), "r"((step / STAGES) & 1)
                   : "memory");
    }
    total += *(volatile u32*)(ring + stage * TILE_BYTES);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    issue(tile + (u64)STAGES * gridDim.x, stage);
  }
  atomicAdd(sum, total);
}
#endif
"""


@dataclass(frozen=True)
class Ceiling:
    """The best rate, in bytes or flops per second, and the rate of every variant tried."""

    best: float
    variants: dict[str, float]


def compile_source(architecture: str) -> bytes:
    """The read kernels as a cubin for an `sm_..` architecture; RuntimeError with NVRTC's log."""
    from cuda.bindings import nvrtc

    program = succeeded(nvrtc.nvrtcCreateProgram(SOURCE.encode(), b"ceilings.cu", 0, [], []))
    options = [
        f"--gpu-architecture={architecture}".encode(),
        f"-DTILE_BYTES={TILE_BYTES}".encode(),
        f"-DSTAGES={STAGES}".encode(),
    ]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status):
        log = b" " * succeeded(nvrtc.nvrtcGetProgramLogSize(program))
        succeeded(nvrtc.nvrtcGetProgramLog(program, log))
        raise RuntimeError(log.decode())
    cubin = b" " * succeeded(nvrtc.nvrtcGetCUBINSize(program))
    succeeded(nvrtc.nvrtcGetCUBIN(program, cubin))
    return cubin


def succeeded(answer: tuple[Any, ...]) -> Any:
    """The value of a cuda-bindings call; RuntimeError if its status is not success."""
    status, *values = answer
    if int(status):
        raise RuntimeError(str(status))
    return values[0] if len(values) == 1 else values


def read_bandwidth() -> Ceiling:
    """Bytes per second of the fastest read-only kernel."""
    import torch
    from cuda.bindings import driver

    data = torch.randint(-(2**31), 2**31 - 1, (READ_BYTES // 4,), dtype=torch.int32, device="cuda")
    everything = int(data.sum(dtype=torch.int64)) % 2**32
    first_words = int(data[:: TILE_BYTES // 4].sum(dtype=torch.int64)) % 2**32
    multiprocessors = torch.cuda.get_device_properties(0).multi_processor_count
    major, minor = torch.cuda.get_device_capability()
    suffix = "a" if major >= 9 else ""
    module = succeeded(driver.cuModuleLoadData(compile_source(f"sm_{major}{minor}{suffix}")))
    total = torch.zeros(1, dtype=torch.int32, device="cuda")

    def launcher(kernel: str, blocks: int, threads: int, shared: int, count: int) -> Callable:
        function = succeeded(driver.cuModuleGetFunction(module, kernel.encode()))
        if shared:
            attribute = driver.CUfunction_attribute
            succeeded(
                driver.cuFuncSetAttribute(
                    function, attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared
                )
            )
        values = (data.data_ptr(), count, total.data_ptr())
        types = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)

        def launch() -> None:
            stream = torch.cuda.current_stream().cuda_stream
            grid = (blocks, 1, 1, threads, 1, 1, shared, stream)
            succeeded(driver.cuLaunchKernel(function, *grid, (values, types), 0))

        return launch

    variants: dict[str, tuple[Callable, int]] = {
        f"{loads} x 16-byte loads, {per} blocks of {THREADS} threads": (
            launcher(f"read_plain_{loads}", per * multiprocessors, THREADS, 0, READ_BYTES // 16),
            everything,
        )
        for per, loads in PLAIN_VARIANTS
    }
    if major >= 9:
        variants[f"bulk copies, {STAGES} x {TILE_BYTES >> 10} KiB in flight"] = (
            launcher("read_bulk", multiprocessors, 32, STAGES * TILE_BYTES, READ_BYTES),
            first_words,
        )
    for name, (launch, expected) in variants.items():
        total.zero_()
        launch()
        if int(total) % 2**32 != expected:
            raise RuntimeError(f"the read kernel with {name} did not read what it should")
    graphs = [capture_one(launch) for launch, _ in variants.values()]
    samples = interleaved_samples(graphs, ROUNDS)
    rates = {
        name: READ_BYTES / (1e-6 * min(each)) for name, each in zip(variants, samples, strict=True)
    }
    return Ceiling(max(rates.values()), rates)


def f16_peak() -> Ceiling:
    """Flops per second of the fastest of a few square f16 cuBLAS products on random data.

    Each size starts from a rested chip: after some 10 ms the power limit lowers the clock, by how
    much depends on the boot, and a ceiling is what no kernel passes.
    """
    import torch

    rates: dict[str, float] = {}
    for size in MATRIX_SIZES:
        left, right = (torch.randn(size, size, device="cuda").half() for _ in range(2))
        product = torch.empty_like(left)
        timed = capture_one(partial(torch.matmul, left, right, out=product))
        time.sleep(REST_SECONDS)
        (samples,) = interleaved_samples([timed], ROUNDS, warm_up_seconds=0.0)
        rates[f"{size}^3"] = 2 * size**3 / (1e-6 * min(samples))
    return Ceiling(max(rates.values()), rates)


def capture_one(launch: Callable[[], None]) -> TimedGraph:
    """Four calls of one launch; 2 GiB needs no rotation to be cold."""
    return capture(Prepared((launch,), (), ""), calls=4)
