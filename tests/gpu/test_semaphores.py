"""Blocks that wait for each other, on the GPU: right, the same bits a thousand times, semaphores
left zero, in graphs, and on grids that do not fit the device at once."""

from __future__ import annotations

from pathlib import Path

import pytest

import vm

pytestmark = pytest.mark.gpu

SPLIT = vm.load(Path("programs") / "matmul_split_k.vm")
PERSISTENT = vm.load(Path("programs") / "matmul_persistent.vm")
# (program, constants, M, N, K)
PRODUCTS = [
    ("split_k", {"SPLITS": 4}, 64, 512, 4096),
    ("split_k", {"SPLITS": 16}, 33, 190, 8192),
    ("split_k", {"SPLITS": 64}, 512, 512, 4096),  # 4096 blocks: far more than run at once
    ("stream_k", {"BLOCKS": 132}, 64, 4096, 4096),
    ("stream_k", {"BLOCKS": 132}, 77, 130, 2000),  # one tile is shared by many blocks
    ("stream_k", {"BLOCKS": 1000}, 256, 1024, 1024),  # some begin when others have ended
    ("stream_k", {"BLOCKS": 7}, 1, 1, 100),
]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def operands(torch, m: int, n: int, k: int, seed: int):
    """Random matrices on the device, and room for the result that holds NaN."""
    generator = torch.Generator(device="cuda").manual_seed(seed)
    a, b = (
        torch.randn(shape, generator=generator, device="cuda", dtype=torch.float16)
        for shape in ((m, k), (k, n))
    )
    return a, b, torch.full((m, n), float("nan"), device="cuda", dtype=torch.float16)


def close(torch, c, a, b) -> bool:
    """Within the rounding of f16 and of sums of K products in f32."""
    exact = a.double() @ b.double()
    bound = exact.abs() * 2.0**-11 + (a.double().abs() @ b.double().abs()) * a.shape[1] * 2.0**-23
    return bool(((c.double() - exact).abs() <= bound + 2.0**-24).all())


@pytest.mark.parametrize(("program", "constants", "m", "n", "k"), PRODUCTS)
def test_the_same_bits_a_thousand_times(torch, program, constants, m, n, k):
    kernel = vm.compile(SPLIT[program], **constants)
    a, b, c = operands(torch, m, n, k, seed=m + n)
    kernel(a, b, c)
    first = c.clone()
    assert close(torch, first, a, b)
    differ = torch.zeros((), device="cuda", dtype=torch.int64)
    for _ in range(1000):
        c.fill_(float("nan"))
        kernel(a, b, c)
        differ += (c.view(torch.int16) != first.view(torch.int16)).sum()
    assert differ.item() == 0


@pytest.mark.parametrize("program", ["split_k", "stream_k"])
def test_launches_of_several_shapes_and_streams_do_not_disturb_each_other(torch, program):
    """They share the memory of their stream, one after another, and have others' beside them."""
    kernel = vm.compile(SPLIT[program])
    shapes = [(64, 512, 1024), (200, 64, 512), (1, 64, 2048), (130, 700, 96)]
    given = [operands(torch, *shape, seed=number) for number, shape in enumerate(shapes)]
    streams = [torch.cuda.Stream() for _ in range(3)]
    torch.cuda.synchronize()
    for turn in range(30):
        with torch.cuda.stream(streams[turn % 3]):
            results = [torch.empty_like(c) for _, _, c in given]
            for (a, b, _), c in zip(given, results, strict=True):
                kernel(a, b, c)
        torch.cuda.synchronize()
        assert all(close(torch, c, a, b) for (a, b, _), c in zip(given, results, strict=True))


@pytest.mark.parametrize("program", ["split_k", "stream_k"])
def test_graphs(torch, program):
    kernel = vm.compile(SPLIT[program])
    a, b, c = operands(torch, 64, 512, 2048, seed=9)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        kernel(a, b, c)
    for seed in range(5):
        other, _, _ = operands(torch, 64, 512, 2048, seed=seed)
        a.copy_(other)
        c.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        assert close(torch, c, a, b)


def test_a_ring_goes_on_from_tile_to_tile(torch):
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("bulk copies need sm_90")
    for blocks, m, n, k in ((132, 512, 4096, 1024), (3, 45, 131, 77), (200, 64, 64, 640)):
        a, w, c = operands(torch, m, n, k, seed=blocks)
        packed = torch.empty((-(-n // 64), -(-k // 64), 8192), device="cuda", dtype=torch.uint8)
        vm.compile(PERSISTENT["pack_weight"])(w, packed)
        kernel = vm.compile(PERSISTENT["matmul"], BLOCKS=blocks)
        kernel(a, packed, c)
        first = c.clone()
        assert close(torch, first, a, w)
        for _ in range(100):
            kernel(a, packed, c)
        assert torch.equal(c, first)
