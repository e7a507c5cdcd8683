"""Which schedules of `programs.gemm` fit a device, and how long each should take.

The model knows bytes, instructions, rounds of blocks and stages; it picks a schedule where nobody
has tuned, and the few that are worth measuring where somebody does:

    python -m programs.gemm_schedules --weight u3 --offset 4 --size 1,8192,8192
    python -m programs.gemm_schedules --weight u3 --offset 4 --size 1,8192,8192 --tune

Its constants are fitted to measured times by `python -m benchmarks.gemm_model`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial

from programs.gemm import gemm
from programs.gemm_tiling import (
    DEPTHS,
    LANES,
    Schedule,
    code_of,
    group_of,
    multiplies_fields,
    stage_bytes,
)
from programs.quantized_matmul import Form, add_form_arguments, given_form
from vm.compiler.casts import best_distance, best_order, lanes_of, ordered, plan
from vm.compiler.casts_fields import arrange, period
from vm.compiler.casts_fields import plan as fields_plan
from vm.errors import VmError
from vm.isa.dtypes import DType, DTypeError, dtype
from vm.runtime.tuning import Configuration, Work


@dataclass(frozen=True)
class Device:
    """What a schedule needs to know of a GPU.

    `shared_bytes` is what all blocks on a multiprocessor share, of which each block loses
    `reserved_bytes`; the rest of `cache_bytes` is left to the L1 cache. `clock` is in cycles and
    `bandwidth` in bytes of memory read, both in a microsecond.
    """

    multiprocessors: int
    shared_bytes: int
    cache_bytes: int
    clock: float
    bandwidth: float
    registers: int = 1 << 16
    threads: int = 2048
    reserved_bytes: int = 1024
    has_bulk_copies: bool = True


H100 = Device(132, 228 << 10, 256 << 10, 1755.0, 3.17e6)
"""SXM5 with HBM3; the bandwidth is what benchmarks/ceilings.py measures."""
H200 = Device(132, 228 << 10, 256 << 10, 1980.0, 4.6e6)
"""As the H100, with HBM3e and a faster clock; measured as there."""
A100 = Device(108, 164 << 10, 192 << 10, 1410.0, 1.85e6, has_bulk_copies=False)
"""SXM4 of 80 GB, from its data sheet: nine tenths of the bandwidth there. Not measured."""
DEVICES = {"h100": H100, "h200": H200, "a100": A100}

SCHEDULERS = 4
"""Instructions that a multiprocessor issues in a cycle."""


@dataclass(frozen=True)
class Costs:
    """The constants of the model: what cannot be read off a data sheet. Times are in us."""

    weight: float
    """Issue slots for a weight beside its cast: its load, its share of the products and scales."""
    copy: float
    """Time of a multiprocessor for the copy of one stage, however short."""
    empty: float
    """How much of a place that the last round leaves empty costs as if it were full: blocks of a
    grid sit where the one before left room, not evenly."""
    reuse: float
    """Steps of all warps that L1 must hold for half of the activations to be found there."""
    latency: float
    """Time that a warp waits for the activations of 128 weights of 8 rows, where L1 misses."""
    exposed: float
    """Time that it waits more for activations that were not asked for ahead: those of the second
    tile of a step and on."""
    refill: float
    """The share of the time for weights that is lost with 1 stage; with 2, a fourth of it."""
    block: float
    """Time for a block to begin and end."""
    sums: float
    """The share of it that 512 sums more of each warp add."""
    uneven: float
    """Time for a block to add up sums that its threads do not share evenly."""
    burst: float
    """How much of the time in which all rings of a multiprocessor are filled is added to a call:
    activations queue behind it."""
    drawn: float
    """Bytes that one multiprocessor can draw from memory in a cycle: a share of what the device has
    to give, also where others have nothing to do."""
    handing: float
    """Time to hand on 512 sums of a tile, or fewer, and to take them, where blocks share tiles;
    half as much more for each block more on a multiprocessor."""
    sharpness: float
    """The exponent of the norm that joins the times: at 1 their sum, at infinity the largest."""


COSTS = Costs(
    weight=1.25, copy=0.0198, empty=0.756, reuse=2.57, latency=1.21, exposed=0.444, refill=0.0361,
    block=2.47, sums=0.234, uneven=0.457, burst=0.225, drawn=18.2, handing=2.4, sharpness=2.37,
)  # fmt: skip
"""Fitted to times of an H100, but for two that were read off pairs of schedules: `drawn` off 80
blocks and 132 for the same weights, on both devices, `handing` off blocks that share tiles and
others that need not, on an H200."""

OCCUPANCIES = ((8, 2), (8, 3), (8, 4), (12, 2), (12, 3), (16, 1), (16, 2))
"""Warps of a block and blocks on a multiprocessor: 16 to 32 warps hide what they wait for."""
MOST_SUMS = 1024
"""Sums of a warp: with 2048 it has the registers of two, and nothing hides what it waits for."""
LEAST_STAGE = 2048
"""Bytes that one bulk copy brings at least; smaller ones cost 5 to 10 %."""


def fitting(form: Form, m: int, n: int, k: int, device: Device) -> Iterator[Schedule]:
    """The schedules that fit a device: its shared memory, and its registers as far as is known
    before compiling."""
    for schedule in fitting_shared_memory(form, m, n, k, device):
        if fits_registers(form, schedule, device):
            yield schedule


def fitting_shared_memory(
    form: Form, m: int, n: int, k: int, device: Device
) -> Iterator[Schedule]:
    """The schedules whose stages fit the shared memory of a device, and that leave no warp without
    a share of K, unless K is too short for the fewest warps."""
    columns = 8 if m <= 8 else 16
    depths = (64, 128) if columns == 8 else (32, 64)
    tiles = -(-k // group_of(form))
    for rows in (16, 32, 64, 128):
        if rows > max(16, n) or rows * columns > MOST_SUMS:
            continue
        # 128 rows take the registers of 8 warps or, with 1 stage, of 16: 2 blocks fit then.
        for warps, resident in OCCUPANCIES if rows < 128 else ((8, 1),):
            if tiles < warps and warps > OCCUPANCIES[0][0]:
                continue
            one = Schedule(rows, columns, warps, resident=resident)
            span = max(1, LEAST_STAGE // stage_bytes(form, one))
            span = min(span, max(1, tiles // warps))
            room = device.shared_bytes // resident - device.reserved_bytes
            room -= warps * rows * columns * 4 + table_bytes(form)
            one = replace(one, span=span)
            most = min(room // (warps * (stage_bytes(form, one) + 8)), -(-tiles // (span * warps)))
            least = 1 if device.has_bulk_copies else 2
            outside = ones_are_worth_it(form, rows, columns)
            for stages in sorted({most, -(-most // 2)}, reverse=True):
                for depth in depths if stages >= least else ():
                    schedule = Schedule(rows, columns, warps, stages, span, depth, resident,
                                        device.has_bulk_copies, outside)  # fmt: skip
                    yield schedule
                    shared = replace(schedule, blocks=device.multiprocessors * resident)
                    taken = resident * (shared_bytes(form, shared) + device.reserved_bytes)
                    even = -(-n // rows) < shared.blocks <= -(-n // rows) * -(-tiles // span)
                    if even and taken <= device.shared_bytes:
                        yield shared
            if not device.has_bulk_copies:  # else rings are faster (benchmarks/notes.md)
                for depth in depths:
                    yield Schedule(rows, columns, warps, 0, 1, depth, resident, False, outside)


def ones_are_worth_it(form: Form, rows: int, columns: int) -> bool:
    """Whether offsets leave the product: instead, the matrix unit multiplies a tile of 16 rows of
    ones, which is 16 / rows of its work, for each 8 columns. Measured on an H100, schedule by
    schedule: at a quarter u1 gains 9 %, u2 5 %, u3 and u4 1 to 2 %; at half of it u1 gains 4 %, u2
    2 %, u3 loses 3 % and u4 nothing (at 16 columns 3 %); at more all lose (benchmarks/notes.md)."""
    share = 16 / rows * columns / 8
    return share <= (1 / 2 if dtype(form.weight).bits <= 2 else 1 / 4)


def fits_registers(form: Form, schedule: Schedule, device: Device) -> bool:
    """Whether a schedule should not spill."""
    return least_registers(form, schedule) <= registers_allowed(schedule, device)


def registers_allowed(schedule: Schedule, device: Device) -> int:
    """The registers that a thread may have so that as many blocks are resident as asked for."""
    threads = schedule.warps * LANES * schedule.resident
    return min(255, device.registers // threads // 8 * 8)


def least_registers(form: Form, schedule: Schedule) -> float:
    """The registers below which a thread spills, about: for its sums, those that are scaled and
    those that are not yet, and for some of the activations and weights of a tile.

    Of 366 kernels that NVRTC 13 compiled, two thirds of those that spilled need more than they
    were allowed by this, and 2 of the 230 others.
    """
    depth = min(group_of(form), schedule.depth)
    weights = schedule.rows * depth * dtype(form.weight).bits / (32 * LANES)
    activations = schedule.columns * depth / 64
    if not schedule.stages:
        weights += schedule.rows * group_of(form) * dtype(form.weight).bits / (32 * LANES)
    return 28.8 + 1.33 * _sums(form, schedule) + 0.17 * activations + 0.46 * weights


def registers(form: Form, schedule: Schedule) -> float:
    """The registers that a thread takes where it may have as many as it likes: the larger a tile
    is the fewer of its operands it holds at once, and loads of all steps of a stage move up."""
    ahead = 35 * min(2, schedule.span - 1)
    return 16 * math.sqrt(_sums(form, schedule)) + (4.6 if schedule.columns > 8 else 0) + ahead


def _sums(form: Form, schedule: Schedule) -> float:
    """Sums of a thread, twice as many where those of a group are scaled before they are added."""
    return schedule.rows * schedule.columns / LANES * (2 if form.group else 1)


def shared_bytes(form: Form, schedule: Schedule) -> int:
    """Bytes of shared memory of a block: rings with their barriers, the sums of its warps, and what
    casts look up, for which there is room in a schedule of `fitting_shared_memory`."""
    ring = schedule.stages * (stage_bytes(form, schedule) + 8)
    sums = schedule.warps + (1 if schedule.blocks else 0)
    sum_bytes = sums * schedule.rows * schedule.columns * 4
    return schedule.warps * ring + sum_bytes + table_bytes(form)


@lru_cache(maxsize=64)
def table_bytes(form: Form) -> int:
    """Bytes of the table that casts of a codebook look up; 0 where they look up none."""
    found = plan(dtype(form.weight), dtype(form.activation), (0, 1), 2, tables=True)
    table = found.choice.steps.table if found else None
    return table.bytes if table else 0


def places(form: Form, schedule: Schedule, device: Device) -> int:
    """Blocks that a multiprocessor holds at once, of this grid and of the next."""
    threads = schedule.warps * LANES
    taken = min(registers_allowed(schedule, device), registers(form, schedule))
    return min(
        device.shared_bytes // (shared_bytes(form, schedule) + device.reserved_bytes),
        device.registers // (math.ceil(taken / 8) * 8 * threads),
        device.threads // threads,
    )


def cast_cost(form: Form, schedule: Schedule) -> float:
    """Instructions that make a weight out of its code, those of its zero point included."""
    return _cast_cost(form, code_of(form, schedule), multiplies_fields(form, schedule))


@lru_cache(maxsize=256)
def _cast_cost(form: Form, source: DType, as_fields: bool) -> float:
    if form.entries:
        return LOOKUP
    target = dtype(form.activation)
    if as_fields:
        apart = period(source)  # elements of a pair, in the order that packing gives them
        slots = tuple(slot for low in range(apart) for slot in (low, low + apart))
        found = arrange(source, slots, tuple(range(apart)), 2 * apart)
        return fields_plan(source, found.slots, found.places, 2 * apart).cost / (2 * apart)
    if source.kind == "float":
        # Floats are held as bits, and leave their scale to a product of f16.
        steps = best_order(source, target, 32, scaled=form.activation != "f16").steps
        return SLOW_CAST if steps == math.inf else steps
    run = 32
    slots = ordered(run, best_distance(source, target, run), lanes_of(target))
    found = plan(source, target, slots, run, form.offset, tables=True)
    cost = SLOW_CAST if found is None else found.cost / run
    return cost + (0.5 if form.zero_point else 0.0)


LOOKUP = 3.0
"""Instructions to read an entry of a table: its address, the load, half of a merge."""
SLOW_CAST = 12.0
"""Instructions of a cast that no rule of `vm.compiler.casts` is suited for."""


def predicted_us(
    form: Form, m: int, n: int, k: int, schedule: Schedule, device: Device, costs: Costs = COSTS
) -> float:
    """Microseconds of a call among others like it, with weights that no cache holds.

    Four times run beside each other: reading weights from memory, issuing instructions, copying
    stages, and what a warp waits for. All but the first are those of the busiest multiprocessor,
    which works through rounds of as many blocks as it holds.
    """
    rows, columns, warps = schedule.rows, schedule.columns, schedule.warps
    step = group_of(form)
    tiles, stages = -(-n // rows), -(-k // (step * schedule.span))
    if schedule.blocks:
        stages = -(-tiles * stages // schedule.blocks)  # of a block
        tiles = schedule.blocks
    blocks = tiles * -(-m // columns)
    share = -(-stages // warps)
    stage = stage_bytes(form, schedule)
    held = places(form, schedule, device)
    full = blocks / (device.multiprocessors * held)
    rounds = full + costs.empty * (math.ceil(full) - full)
    worked = rounds * held  # blocks, one after the other

    memory = max(
        (blocks * stages * stage + 2 * m * (n + k)) / device.bandwidth,
        worked * stages * stage / (costs.drawn * device.clock),
    )  # fmt: skip
    weights = stages * schedule.span * rows * step / LANES
    slots = weights * (cast_cost(form, schedule) + costs.weight)
    issue = worked * slots / (SCHEDULERS * device.clock)
    copies = worked * stages * costs.copy if schedule.stages else 0.0

    taken = min(device.shared_bytes, held * (shared_bytes(form, schedule) + device.reserved_bytes))
    present = min(m, columns)
    of_all_warps = warps * present * step * schedule.span * 2
    missed = costs.reuse / (costs.reuse + (device.cache_bytes - taken) / of_all_warps)

    tile = min(step, schedule.depth)
    of_a_step = costs.latency * columns / 8 * tile / 128 + costs.exposed * (step // tile - 1)
    waits = share * schedule.span * missed * of_a_step
    begins_and_ends = costs.block * (1 + costs.sums * rows * columns / 512)
    if not is_shared_evenly(schedule):
        begins_and_ends += costs.uneven
    waiting = rounds * (waits + begins_and_ends)

    ring = held * warps * min(max(1, schedule.stages), share) * stage
    burst = costs.burst * ring * device.multiprocessors / device.bandwidth
    idle = costs.refill * memory / max(1, schedule.stages) ** 2
    p = costs.sharpness
    handing = 0.0
    if schedule.blocks:
        handing = costs.handing * (1 + schedule.blocks / device.multiprocessors) / 2
        handing *= max(1, rows * columns / 512)
    return burst + idle + handing + sum(t**p for t in (memory, issue, copies, waiting)) ** (1 / p)


def is_shared_evenly(schedule: Schedule) -> bool:
    """Whether each thread adds up as many sums of a block."""
    sums, threads = schedule.rows * schedule.columns, schedule.warps * LANES
    return sums % threads == 0 or threads % sums == 0


def best(
    form: Form, m: int, n: int, k: int, device: Device, count: int | None = None
) -> list[Schedule]:
    """The fitting schedules, the one that should be fastest first, `count` of them if given."""
    return ranked(fitting(form, m, n, k, device), form, m, n, k, device)[:count]


def ranked(
    schedules: Iterable[Schedule],
    form: Form, m: int, n: int, k: int, device: Device, costs: Costs = COSTS,
) -> list[Schedule]:  # fmt: skip
    """Schedules in the order of the times that the model expects.

    Of those that differ in nothing but depth, or a residence that is exceeded anyway, there is one:
    the model is too coarse to tell them apart, and the few that are measured should differ.
    """
    found: dict[Schedule, tuple[float, Schedule]] = {}
    for schedule in schedules:
        free = registers(form, schedule) <= registers_allowed(schedule, device)
        held = places(form, schedule, device) if free else schedule.resident
        us = predicted_us(form, m, n, k, schedule, device, costs)
        kind = replace(schedule, resident=held, depth=DEPTHS[0])
        if kind not in found or us < found[kind][0]:
            found[kind] = us, schedule
    by_time = sorted(found.values(), key=lambda each: each[0])
    return [schedule for _, schedule in by_time]


def choose(form: Form, m: int, n: int, k: int, device: Device) -> Schedule:
    """The schedule that the model takes for the fastest.

    Raises `ValueError` where none fits the device.
    """
    found = best(form, m, n, k, device, 1)
    if not found:
        raise ValueError(f"no schedule of {form} for {m}x{n}x{k} fits the device")
    return found[0]


def configurations(form: Form, schedules: Sequence[Schedule]) -> list[Configuration]:
    """The schedules of a form, to be tuned."""
    return [Configuration(asdict(each), partial(gemm, form, each)) for each in schedules]


def work(m: int, n: int, k: int) -> Work:
    """What is tuned: the product of these sizes."""
    return Work("main", {"M": m, "N": n, "K": k}, "gemm")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: shows the best schedules, or measures them."""
    parser = argparse.ArgumentParser(
        prog="python -m programs.gemm_schedules", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_form_arguments(parser)
    parser.add_argument("--size", required=True, metavar="M,N,K", type=size)
    parser.add_argument("--device", choices=DEVICES, default="h100",
                        help="for which the schedules are (h100)")
    parser.add_argument("--count", type=int, default=8, help="how many")
    parser.add_argument("--tune", action="store_true", help="measure them, on an NVIDIA GPU")
    given = parser.parse_args(arguments)
    device = DEVICES[given.device]
    try:
        form = given_form(given)
        found = best(form, *given.size, device, max(1, given.count))
        if not given.tune:
            print("M, N, K = {}, {}, {} on an {}".format(*given.size, given.device.upper()))
            for schedule in found:
                us = predicted_us(form, *given.size, schedule, device)
                print(f"{us:9.2f} us predicted  {schedule}")
            return 0
        from vm.command_line.tune import report
        from vm.runtime.stopwatch import CudaStopwatch
        from vm.runtime.tuning import Store

        return report(configurations(form, found), work(*given.size), CudaStopwatch(), Store())
    except (VmError, DTypeError, ValueError) as error:
        print(error if isinstance(error, VmError) else f"error: {error}", file=sys.stderr)
        return 1


def size(text: str) -> tuple[int, int, int]:
    """M, N and K on the command line; raises `ValueError` for what is none."""
    m, n, k = (int(each) for each in text.split(","))
    if min(m, n, k) < 1:
        raise ValueError("sizes are at least 1")
    return m, n, k


if __name__ == "__main__":
    sys.exit(main())
