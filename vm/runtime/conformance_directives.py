"""The directives of conformance tests, and the walk over a test that comes to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from vm.errors import Origin, Source, VmError, fail
from vm.isa import syntax
from vm.isa.dtypes import DTypeError
from vm.isa.kernel import Kernel
from vm.isa.parse import parse_text
from vm.isa.printer import format_text
from vm.isa.program import Module, Program
from vm.isa.static import Environment, NotStatic, evaluate
from vm.isa.tensor import Tensor
from vm.layouts import MemoryLayout, RegisterLayout
from vm.runtime.case_functions import Planned
from vm.runtime.cases import EXECUTORS, with_settings
from vm.runtime.conformance_data import BOUNDS, DATA
from vm.runtime.reference_values import ReferenceResult, run_reference

FRAME = """\
vm 1
program p(A: global(f32)[N], B: global(f16)[M, N], I: global(i32)[N], P: global(u8)[N],
          Q: global(u4)[N], C: out(global(f32))[N], D: inout(global(i32))[N], n: i32, x: f32,
          ok: bool)
  grid (1) threads 64
{
"""
"""What stands before a quoted text that is only statements; `}` stands behind it."""


OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "reference": {"maximum_turns": 10_000},  # no test of the suite turns that often, but one
    "emulator": {"optimization": 0},  # each kernel runs for a moment
}
"""What executors are told besides."""


class Failure(Exception):
    """An assertion does not hold."""


class Unsupported(Exception):
    """The executor cannot do a program, which is no fault of the program (E0901)."""


class Performer(Protocol):
    """Runs a kernel for a test, or writes down that it is to be run."""

    def perform(self, kernel: Kernel, arguments: Mapping[str, Any]) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class Runner:
    """Runs kernels on an executor."""

    executor: str

    def perform(self, kernel: Kernel, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of the `out` and `inout` parameters, in their order."""
        place, name = EXECUTORS[self.executor].split(":")
        execute = getattr(import_module(place), name)
        copied = {
            name: Tensor(v.dtype, v.shape, np.array(v.storage)) if isinstance(v, Tensor) else v
            for name, v in arguments.items()
        }
        report = execute(kernel, copied, output=lambda text: None, **OPTIONS.get(self.executor, {}))
        return tuple(report.outputs[name] for name in outputs(kernel))


def outputs(kernel: Kernel) -> list[str]:
    """The parameters that a call has as results."""
    written = ("out", "inout")
    return [p.name for p in kernel.parameters if getattr(p.type, "access", "in") in written]


class Instances:
    """A module, and the kernels that its tests have made of its programs so far."""

    def __init__(self, module: Module):
        self.module = module
        self._modules: dict[str, Module] = {}
        self._kernels: dict[int, Kernel] = {}

    def program(self, name: str, settings: Mapping[str, Any]) -> Program:
        """A program of the module, with these values for constants."""
        key = repr(sorted((n, str(v)) for n, v in settings.items()))
        if key not in self._modules:
            self._modules[key] = with_settings(self.module, settings) if settings else self.module
        return self._modules[key][name]

    def kernel(self, program: Program) -> Kernel:
        """The kernel of a program that `program` gave, and so keeps."""
        if id(program) not in self._kernels:
            self._kernels[id(program)] = program.instantiate()
        return self._kernels[id(program)]


class Walk:
    """One test: its names, and the assertions in order."""

    def __init__(self, instances: Instances, test: syntax.Test, performer: Performer):
        self.instances = instances
        self.module = instances.module
        self.test = test
        self.performer = performer
        self.variables: dict[str, Any] = {}
        self.environment = Environment({}, self.module.constants, {}, self.variables.__contains__)

    # --- statements ---
    def assertions(self) -> Iterator[syntax.Call]:
        """Every assertion, after what stands before it was bound."""
        yield from self._statements(self.test.body)

    def _statements(self, block: syntax.Block) -> Iterator[syntax.Call]:
        for statement in block.statements:
            match statement:
                case syntax.Bind(names, value):
                    self._bind(names, self.values(value), statement.origin)
                case syntax.For(name, bounds, None, body):
                    for turn in range(*(self.static(bound) for bound in bounds)):
                        before = set(self.variables), dict(self.environment.values)
                        self.environment.values[name] = turn
                        yield from self._statements(body)
                        self.variables = {n: self.variables[n] for n in before[0]}
                        self.environment.values = before[1]
                        self.environment.runtime = self.variables.__contains__
                case syntax.Execute(syntax.Call(function) as call) if function in DIRECTIVES:
                    yield call
                case _:
                    raise fail(
                        "E0704", "a test binds names, repeats with `for`, and asserts",
                        statement.origin, "none of these",
                        fix="write `name = ...` or one of " + ", ".join(DIRECTIVES),
                    )  # fmt: skip

    def _bind(self, names: tuple[str, ...], values: tuple[Any, ...], origin: Origin) -> None:
        if len(names) != len(values):
            raise fail("E0209", f"{len(values)} results for {len(names)} names", origin, "here")
        for name, value in zip(names, values, strict=True):
            if name in self.variables or name in self.environment.values:
                raise fail("E0207", f"`{name}` is bound already", origin, "bound again here")
            if isinstance(value, (int, float, str, tuple)) or not _is_tensor(value):
                self.environment.values[name] = value
            else:
                self.variables[name] = value

    def check(self, call: syntax.Call) -> None:
        """Holds one assertion; raises `Failure` where it does not, `VmError` where it has none."""
        DIRECTIVES[call.function](self, call)

    # --- expressions ---
    def static(self, node: syntax.Expression) -> Any:
        try:
            return evaluate(node, self.environment)
        except NotStatic as error:
            raise fail(
                "E0203", f"`{error.name}` cannot stand here", error.origin,
                "a tensor, or an instruction", fix="call a program of this file with it",
            ) from None  # fmt: skip

    def value(self, node: syntax.Expression) -> Any:
        """The one value of an expression."""
        values = self.values(node)
        if len(values) != 1:
            raise fail("E0209", f"one value is needed here, not {len(values)}", node.origin, "here")
        return values[0]

    def values(self, node: syntax.Expression) -> tuple[Any, ...]:
        """A variable, what a program or a maker of tensors gives, or something static."""
        if isinstance(node, syntax.Name) and node.text in self.variables:
            return (self.variables[node.text],)
        if isinstance(node, syntax.Call):
            if node.function in self.module.programs:
                return self.perform(*self.prepared(node))
            if node.function in DATA:
                return self._made(node)
        return (self.static(node),)

    def _made(self, node: syntax.Call) -> tuple[Any, ...]:
        positional = [self.value(argument) for argument in node.arguments]
        named = {keyword.name: self.value(keyword.value) for keyword in node.keywords}
        try:
            made = DATA[node.function](*positional, **named)
            return made.compute() if isinstance(made, Planned) else (made,)
        except (DTypeError, TypeError, ValueError) as error:
            raise fail("E0205", f"`{node.function}`: {error}", node.origin, "here") from None

    def program_of(self, node: syntax.Call) -> tuple[Program, dict[str, Any]]:
        """The program that a call names, its constants as the call gives them, and the others of
        its keywords."""
        given = {k.name: self.value(k.value) for k in node.keywords}
        settings = {n: v for n, v in given.items() if n in self.module.constants}
        rest = {n: v for n, v in given.items() if n not in settings}
        return self.instances.program(node.function, settings), rest

    def prepared(self, node: syntax.Call) -> tuple[Program, dict[str, Any]]:
        """The program that a call names, and its arguments."""
        program, named = self.program_of(node)
        values = [self.value(argument) for argument in node.arguments]
        inputs = [p.name for p in program.definition.parameters if not _is_output(p.type)]
        if len(values) > len(inputs):
            raise fail("E0209", f"`{program.name}` takes {len(inputs)} arguments", node.origin, "")
        return program, {**dict(zip(inputs, values, strict=False)), **named}

    def perform(self, program: Program, arguments: dict[str, Any]) -> tuple[Any, ...]:
        """What a program or reference gives; raises `VmError` for its faults."""
        if program.definition.kind == "reference":
            return (run_reference(program, arguments),)
        kernel = self.instances.kernel(program)
        missing = {name: None for name in outputs(kernel) if name not in arguments}
        try:
            return self.performer.perform(kernel, {**missing, **arguments})
        except VmError as error:
            if error.code == "E0901":
                raise Unsupported(error.diagnostics[0].message) from None
            raise

    # --- texts and places ---
    def quoted(self, node: syntax.Expression) -> Source:
        """The text of a directive, whole: in the frame where it is only statements."""
        return Source("<quoted>", framed(self._string(node)))

    def _string(self, node: syntax.Expression) -> str:
        text = self.static(node)
        if not isinstance(text, str):
            raise fail("E0205", "a text is needed here", node.origin, "this is none")
        return text

    def keywords(self, call: syntax.Call, *known: str) -> dict[str, Any]:
        """The keywords of a directive other than `bound`, evaluated; E0209 for an unknown one."""
        for keyword in call.keywords:
            if keyword.name not in known:
                raise fail("E0209", f"`{call.function}` has no argument `{keyword.name}`",
                           keyword.origin, "unknown", fix=f"known: {', '.join(known)}")  # fmt: skip
        return {k.name: self.value(k.value) for k in call.keywords if k.name != "bound"}

    def hold_fault(
        self, call: syntax.Call, error: VmError, text: str, first: int = 0, last: int | None = None
    ) -> None:
        """The code and the places of a fault are those that a directive asks for; places are
        looked for in a part of `text`."""
        found = self.keywords(call, "at", "nth", "line", "column", "other", "target")
        code = self._string(call.arguments[1])
        if error.code != code:
            raise Failure(f"{error.code} instead of {code}: {error.diagnostics[0].message}")
        if text.startswith(FRAME):
            first = len(FRAME)
        part = (first, len(text) if last is None else last)
        wanted = self.place(call, found, text, part)
        got = range_of(error.origin)
        if wanted != got[: len(wanted)]:
            raise Failure(f"{code} at {shown(got)} instead of {shown(wanted)}")
        if "other" in found:
            other = position(text, found["other"], None, part, call.origin)
            places = [range_of(label.origin) for label in error.diagnostics[0].labels[1:]]
            if other not in places:
                raise Failure(f"{code} does not name {shown(other)} as well, but {places}")

    def place(
        self, call: syntax.Call, found: Mapping[str, Any], text: str, part: tuple[int, int]
    ) -> tuple[int, ...]:
        """The place that a directive asks for: (line, column, end line, end column), or its
        beginning alone."""
        if "at" in found:
            return position(text, found["at"], found.get("nth"), part, call.origin)
        if {"line", "column"} <= set(found):
            return found["line"], found["column"]
        raise fail("E0209", "a fault has a place", call.origin, "no place here",
                   fix='write at="the text it points at", or line= and column=')  # fmt: skip


def _is_output(type_: syntax.Expression) -> bool:
    """Whether a parameter is a result only: `out(...)[...]`."""
    base = type_.base if isinstance(type_, syntax.Subscript) else None
    return isinstance(base, syntax.Call) and base.function == "out"


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (Tensor, ReferenceResult)) or hasattr(value, "step")


def framed(text: str) -> str:
    """A quoted text as a whole module; a newline at its very beginning does not count."""
    text = text.removeprefix("\n")
    if re.match(r"(\s|#[^\n]*\n)*vm\b", text):
        return text
    body = text if text.endswith("\n") else text + "\n"
    return f"{FRAME}{body}}}\n"


def position(
    text: str, wanted: str, nth: int | None, part: tuple[int, int], origin: Origin
) -> tuple[int, int, int, int]:
    """Where `wanted` stands in a part of a text; it must be there once, or `nth` says which.

    With a part of it between « and », that part alone is the place: "load(«s»)"."""
    before, _, marked = wanted.partition("«")
    inner, _, behind = marked.partition("»")
    if not marked:
        before, inner, behind = "", wanted, ""
    context = before + inner + behind
    found, at = [], text.find(context, *part)
    while at >= 0:
        found.append(at)
        at = text.find(context, at + 1, part[1])
    if not 1 <= (nth or 1) <= len(found) or (nth is None and len(found) > 1):
        raise fail("E0209", f"`{wanted}` stands {len(found)} times in the text", origin, "here",
                   fix="choose with nth=1, 2, ...")  # fmt: skip
    first = found[(nth or 1) - 1] + len(before)
    return (*_line_and_column(text, first), *_line_and_column(text, first + len(inner)))


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def offset_of(text: str, line: int, column: int) -> int:
    """The number of characters before a place."""
    lines = text.split("\n")
    return sum(len(each) + 1 for each in lines[: line - 1]) + column - 1


def range_of(origin: Origin) -> tuple[int, int, int, int]:
    """The place of an origin."""
    return origin.line, origin.column, origin.end_line, origin.end_column


def shown(place: tuple[int, ...]) -> str:
    ends = f" to {place[2]}:{place[3]}" if len(place) > 2 else ""
    return f"{place[0]}:{place[1]}{ends}"


# --- the directives ---
def assert_return(walk: Walk, call: syntax.Call) -> None:
    """assert_return(program(...), wanted, ..., bound=...)"""
    walk.keywords(call, "bound")
    got = _results(walk, call.arguments[0])
    wanted = [walk.value(argument) for argument in call.arguments[1:]]
    if len(got) != len(wanted):
        raise fail("E0209", f"{len(got)} results and {len(wanted)} wanted", call.origin, "here")
    bound = bound_of(walk, call)
    for number, (one, want) in enumerate(zip(got, wanted, strict=True)):
        hold_equal(one, want, bound, f"result {number}")


def assert_same(walk: Walk, call: syntax.Call) -> None:
    """assert_same(program(...), other(...), bound=...)"""
    walk.keywords(call, "bound")
    first, second = (_results(walk, argument) for argument in call.arguments)
    if len(first) != len(second):
        raise Failure(f"{len(first)} results and {len(second)}")
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        hold_equal(one, other, bound_of(walk, call), f"result {number}")


def _results(walk: Walk, node: syntax.Expression) -> tuple[Any, ...]:
    """The results of a program that is called, whose faults make the assertion fail; or values."""
    if not isinstance(node, syntax.Call) or node.function not in walk.module.programs:
        return walk.values(node)
    program, arguments = walk.prepared(node)
    try:
        return walk.perform(program, arguments)
    except VmError as error:
        raise Failure(f"faults with {error}") from None


def bound_of(walk: Walk, call: syntax.Call) -> Any:
    """The bound that a directive names, None for equality of bits."""
    node = next((k.value for k in call.keywords if k.name == "bound"), None)
    if node is None:
        return None
    if not isinstance(node, syntax.Call) or node.function not in BOUNDS:
        raise fail("E0209", "this is no bound", node.origin, "here",
                   fix=f"one of: {', '.join(BOUNDS)}")  # fmt: skip
    positional = [walk.static(argument) for argument in node.arguments]
    named = {keyword.name: walk.static(keyword.value) for keyword in node.keywords}
    return BOUNDS[node.function](*positional, **named)


def hold_equal(got: Any, want: Any, bound: Any, what: str) -> None:
    """Equality of codes, any NaN being equal to any other; or distance within a bound."""
    if isinstance(want, Tensor) and bound is None:
        if got.dtype != want.dtype or got.shape != want.shape:
            raise Failure(f"{what} is {got!r} instead of {want!r}")
        wrong = got.codes() != want.codes()
        if got.dtype.has_nan:
            wrong &= ~(np.isnan(got.values()) & np.isnan(want.values()))
        _refuse_wrong(what, got, want.values(), wrong)
        return
    values = np.asarray(want.values() if isinstance(want, Tensor) else want.values, np.float64)
    magnitude = np.abs(values) if isinstance(want, Tensor) else want.magnitude
    if got.shape != values.shape:
        raise Failure(f"{what} has shape {got.shape} instead of {values.shape}")
    actual = got.values().astype(np.float64)
    same = (actual == values) | (np.isnan(actual) & np.isnan(values))
    if bound is None:
        _refuse_wrong(what, got, values, ~same)
        return
    with np.errstate(all="ignore"):
        close = np.abs(actual - values) <= bound(values, magnitude, got.dtype)
    _refuse_wrong(what, got, values, ~(same | close))


def _refuse_wrong(what: str, got: Tensor, want: np.ndarray, wrong: np.ndarray) -> None:
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise Failure(
            f"{what}{list(at)} is {got.values()[at]} (code {int(got.codes()[at]):#x}) instead of "
            f"{want[at]}; {int(wrong.sum())} of {wrong.size} are wrong"
        )


def _assert_fault(walk: Walk, call: syntax.Call, family: tuple[str, ...]) -> None:
    """The program that is called ends in a fault of one of these families."""
    target = call.arguments[0]
    if not isinstance(target, syntax.Call) or target.function not in walk.module.programs:
        raise fail("E0209", "a program of this file is called here", target.origin, "this is none")
    code = walk.static(call.arguments[1])
    if not str(code).startswith(family):
        raise fail("E0209", f"`{call.function}` is about {' and '.join(family)}", call.origin, "")
    program, arguments = walk.prepared(target)
    try:
        walk.perform(program, arguments)
    except VmError as error:
        walk.hold_fault(call, error, *part_of(program))
        return
    raise Failure(f"ends without a fault instead of {code}")


def part_of(program: Program) -> tuple[str, int, int]:
    """The text that a program stands in, and where it begins and ends there."""
    place = program.definition.origin
    text = place.source.text
    first = offset_of(text, place.line, place.column)
    return text, first, offset_of(text, place.end_line, place.end_column)


def assert_trap(walk: Walk, call: syntax.Call) -> None:
    """assert_trap(program(...), "E0502", at="y")"""
    _assert_fault(walk, call, ("E05", "E0306"))


RACES = ("E0601", "E0602", "E0604", "E0606", "E0607", "E0608", "E0609", "E0610")
"""Accesses that nothing orders, and barriers that count what they should not."""


def assert_race(walk: Walk, call: syntax.Call) -> None:
    """assert_race(program(...), "E0601", at="s", other="t")"""
    _assert_fault(walk, call, RACES)


def assert_deadlock(walk: Walk, call: syntax.Call) -> None:
    """assert_deadlock(program(...), "E0603", at="barrier(1, 2)")"""
    _assert_fault(walk, call, ("E0603", "E0605", "E0611"))


def assert_malformed(walk: Walk, call: syntax.Call) -> None:
    """assert_malformed(text, "E0102", at="5"): the text cannot be read."""
    source = walk.quoted(call.arguments[0])
    try:
        parse_text(source)
    except VmError as error:
        walk.hold_fault(call, error, source.text)
        return
    raise Failure("can be read")


def assert_invalid(walk: Walk, call: syntax.Call) -> None:
    """assert_invalid(text, "E0205", at="x"): the text can be read, and a program in it is wrong."""
    source = walk.quoted(call.arguments[0])
    try:
        tree = parse_text(source)
    except VmError as error:
        raise Failure(f"cannot even be read: {error}") from None
    try:
        for program in Module(tree):
            program.instantiate()
    except VmError as error:
        walk.hold_fault(call, error, source.text)
        return
    raise Failure("is valid")


def assert_unsupported(walk: Walk, call: syntax.Call) -> None:
    """assert_unsupported(program(T=f64), "E0901", at="dot(a, b)", target="sm_80"): the program is
    valid, and the target cannot do it."""
    from vm.compiler import pipeline

    program, _ = walk.program_of(call.arguments[0])
    named = walk.keywords(call, "at", "nth", "line", "column", "target")
    target = pipeline.target(named["target"])
    kernel = program.instantiate(warp_width=target.warp_width)
    try:
        pipeline.lower(kernel, target)
    except VmError as error:
        walk.hold_fault(call, error, *part_of(program))
        return
    raise Failure(f"{named['target']} can do it")


def assert_text(walk: Walk, call: syntax.Call) -> None:
    """assert_text(text, printed): how the text is printed; itself where `printed` is left out."""
    source = walk.quoted(call.arguments[0])
    printed = format_text(parse_text(source))
    wanted = walk.quoted(call.arguments[-1]).text
    if wanted.startswith(FRAME):
        frame = format_text(parse_text(Source("<frame>", FRAME + "}\n"))).removesuffix("}\n")
        wanted = frame + wanted.removeprefix(FRAME)
    if printed != wanted:
        raise Failure(f"is printed as\n{printed}")


def assert_layout(walk: Walk, call: syntax.Call) -> None:
    """assert_layout(expression, table): the index of every thread and slot, or the offset of every
    element; or assert_layout(expression, expression)."""
    first, wanted = (walk.static(argument) for argument in call.arguments)
    if isinstance(wanted, tuple) and not isinstance(first, tuple):
        table = first.table() if isinstance(first, RegisterLayout) else first.offsets()
        if table.tolist() != _lists(wanted):
            raise Failure(f"is {table.tolist()}")
    elif isinstance(wanted, (RegisterLayout, MemoryLayout)):
        if first != wanted:
            raise Failure(f"{first} is not {wanted}")
    elif first != wanted:
        raise Failure(f"is {first}")


def _lists(items: Any) -> Any:
    return [_lists(item) for item in items] if isinstance(items, tuple) else items


DIRECTIVES: Mapping[str, Callable[[Walk, syntax.Call], None]] = {
    function.__name__: function
    for function in (
        assert_return, assert_trap, assert_race, assert_deadlock, assert_invalid,
        assert_malformed, assert_unsupported, assert_same, assert_layout, assert_text,
    )
}  # fmt: skip

CAPABILITIES_OF: Mapping[str, tuple[str, ...]] = {
    "assert_trap": ("traps",),
    "assert_race": ("races",),
    "assert_deadlock": ("deadlocks",),
}
"""What a directive needs of an executor beyond running programs."""
