"""Fits the model of programs/gemm_schedules.py to measured times, and says how well it chooses.

    python -m benchmarks.gemm_model                            regret of the model as committed
    python -m benchmarks.gemm_model --times FILE --device h200 replaces a device's times by FILE's
    python -m benchmarks.gemm_model --compile u4,u1            replaces the registers of schedules
    python -m benchmarks.gemm_model --fit                      prints constants for the model

FILE has a JSON object a line, as the peer vm_gemm writes it with VM_GEMM_TIMES. Compiling needs
NVRTC and no GPU; fitting needs the committed data only.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from benchmarks.peers.vm_gemm import form_of
from benchmarks.problem import Point, WeightType
from programs import gemm_schedules as model
from programs.gemm import gemm
from programs.gemm_schedules import (
    DEVICES,
    H100,
    Costs,
    Device,
    fits_registers,
    predicted_us,
    ranked,
)
from programs.gemm_tiling import Schedule
from programs.quantized_matmul import Form

RESULTS = Path(__file__).parent / "results"
MEASURED = ("h100", "h200")
"""Devices that there are times of."""


def data_of(device: str) -> Path:
    return RESULTS / f"{device}-gemm-schedules.json"


REGISTERS = data_of("h100")
"""The file that holds the registers of schedules, which are the same on both."""
FIELDS = tuple(each.name for each in fields(Schedule))


@dataclass(frozen=True)
class Timed:
    """A schedule that was timed, in microseconds of a call."""

    point: Point
    schedule: Schedule
    us: float
    device: Device = H100


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of a schedule: the registers of a thread, None where it spills."""

    weight: str
    schedule: Schedule
    registers: int | None


@dataclass(frozen=True)
class Regret:
    """How much slower than the fastest measured schedule the best of the model's first few is."""

    point: Point
    schedules: int
    first: float
    of_eight: float


def read(path: Path) -> dict[str, list[list[object]]]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, data: dict[str, list[list[object]]]) -> None:
    """One row a line, so that a change of the data is a change of its lines."""
    parts = []
    for name, rows in data.items():
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        parts.append(f' {json.dumps(name)}: [\n{lines}\n ]')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def as_written(values: Sequence[object]) -> Schedule:
    """A schedule of the data: what was measured before offsets could leave the product, or blocks
    share tiles, did neither."""
    later = (False, 0)
    missing = len(FIELDS) - len(values)
    return Schedule(*values, *later[len(later) - missing :])


def timed(device: str) -> list[Timed]:
    """The committed times of a device."""
    return [
        Timed(Point(shape, WeightType.parse(weight), m), as_written(schedule), us, DEVICES[device])
        for weight, shape, m, us, *schedule in read(data_of(device))["times"]
    ]


def compiled() -> list[Compiled]:
    """The committed registers."""
    return [Compiled(weight, as_written(schedule), registers)
            for weight, registers, *schedule in read(REGISTERS)["registers"]]  # fmt: skip


def by_point(rows: Iterable[Timed]) -> dict[tuple[Device, Point], dict[Schedule, float]]:
    found: dict[tuple[Device, Point], dict[Schedule, float]] = {}
    for row in rows:
        found.setdefault((row.device, row.point), {})[row.schedule] = row.us
    return found


def regrets(rows: Iterable[Timed], costs: Costs = model.COSTS) -> list[Regret]:
    """For each point what taking the model's first choice costs, or the best of its first eight.

    The choice is among those that were measured and should not spill.
    """
    found = []
    for (device, point), times in by_point(rows).items():
        form = form_of(point)
        fitting = [s for s in times if fits_registers(form, s, device)]
        order = ranked(fitting, form, point.m, point.n, point.k, device, costs)
        least = min(times.values())
        first, eight = times[order[0]], min(times[s] for s in order[:8])
        found.append(Regret(point, len(times), first / least - 1, eight / least - 1))
    return found


def fit(rows: Sequence[Timed], start: Costs, turns: int = 25) -> Costs:
    """The constants with the least squares of log(predicted / measured), by the method of
    Levenberg and Marquardt on their logarithms.

    What matters is the order of the fast schedules of a point. So one counts the less the further
    it is from the fastest, what is common to a point counts MEAN of what it is, and an outlier
    counts linearly.
    """
    names = [each.name for each in fields(Costs)]
    times = by_point(rows)
    place = {point: index for index, point in enumerate(times)}
    at = np.array([place[r.device, r.point] for r in rows])
    above = np.array([r.us / min(times[r.device, r.point].values()) - 1 for r in rows])
    near = np.exp(-above / NEAR) + 0.02
    weight_of_point = np.bincount(at, weights=near)

    def residuals(logs: np.ndarray) -> np.ndarray:
        costs = Costs(**dict(zip(names, np.exp(logs).tolist(), strict=True)))
        errors = np.array([
            np.log(predicted_us(form_of(r.point), r.point.m, r.point.n, r.point.k, r.schedule,
                                r.device, costs) / r.us)
            for r in rows
        ])  # fmt: skip
        common = np.bincount(at, weights=near * errors) / weight_of_point
        return errors - (1 - MEAN) * common[at]

    def loss(errors: np.ndarray) -> float:
        return float((near * (np.sqrt(1 + (errors / OUTLIER) ** 2) - 1)).sum())

    logs = np.log([getattr(start, name) for name in names])
    now, damping = residuals(logs), 1e-2
    for _ in range(turns):
        steps = np.eye(len(names)) * 1e-4
        jacobian = np.stack([(residuals(logs + step) - now) / 1e-4 for step in steps], axis=1)
        weights = near / np.sqrt(1 + (now / OUTLIER) ** 2)
        square = jacobian.T @ (weights[:, None] * jacobian)
        gradient = jacobian.T @ (weights * now)
        while damping < 1e6:
            change = np.linalg.solve(square + damping * np.diag(np.diag(square) + 1e-9), gradient)
            tried = residuals(logs - np.clip(change, -1, 1))
            if loss(tried) < loss(now):
                logs, now, damping = logs - np.clip(change, -1, 1), tried, damping / 3
                break
            damping *= 4
        else:
            break
    return Costs(**dict(zip(names, np.exp(logs).tolist(), strict=True)))


NEAR = 0.1
"""At this share above the fastest a schedule counts 1/e."""
MEAN = 0.3
OUTLIER = 0.05
"""Where the loss goes over from square to linear."""


def compile_all(weights: Sequence[str]) -> list[list[object]]:
    """Registers of every schedule that could fit 8192 x 8192 with 8 and 16 rows of A. Schedules
    with more than 2 stages, or that allow as many registers, are the same to the compiler."""
    jobs = {}
    for weight in weights:
        for m in (8, 16):
            form = form_of(Point("8192x8192", WeightType.parse(weight), m))
            for schedule in model.fitting_shared_memory(form, m, 8192, 8192, H100):
                allowed = model.registers_allowed(schedule, H100)
                same = replace(schedule, stages=min(2, schedule.stages), resident=1)
                jobs.setdefault((weight, same, allowed), (weight, form, schedule))
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_compile, jobs.values()))


def _compile(job: tuple[str, Form, Schedule]) -> list[object]:
    from vm.errors import VmError
    from vm.runtime.compiled import cubin_of

    weight, form, schedule = job
    try:
        entry = cubin_of(gemm(form, schedule)["gemm"].instantiate(), "sm_90a", "aligned")
    except VmError as error:
        if error.code != "E0904":
            raise
        return [weight, None, *asdict(schedule).values()]
    return [weight, entry.metadata["registers"], *asdict(schedule).values()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=Path, metavar="FILE")
    parser.add_argument("--device", choices=MEASURED, help="of the times")
    parser.add_argument("--compile", metavar="WEIGHTS")
    parser.add_argument("--fit", action="store_true")
    given = parser.parse_args()
    if given.times:
        if not given.device:
            parser.error("name the --device that the times are of")
        rows = [json.loads(line) for line in given.times.read_text().splitlines()]
        times = [[r["weight"], r["shape"], r["m"], r["us"], *(r[f] for f in FIELDS)] for r in rows]
        path = data_of(given.device)
        write(path, {**read(path), "times": times})
    if given.compile:
        made = compile_all(given.compile.split(","))
        write(REGISTERS, {**read(REGISTERS), "registers": made})
    costs = model.COSTS
    if given.fit:
        costs = fit([row for device in MEASURED for row in timed(device)], costs)
        print(costs)
    for device in MEASURED:
        print(device)
        report(regrets(timed(device), costs), print)


def report(found: Sequence[Regret], output: Callable[[str], None]) -> None:
    for each in found:
        p = each.point
        output(f"{p.weight.name} {p.shape:<10} M={p.m:<3} {each.schedules:>3} schedules: "
               f"first +{each.first:.1%}, best of eight +{each.of_eight:.1%}")  # fmt: skip
    for name in ("first", "of_eight"):
        values = [getattr(each, name) for each in found]
        output(f"{name}: mean +{statistics.mean(values):.1%}, worst +{max(values):.1%}")


if __name__ == "__main__":
    main()
