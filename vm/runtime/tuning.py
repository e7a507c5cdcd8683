"""Measures configurations of a program on the inputs of a case, each once and for good.

A configuration is a module, made when it is needed, whose case calls the program. What was found
out about it, a time or why there is none, is stored under the text of its kernel, the sizes, the
device and the toolchain, each in a file of its own: a tuning that was interrupted goes on where it
stopped, and what is the same kernel is measured once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from vm.errors import VmError, fail
from vm.isa import syntax
from vm.isa.instruction import instead
from vm.isa.kernel import Kernel
from vm.isa.program import Module
from vm.runtime.cache import Cache, Entry, default_directory, entry_key
from vm.runtime.cases import Executor, find_case, run_case, sizes_of_case, with_settings
from vm.runtime.kept import Kept
from vm.runtime.reference import Report
from vm.runtime.stopwatch import Measurement

OF_THE_MACHINE = frozenset({"E0705", "E0820", "E0821", "E0822", "E0824", "E0825"})
"""Faults that say nothing of a configuration: another time, or on another machine, it may run."""


class Stopwatch(Protocol):
    """Where kernels run and are measured: `vm.runtime.stopwatch.CudaStopwatch`.

    `device_name` and `versions` are what a measurement depends on beside kernel and sizes.
    """

    device_name: str
    versions: Mapping[str, str]

    def run(
        self, kernel: Kernel, arguments: Mapping[str, Any], *, output: Callable[[str], None]
    ) -> Report: ...

    def measure(self, kernel: Kernel, arguments: Mapping[str, Any]) -> Measurement: ...

    def compile_ahead(self, kernels: Iterable[Kernel]) -> None: ...


@dataclass(frozen=True)
class Configuration:
    """One way to do the work: `values` are what tells it from the others, `module` makes it."""

    values: Mapping[str, Any]
    module: Callable[[], Module]

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values.items())


@dataclass(frozen=True)
class Outcome:
    """What is known of a configuration: its time, or the fault for which it has none."""

    measurement: Measurement | None
    fault: str | None = None

    @classmethod
    def from_entry(cls, entry: Entry) -> Outcome:
        measured = entry.metadata["measurement"]
        return cls(None if measured is None else Measurement(**measured), entry.metadata["fault"])

    def as_entry(self, configuration: Configuration) -> Entry:
        measured = None if self.measurement is None else asdict(self.measurement)
        return Entry(b"", {
            "configuration": str(configuration), "measurement": measured, "fault": self.fault,
        })  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What is tuned: a program that a case calls, with these sizes of the case.

    Without a program it is the last one that the case calls.
    """

    case: str
    sizes: Mapping[str, Any]
    program: str | None = None

    def find(self, module: Module) -> tuple[syntax.Case, str]:
        """The case in a module and the name of the program; raises `VmError` E0809."""
        case = find_case(module, self.case)
        called = called_programs(module, case)
        program = self.program or (called[-1] if called else None)
        if program not in called:
            raise fail(
                "E0809", f"case `{self.case}` calls no program"
                + (f" `{program}`" if program else ""), case.origin, "this case",
                fix=instead(
                    program or "", called, f"it calls: {', '.join(called)}" if called
                    else "choose a case that runs a program",
                ),
            )  # fmt: skip
        return case, program


def called_programs(module: Module, case: syntax.Case) -> list[str]:
    """The programs that a case calls, references left out, in the order of its text."""
    found = []
    for statement in case.body.statements:
        calls = [n for n in syntax.walk(statement) if isinstance(n, syntax.Call)]
        for call in reversed(calls):  # the arguments of a call come before it
            program = module.programs.get(call.function)
            if program is not None and program.definition.kind != "reference":
                found.append(call.function)
    return found


class Store:
    """Outcomes in a directory, a file for each, which any number of processes share."""

    def __init__(self, directory: Path | None = None) -> None:
        self._cache = Cache(default_directory() / "tuned" if directory is None else directory)

    def get(self, key: str) -> Outcome | None:
        entry = self._cache.get(key)
        return None if entry is None else Outcome.from_entry(entry)

    def get_or_measure(
        self, key: str, configuration: Configuration, measure: Callable[[], Outcome]
    ) -> Outcome:
        """What is stored, else what `measure` gives: one process at a time measures a key."""
        entry = self._cache.get_or_compile(key, lambda: measure().as_entry(configuration))
        return Outcome.from_entry(entry)


def key_of(kernel: Kernel, sizes: Mapping[str, Any], stopwatch: Stopwatch) -> str:
    """The name that the outcome of a kernel is stored under."""
    listed = [f"{name}={value}" for name, value in sorted(sizes.items())]
    return entry_key(kernel.text, stopwatch.device_name, listed, stopwatch.versions)


def tune(
    configurations: Iterable[Configuration],
    work: Work,
    stopwatch: Stopwatch,
    store: Store,
    *,
    planned: Callable[[int], None] = lambda count: None,
    measured: Callable[[Configuration, Outcome], None] = lambda configuration, outcome: None,
    ahead: Callable[[Iterable[Kernel]], None] = lambda kernels: None,
) -> list[tuple[Configuration, Outcome]]:
    """The outcome of each configuration, measured where none is stored yet.

    `planned` is told how many are to be measured before the first is, `measured` each of them when
    it is done. `ahead` gets all kernels that will be compiled, before the first is. A configuration
    whose results are not what the case expects has that as its fault. Raises `VmError` for what is
    no configuration's own fault (see OF_THE_MACHINE): what was measured before stays stored.
    """
    known = _known(configurations, work, stopwatch, store)
    new = {key: configuration for configuration, outcome, key in known if outcome is None}
    planned(len(new))
    ahead(kernel for each in new.values() for kernel in _kernels(each, work))
    found: list[tuple[Configuration, Outcome]] = []
    done: dict[str, Outcome] = {}
    kept = Kept()
    for configuration, outcome, key in known:
        if outcome is None and key not in done:
            done[key] = store.get_or_measure(
                key, configuration, lambda each=configuration: _measure(each, work, stopwatch, kept)
            )
            measured(configuration, done[key])
        found.append((configuration, outcome or done[key]))
    return found


def stored(
    configurations: Iterable[Configuration], work: Work, stopwatch: Stopwatch, store: Store
) -> list[tuple[Configuration, Outcome | None]]:
    """What an earlier tuning found out about each configuration, None where it was in none."""
    return [(c, outcome) for c, outcome, _ in _known(configurations, work, stopwatch, store)]


def fastest(
    outcomes: Sequence[tuple[Configuration, Outcome]],
) -> tuple[Configuration, Measurement]:
    """The configuration with the least time; raises `VmError` E0850 where none has one."""
    times = [(c, o.measurement) for c, o in outcomes if o.measurement is not None]
    if not times:
        raise fail(
            "E0850", f"none of {len(outcomes)} configurations can be used", None,
            notes=tuple(f"{configuration}: {outcome.fault}" for configuration, outcome in outcomes),
            fix="give others to try: smaller tiles, fewer stages or more threads",
        )  # fmt: skip
    return min(times, key=lambda each: each[1].us)


def _known(
    configurations: Iterable[Configuration], work: Work, stopwatch: Stopwatch, store: Store
) -> list[tuple[Configuration, Outcome | None, str]]:
    """Each configuration with what is stored of it, and the name that it is stored under."""
    found: list[tuple[Configuration, Outcome | None, str]] = []
    for configuration in configurations:
        try:
            key = _key(configuration, work, stopwatch)
            found.append((configuration, store.get(key), key))
        except Unmade as error:  # there is no kernel to store anything under
            found.append((configuration, Outcome(None, str(error)), ""))
    return found


class Unmade(Exception):
    """No kernel can be made of a configuration."""


def _key(configuration: Configuration, work: Work, stopwatch: Stopwatch) -> str:
    """Raises `Unmade` for a fault of the configuration, `VmError` for one of the work."""
    try:
        module = configuration.module()
    except VmError as error:
        raise Unmade(_fault(error)) from error
    case, program = work.find(module)
    sizes = sizes_of_case(module, case, work.sizes)
    try:
        kernel = module[program].instantiate()
    except VmError as error:
        raise Unmade(_fault(error)) from error
    return key_of(kernel, sizes, stopwatch)


def _kernels(configuration: Configuration, work: Work) -> Iterator[Kernel]:
    """The programs that the case calls, as many as can be made."""
    module = configuration.module()
    case, _ = work.find(module)
    for program in called_programs(module, case):
        with contextlib.suppress(VmError):
            yield module[program].instantiate()


def _measure(
    configuration: Configuration, work: Work, stopwatch: Stopwatch, kept: Kept
) -> Outcome:
    """Runs the case, and measures the program with the arguments of its last call."""
    module = configuration.module()
    case, program = work.find(module)
    given: list[tuple[Kernel, Mapping[str, Any]]] = []

    def run(
        kernel: Kernel, arguments: Mapping[str, Any], *, output: Callable[[str], None]
    ) -> Report:
        if kernel.name == program:
            given.append((kernel, arguments))
        return stopwatch.run(kernel, arguments, output=output)

    where = Executor(stopwatch.device_name, run)
    result = run_case(
        module, case, executor=where, settings=work.sizes, output=_unheard, kept=kept
    )
    try:
        if result.fault is not None:
            raise result.fault
        wrong = [each for each in result.expectations if not each.passed]
        if wrong:
            return Outcome(None, f"{wrong[0].what} is wrong in {wrong[0].wrong} elements")
        return Outcome(stopwatch.measure(*given[-1]))
    except VmError as error:
        if error.code in OF_THE_MACHINE:
            raise
        return Outcome(None, _fault(error))


def _unheard(text: str) -> None:
    """What programs print while they are tuned."""


def _fault(error: VmError) -> str:
    return str(error).splitlines()[0]


def with_values(module: Module, values: Mapping[str, Any]) -> Configuration:
    """The configuration of a module with other values for some of its constants.

    Raises `VmError` E0803 for a name that is none of its constants.
    """
    for name in values:
        if name not in module.constants:
            raise fail(
                "E0803", f"the module has no constant `{name}`", None,
                fix=instead(
                    name, module.constants, f"it has: {', '.join(module.constants) or 'none'}"
                ),
            )  # fmt: skip
    return Configuration(values, lambda: with_settings(module, values))
