"""Measures a program of a file with other values for its constants, and says which are fastest.

Every value of each --try is combined with those of the others. A case makes the inputs and says
whether the results are right. What was measured is kept: an interrupted tuning goes on where it
stopped, and asking again answers at once. Needs an NVIDIA GPU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vm.command_line.run import chosen_cases
from vm.command_line.settings import parse_assignment, parse_settings
from vm.errors import Source, fail
from vm.isa.parse import parse_expression
from vm.isa.program import load
from vm.isa.static import Environment, NotStatic, evaluate
from vm.runtime.cases import with_settings
from vm.runtime.stopwatch import CudaStopwatch
from vm.runtime.tuning import (
    Configuration,
    Outcome,
    Stopwatch,
    Store,
    Work,
    fastest,
    tune,
    with_values,
)

SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument(
        "--try", action="append", default=[], metavar="NAME=VALUE,...", dest="tries",
        help="values of a constant to try",
    )  # fmt: skip
    parser.add_argument("--case", metavar="NAME", help="makes the inputs; `main` or the only one")
    parser.add_argument(
        "--program", metavar="NAME", help="what is measured; the last that the case calls"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="another value for a constant or a size of the case",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    module = load(arguments.file)
    (case,) = chosen_cases(module, arguments.case, one=True)
    settings = parse_settings(arguments.set)
    constants = {n: v for n, v in settings.items() if n in module.constants}
    sizes = {n: v for n, v in settings.items() if n not in constants}
    module = with_settings(module, constants)
    configurations = [with_values(module, values) for values in combinations(arguments.tries)]
    work = Work(case.name, sizes, arguments.program)
    work.find(module)
    return report(configurations, work, CudaStopwatch(), Store())


def report(
    configurations: Sequence[Configuration], work: Work, stopwatch: Stopwatch, store: Store
) -> int:
    """Tunes with a bar on standard error and prints the fastest; the exit status."""
    with Bar(Console(stderr=True)) as bar:
        outcomes = tune(
            configurations, work, stopwatch, store, planned=bar.planned, measured=bar.measured,
            ahead=stopwatch.compile_ahead,
        )  # fmt: skip
    print(rendered(outcomes, stopwatch.device_name))
    fastest(outcomes)  # raises where there is none
    return 0


def combinations(tries: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of the values of `NAME=VALUE,...`; raises `VmError` E0803."""
    if not tries:
        raise fail(
            "E0803", "there is nothing to try", None, fix="write --try STAGES=2,3,4 for a constant"
        )
    values: dict[str, list[Any]] = {}
    for text in tries:
        name, listed = parse_assignment(text, "--try")
        expression = parse_expression(Source(f"--try {name}", f"[{listed}]"))
        try:
            values.setdefault(name, []).extend(evaluate(expression, Environment()))
        except NotStatic as error:
            raise fail(
                "E0803", f"`{error.name}` is an instruction, not a constant", error.origin,
                "in this value", fix="give numbers, dtypes or layouts",
            ) from None  # fmt: skip
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


class Bar:
    """How far a tuning is and how long it will still take.

    Where standard error is no terminal there is a plain line for each configuration instead.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("measuring"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn(),
            TextColumn("{task.fields[latest]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, latest="")
        self._count = self._done = 0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def planned(self, count: int) -> None:
        self._count = count
        self._progress.update(self._task, total=count)

    def measured(self, configuration: Configuration, outcome: Outcome) -> None:
        self._done += 1
        text = f"{configuration}: {_time(outcome)}"
        self._progress.update(self._task, advance=1, latest=text)
        if not self._console.is_terminal:
            print(f"{self._done} of {self._count}  {text}", file=sys.stderr, flush=True)


def _time(outcome: Outcome) -> str:
    found = outcome.measurement
    return outcome.fault or "" if found is None else f"{found.us:.2f} us"


def rendered(outcomes: Sequence[tuple[Configuration, Outcome]], device: str) -> str:
    """What a person reads: the fastest first, and those that cannot be used with the reason."""
    timed = [(c, o.measurement) for c, o in outcomes if o.measurement is not None]
    timed.sort(key=lambda each: each[1].us)
    lines = [f"{len(outcomes)} configurations on {device}"]
    lines += [
        f"  {m.us:9.2f} us  ({m.low:.2f} to {m.high:.2f})  {configuration}"
        for configuration, m in timed[:SHOWN]
    ]
    if len(timed) > SHOWN:
        lines.append(f"  and {len(timed) - SHOWN} slower ones")
    reasons = [(c, o.fault) for c, o in outcomes if o.measurement is None]
    lines += [f"  no time      {c}: {fault}" for c, fault in reasons[:SHOWN]]
    if len(reasons) > SHOWN:
        lines.append(f"  and {len(reasons) - SHOWN} more without a time")
    return "\n".join(lines)
