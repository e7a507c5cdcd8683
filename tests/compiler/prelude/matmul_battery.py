"""The matmuls that are written by hand as the compiler is to write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.compiler.prelude.battery import Text

KERNELS = Path(__file__).parent / "kernels"
SHAPES = [(64, 64, 64), (65, 72, 96), (128, 136, 32), (1, 8, 160)]


def error_bound(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far f32 sums in any order, rounded or truncated at each product, may be off, and then the
    rounding to f16: K times 2**-22 of the sum of magnitudes, and half a unit of the result."""
    total = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
    return total * a.shape[1] * 2.0**-22 + np.abs(a.astype(np.float64) @ b) * 2.0**-11 + 2.0**-25


def assert_product(result: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    exact = a.astype(np.float64) @ b.astype(np.float64)
    off = np.abs(result.astype(np.float64) - exact)
    assert (off <= error_bound(a, b)).all(), f"off by {np.nanmax(off)}, {np.isnan(off).sum()} NaN"


def matmul_f16() -> Text:
    text = Text("matmul_f16", orders=("forward", "reverse", "random:1"))
    text.parts.append((KERNELS / "matmul_f16.cu").read_text())
    rng = np.random.default_rng(1)
    for m, n, k in SHAPES:
        a = rng.standard_normal((m, k)).astype(np.float16)
        b = rng.standard_normal((k, n)).astype(np.float16)

        def arguments(a=a, b=b):
            m, k, n = *a.shape, b.shape[1]
            return [a.copy(), b.copy(), np.full((m, n), np.nan, np.float16), m, n, k]

        def check(after, a=a, b=b):
            assert_product(after[2], a, b)

        text.kernel(
            "", "matmul_f16", arguments, check, ((m + 63) // 64, (n + 63) // 64), 128, 24576
        )
    return text


def packed_weight(codes: np.ndarray) -> np.ndarray:
    """u4[K, N] as each thread reads it: 16 bytes for each tile of 64 x 64, fragment by fragment."""
    k, n = codes.shape
    result = np.zeros((k // 64, n // 64, 128, 32), np.uint8)
    for thread in range(128):
        lane, warp = thread % 32, thread // 32
        for slot in range(32):
            block, step, element = slot // 16, slot // 4 % 4, slot % 4
            row = step * 16 + lane % 4 * 2 + element % 2 + element // 2 * 8
            column = warp * 16 + block * 8 + lane // 4
            result[:, :, thread, slot] = codes[row::64, column::64]
    return result[..., 0::2] | result[..., 1::2] << 4


def matmul_w4a16() -> Text:
    text = Text("matmul_w4a16", orders=("forward", "reverse", "random:1"))
    text.parts.append((KERNELS / "matmul_w4a16.cu").read_text())
    rng = np.random.default_rng(2)
    for m, n, k in ((64, 64, 64), (64, 128, 192), (128, 64, 128)):
        a = rng.standard_normal((m, k)).astype(np.float16)
        codes = rng.integers(0, 16, (k, n), dtype=np.uint8)
        scales = (rng.random((k // 64, n)) + 0.5).astype(np.float16)
        zeros = rng.integers(0, 16, (k // 64, n), dtype=np.uint8)
        centred = (codes.astype(np.float16) - np.repeat(zeros, 64, axis=0)).astype(np.float16)
        weight = centred * np.repeat(scales, 64, axis=0)

        def arguments(a=a, codes=codes, scales=scales, zeros=zeros):
            m, k, n = *a.shape, codes.shape[1]
            c = np.full((m, n), np.nan, np.float16)
            return [a.copy(), packed_weight(codes), scales.copy(), zeros.copy(), c, m, n, k]

        def check(after, a=a, weight=weight):
            assert_product(after[4], a, weight)

        text.kernel("", "matmul_w4a16", arguments, check, (m // 64, n // 64), 128, 16384)
    return text


BATTERIES = {"matmul_f16": matmul_f16, "matmul_w4a16": matmul_w4a16}
