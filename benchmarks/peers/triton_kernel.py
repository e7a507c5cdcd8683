"""The Triton kernel of triton_w4a16.py, apart because `triton` must be importable to define it."""

import triton
import triton.language as tl


@triton.jit
def field_value(packed, position: tl.constexpr, BITS: tl.constexpr):
    """The code in bits [position, position + BITS) of 16-bit words, less 2^(BITS-1), as f16.

    A field goes into the mantissa of 1024.0: as f16 the bits 0x6400 | (code << p) are
    1024 + 2^p * code, exactly, so two exact operations are left. Fields of the upper byte would
    not fit and are shifted down first.
    """
    CODES: tl.constexpr = 2**BITS
    STEP: tl.constexpr = 2 ** (position % 8)
    byte = packed if position < 8 else packed >> 8
    bits = (byte & ((CODES - 1) * STEP)) | 0x6400
    return (bits.to(tl.float16, bitcast=True) * (1.0 / STEP) - (1024.0 / STEP + CODES // 2)).to(
        tl.float16
    )


@triton.jit(do_not_specialize=["m"])
def quantized_matmul(
    activations,  # f16 [m, k]
    words,  # i16 [k / GROUP, n, GROUP / FIELDS], see pack_planes
    scales,  # f16 [k / GROUP, n]
    output,  # f16 [m, n]
    partials,  # f32 [SPLIT, ROWS, n], only where SPLIT > 1
    arrived,  # i32 [n / COLUMNS], zero before and after
    m,
    n,
    k,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLIT: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One block makes COLUMNS columns of C from 1/SPLIT of K; the last to arrive adds the parts."""
    FIELDS: tl.constexpr = 16 // BITS
    RUN: tl.constexpr = GROUP // FIELDS
    block = tl.program_id(0)
    part = tl.program_id(1)
    rows = tl.arange(0, ROWS)
    columns = block * COLUMNS + tl.arange(0, COLUMNS)
    within = tl.arange(0, RUN)
    groups = k // GROUP
    share = tl.cdiv(groups, SPLIT)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    row_mask = rows[:, None] < m
    column_mask = columns < n
    for group in tl.range(part * share, min(groups, (part + 1) * share), num_stages=STAGES):
        start = group.to(tl.int64) * n + columns
        packed = tl.load(
            words + start[None, :] * RUN + within[:, None], mask=column_mask[None, :], other=0
        )
        product = tl.zeros((ROWS, COLUMNS), tl.float32)
        for field in tl.static_range(FIELDS):
            weight = field_value(packed, field * BITS, BITS)
            left = tl.load(
                activations + rows[:, None] * k + (group * GROUP + field * RUN + within)[None, :],
                mask=row_mask,
                other=0.0,
            )
            product = tl.dot(left, weight, product)
        scale = tl.load(scales + start, mask=column_mask, other=0.0)
        total += product * scale.to(tl.float32)[None, :]
    target = output + rows[:, None] * n + columns[None, :]
    mask = row_mask & column_mask[None, :]
    if SPLIT == 1:
        tl.store(target, total.to(tl.float16), mask=mask)
    else:
        place = partials + rows[:, None] * n + columns[None, :]
        tl.store(place + part * ROWS * n, total, mask=mask)
        tl.debug_barrier()
        if tl.atomic_add(arrived + block, 1, sem="acq_rel") == SPLIT - 1:
            total = tl.zeros((ROWS, COLUMNS), tl.float32)
            for other in tl.static_range(SPLIT):
                total += tl.load(place + other * ROWS * n, mask=mask, other=0.0, volatile=True)
            tl.store(target, total.to(tl.float16), mask=mask)
            tl.store(arrived + block, 0)
