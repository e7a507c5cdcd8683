"""Running the cases of a module: inputs are made, programs called, results held to a bound.

A case is a list of `name = expression` and `expect(...)`, walked here node by node. Expressions are
static ones over constants, the case's sizes and what was bound before, calls of the module's
programs and references, and calls of `case_functions`. `check_case` walks it without computing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from textwrap import shorten
from typing import Any

import numpy as np

from vm.errors import Origin, VmError, fail
from vm.isa import control, syntax
from vm.isa.instruction import instead
from vm.isa.kernel import static_syntax
from vm.isa.printer import format_expression
from vm.isa.program import Module, Program
from vm.isa.recursion import deep_walk
from vm.isa.static import Environment, NotStatic, evaluate
from vm.isa.tensor import Tensor
from vm.runtime import bounds
from vm.runtime.case_functions import FUNCTIONS, INPUTS, Planned, blank, call_function, check_size
from vm.runtime.comparison import Expectation, compare
from vm.runtime.inputs import FileInput, RandomInput, fit_dtype, read_tensor
from vm.runtime.kept import Kept
from vm.runtime.reference_arguments import is_number_of
from vm.runtime.reference_values import ReferenceResult, instantiate_reference, run_reference
from vm.runtime.signatures import Argument, Signature, bind_sizes, check_facts, signature

EXECUTORS = {
    "reference": "vm.runtime.reference:run",
    "emulator": "vm.runtime.compiled:run_on_emulator",
    "cuda": "vm.runtime.compiled:run_on_cuda",
}
"""What `--on` names: where the function `run(kernel, arguments) -> report` of an executor is."""


@dataclass(frozen=True)
class Executor:
    """How kernels run somewhere: `run(kernel, arguments, output=...)`, whose warps have that many
    lanes; `name` is what is shown."""

    name: str
    run: Callable[..., Any]
    warp_width: int = 32


def find_executor(name: str) -> Executor:
    """The executor of that name, which is one of `EXECUTORS`, or `emulator:TARGET`: the emulator
    with what is emitted for that target. Raises E0809 or E0902 where there is none."""
    first, colon, target_name = name.partition(":")
    if first not in EXECUTORS or (colon and first != "emulator"):
        others = [executor for executor in EXECUTORS if executor != first]
        raise fail(
            "E0809", f"there is no executor `{name}`", None,
            fix=instead(first, others, f"one of: {', '.join(EXECUTORS)}, emulator:TARGET"),
        )  # fmt: skip
    place, function = EXECUTORS[first].split(":")
    run = getattr(import_module(place), function)
    if not colon:
        return Executor(name, run)
    from vm.compiler.pipeline import target

    width = target(target_name).warp_width
    return Executor(name, partial(run, target_name=target_name), width)

BOUNDS = {
    function.__name__: function
    for function in (bounds.dot_error, bounds.elementwise_error, bounds.exact)
}
"""What `bound=` may call."""


@dataclass(frozen=True)
class Call:
    """A program that ran: tensors with their dtypes and shapes, as text."""

    program: str
    executor: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    blocks: int
    seconds: float


@dataclass
class CaseResult:
    """What happened in a case; `fault` is what stopped it, `variables` is what it bound."""

    name: str
    executor: str
    sizes: dict[str, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    expectations: list[Expectation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    fault: VmError | None = None

    @property
    def passed(self) -> bool:
        return self.fault is None and all(each.passed for each in self.expectations)


def find_case(module: Module, name: str) -> syntax.Case:
    """The case of that name; raises `VmError` E0809 where the module has none."""
    if name not in module.cases:
        raise fail(
            "E0809", f"there is no case `{name}`", None,
            fix=instead(
                name, module.cases, f"choose one of: {', '.join(module.cases)}" if module.cases
                else "write one: case main(N = 1024) { ... expect(...) }",
            ),
        )  # fmt: skip
    return module.cases[name]


def with_settings(module: Module, settings: Mapping[str, Any]) -> Module:
    """The module with other values for the constants among `settings`."""
    items = []
    for item in module.text.items:
        if isinstance(item, syntax.Constant) and item.name in settings:
            value = static_syntax(settings[item.name])
            item = syntax.Constant(item.kind, item.name, value, item.origin, item.trivia)
        items.append(item)
    text = module.text
    return Module(syntax.Text(text.version, tuple(items), text.closing, text.origin, text.trivia))


def run_case(
    module: Module,
    case: syntax.Case,
    *,
    executor: str | Executor = "reference",
    settings: Mapping[str, Any] | None = None,
    inputs: Mapping[str, RandomInput | FileInput] | None = None,
    output: Callable[[str], None] = print,
    kept: Kept | None = None,
) -> CaseResult:
    """Runs a case; a fault of it or of a program is in the result and not raised.

    `executor` is one or the name of one (see `find_executor`). `settings` override constants and
    sizes by name, those that are neither are refused (E0803); `inputs` stand in place of the case's
    own; `output` takes what programs print. What earlier runs with the same `kept` have computed
    alike is not computed again.
    """
    name = executor if isinstance(executor, str) else executor.name
    result = CaseResult(case.name, name)
    started = time.perf_counter()
    try:
        where = find_executor(executor) if isinstance(executor, str) else executor
        with deep_walk(case.origin):
            _Run(module, case, result, settings or {}, inputs or {}, where, output, kept).walk()
    except VmError as error:
        result.fault = error
    except MemoryError:
        result.fault = fail(
            "E0705", f"case `{case.name}` does not fit in this machine's memory", case.origin,
            "this case", fix="give it smaller sizes with --set",
        )  # fmt: skip
    result.seconds = time.perf_counter() - started
    return result


def sizes_of_case(
    module: Module, case: syntax.Case, settings: Mapping[str, Any]
) -> dict[str, int]:
    """The sizes of a case with these settings; raises as `run_case` has it in its result."""
    result = CaseResult(case.name, "")
    _Run(module, case, result, settings, {}, None, print).find_sizes()
    return result.sizes


def check_case(module: Module, case: syntax.Case) -> VmError | None:
    """The first mistake in a case that can be known without running it."""
    result = CaseResult(case.name, "")
    try:
        with deep_walk(case.origin):
            _Run(module, case, result, {}, {}, None, print).walk()
    except VmError as error:
        return error
    return None


class _Run:
    """One walk over a case; `executor` is None where nothing is to be computed."""

    def __init__(
        self,
        module: Module,
        case: syntax.Case,
        result: CaseResult,
        settings: Mapping[str, Any],
        inputs: Mapping[str, RandomInput | FileInput],
        executor: Executor | None,
        output: Callable[[str], None],
        kept: Kept | None = None,
    ):
        self.module = with_settings(module, settings)
        self.case = case
        self.result = result
        self.settings = settings
        self.executor = executor
        self.output = output
        self.kept = kept
        self.variables = result.variables
        self.places: dict[str, Origin] = {}
        self.environment = Environment({}, self.module.constants, {}, self.variables.__contains__)
        self.inputs = self._open_inputs(inputs)

    def walk(self) -> None:
        self.find_sizes()
        expects = 0
        for statement in self.case.body.statements:
            match statement:
                case syntax.Bind(names, value):
                    self._bind(statement, names, value)
                case syntax.Execute(syntax.Call("expect") as call):
                    self._expect(call)
                    expects += 1
                case _:
                    raise fail(
                        "E0704", "a case binds names and ends in expect(...)", statement.origin,
                        "neither", fix="write `name = ...` or `expect(C, reference(...))`",
                    )  # fmt: skip
        if not expects:
            raise fail(
                "E0704", f"case `{self.case.name}` expects nothing", self.case.origin,
                "no expect(...)", fix="end it in `expect(C, reference(...), bound=...)`",
            )  # fmt: skip

    # --- sizes and inputs ---
    def _makers(self, case: syntax.Case) -> dict[str, syntax.Call]:
        """The inputs of a case, and the calls that make them."""
        return {
            name: statement.value
            for statement in case.body.statements
            if isinstance(statement, syntax.Bind)
            and isinstance(statement.value, syntax.Call)
            and statement.value.function in INPUTS
            and statement.value.function not in self.module.programs
            for name in statement.names
        }

    def _open_inputs(
        self, given: Mapping[str, RandomInput | FileInput]
    ) -> dict[str, RandomInput | Tensor]:
        """The tensors of input files, by the variable that each replaces."""
        makers = self._makers(self.case)
        for name in given:
            if name not in makers:
                having = [c.name for c in self.module.cases.values() if name in self._makers(c)]
                raise fail(
                    "E0804", f"case `{self.case.name}` has no input `{name}`", self.case.origin,
                    "this case", notes=(f"its inputs are {', '.join(makers) or 'none'}",),
                    fix=instead(
                        name, makers, f"choose a case that has it: --case {having[0]}" if having
                        else "name one of its inputs",
                    ),
                )  # fmt: skip
        self.makers = makers
        self.sources = {n: str(s) for n, s in given.items() if isinstance(s, FileInput)}
        return {
            name: source if isinstance(source, RandomInput) else read_tensor(source)
            for name, source in given.items()
        }

    def find_sizes(self) -> None:
        """The case's sizes: from the shapes of input files, from settings, or as written."""
        declared = {keyword.name: keyword for keyword in self.case.sizes}
        unknown = [n for n in self.settings if n not in declared and n not in self.module.constants]
        if unknown:
            known = [*declared, *self.module.constants]
            raise fail(
                "E0803", f"case `{self.case.name}` has no size or constant `{unknown[0]}`",
                self.case.origin, "this case",
                fix=instead(unknown[0], known, f"it has: {', '.join(known)}"),
            )  # fmt: skip
        from_files = self._sizes_of_inputs(declared)
        for name, keyword in declared.items():
            value = from_files.get(name, self.settings.get(name))
            if value is None:
                value = self._static(keyword.value)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise fail(
                    "E0205", f"the size {name} must be a whole number", keyword.origin,
                    f"this is {value}", fix="write a number such as 1024",
                )  # fmt: skip
            self.environment.values[name] = value
            self.result.sizes[name] = value

    def _sizes_of_inputs(self, declared: Mapping[str, syntax.Keyword]) -> dict[str, int]:
        """Sizes that stand alone in the shape of an input that a file replaces."""
        found: dict[str, tuple[int, str]] = {}
        for name, tensor in self.inputs.items():
            if not isinstance(tensor, Tensor):
                continue
            extents = self._extents(name)
            if extents is not None and len(extents) != len(tensor.shape):
                raise self._misfit(name, tensor, f"is written with {len(extents)} dimensions")
            for extent, actual in zip(extents or (), tensor.shape, strict=True):
                if not isinstance(extent, syntax.Name) or extent.text not in declared:
                    continue
                size, (earlier, by) = extent.text, found.get(extent.text, (actual, name))
                given = self.settings.get(size, actual)
                if earlier != actual or given != actual:
                    other = f"`{by}` gives {earlier}" if earlier != actual else f"--set {given}"
                    raise self._misfit(name, tensor, f"makes {size} = {actual}, but {other}")
                found[size] = (actual, name)
        return {size: value for size, (value, _) in found.items()}

    def _extents(self, name: str) -> tuple[syntax.Expression, ...] | None:
        """The extents that an input is written with, where they are a list."""
        maker = self.makers[name]
        shapes = [*maker.arguments[1:2], *(k.value for k in maker.keywords if k.name == "shape")]
        return shapes[0].items if shapes and isinstance(shapes[0], syntax.Sequence) else None

    def _misfit(self, name: str, tensor: Tensor, what: str) -> VmError:
        turned = ""
        if len(tensor.shape) == 2:
            turned = "; a weight the other way round is turned in the case: transpose(W)"
        return fail(
            "E0807", f"{self.sources[name]} does not fit `{name}`, which {what}",
            self.makers[name].origin, f"the file has {tensor!r}",
            fix=f"give a tensor of the shape written here{turned}",
        )  # fmt: skip

    def _replaced(self, name: str, made: Planned, call: syntax.Call) -> tuple[Tensor, ...]:
        """What stands for an input that the user gives."""
        source = self.inputs[name]
        (element, shape) = made.types[0]
        if isinstance(source, RandomInput):
            again = FUNCTIONS["random"](element, shape, seed=source.seed, **self._scale(call))
            self.result.notes.append(f"{name} is random with seed {source.seed}")
            return again.compute()
        fitted = fit_dtype(source, element, self.sources[name])
        if fitted.shape != shape:
            raise self._misfit(name, source, f"is {list(shape)} here")
        cast = f", cast from {source.dtype.name}" if source.dtype != element else ""
        self.result.notes.append(f"{name} is {self.sources[name]}{cast}")
        return (fitted,)

    def _scale(self, call: syntax.Call) -> dict[str, float]:
        return {k.name: self._static(k.value) for k in call.keywords if k.name == "scale"}

    # --- statements ---
    def _bind(
        self, statement: syntax.Bind, names: tuple[str, ...], value: syntax.Expression
    ) -> None:
        for name in names:
            if name in self.variables or name in self.environment.names():
                earlier = self.places.get(name, self.case.origin)
                raise fail(
                    "E0207", f"`{name}` is bound already", statement.origin, "bound again here",
                    others=((earlier, "first here"),), fix="choose another name",
                )  # fmt: skip
        results = self._results(value, names[0] if len(names) == 1 else None)
        if len(results) != len(names):
            raise fail(
                "E0209", f"{len(results)} results for {len(names)} names", statement.origin, "here",
                fix=f"bind {len(results)} names",
            )  # fmt: skip
        for name, result in zip(names, results, strict=True):
            self.places[name] = statement.origin
            if isinstance(result, (Tensor, ReferenceResult)):
                self.variables[name] = result
            else:
                self.environment.values[name] = result

    def _expect(self, call: syntax.Call) -> None:
        keywords = {keyword.name: keyword.value for keyword in call.keywords}
        if len(call.arguments) != 2 or set(keywords) - {"bound"}:
            raise fail(
                "E0209", "expect takes what came out and what should have", call.origin, "here",
                fix="write expect(C, reference(...), bound=dot_error(f16, f32, K))",
            )  # fmt: skip
        got, want = (self._value(argument) for argument in call.arguments)
        for value, node in zip((got, want), call.arguments, strict=True):
            if not isinstance(value, (Tensor, ReferenceResult)):
                raise fail(
                    "E0205", "a tensor is needed here", node.origin, f"this is {value}",
                    fix="compare tensors: full(f32, [N], 0.0) is one of a number",
                )  # fmt: skip
        bound = self._bound(keywords["bound"]) if "bound" in keywords else None
        if bound is not None and not isinstance(want, ReferenceResult):
            raise fail(
                "E0209", "a bound needs the result of a reference", call.arguments[1].origin,
                "this is no reference",
                others=((keywords["bound"].origin, "for this bound"),),
                fix="compare with reference(...), or leave out bound= to compare exactly",
            )  # fmt: skip
        shapes = [v.shape if isinstance(v, Tensor) else v.values.shape for v in (got, want)]
        if shapes[0] != shapes[1]:
            raise fail(
                "E0302", f"{list(shapes[0])} is compared with {list(shapes[1])}",
                call.arguments[1].origin, f"{list(shapes[1])}",
                others=((call.arguments[0].origin, f"{list(shapes[0])}"),),
                fix="compare tensors of one shape",
            )  # fmt: skip
        if self.executor is not None:
            what = shorten(format_expression(call.arguments[0]), 60, placeholder=" ...")
            self.result.expectations.append(compare(what, got, want, bound, call.origin))

    def _bound(self, node: syntax.Expression) -> Any:
        if not isinstance(node, syntax.Call) or node.function not in BOUNDS:
            raise fail(
                "E0209", "this is no bound", node.origin, "here",
                fix=f"write one of {', '.join(name + '(...)' for name in BOUNDS)}",
            )  # fmt: skip
        positional = [self._static(argument) for argument in node.arguments]
        named = {keyword.name: self._static(keyword.value) for keyword in node.keywords}
        return call_function(node.function, BOUNDS[node.function], node, positional, named)

    # --- expressions ---
    def _value(self, node: syntax.Expression) -> Any:
        """One value: a tensor, what a reference gave, or something static."""
        results = self._results(node, None)
        if len(results) != 1:
            raise fail(
                "E0209", f"one value is needed here, not {len(results)}", node.origin, "here",
                fix="bind the results to names and use one",
            )  # fmt: skip
        return results[0]

    def _results(self, node: syntax.Expression, name: str | None) -> tuple[Any, ...]:
        """The values of an expression; `name` is what it is bound to, for inputs."""
        if isinstance(node, syntax.Name) and node.text in self.variables:
            return (self.variables[node.text],)
        if isinstance(node, syntax.Call):
            program = self.module.programs.get(node.function)
            if program is not None:
                return self._program(program, node)
            if node.function in FUNCTIONS:
                return self._function(node, name)
        return (self._static(node),)

    def _function(self, node: syntax.Call, name: str | None) -> tuple[Any, ...]:
        positional = [self._value(argument) for argument in node.arguments]
        named = {keyword.name: self._value(keyword.value) for keyword in node.keywords}
        made = call_function(node.function, FUNCTIONS[node.function], node, positional, named)
        if self.executor is None:
            return tuple(blank(element, shape) for element, shape in made.types)
        if name in self.inputs:
            return self._replaced(name, made, node)
        try:
            if self.kept is None or node.function not in INPUTS:
                return made.compute()
            arguments = (*positional, *sorted(named.items()))
            return self.kept.inputs(node.function, arguments, made.compute)
        except ValueError as error:  # what a function refuses about the values themselves
            raise fail(
                "E0205", f"`{node.function}`: {error}", node.origin, "here",
                fix="give it other values, or ask for another dtype",
            ) from None  # fmt: skip

    def _static(self, node: syntax.Expression) -> Any:
        try:
            return evaluate(node, self.environment)
        except NotStatic as error:
            raise fail(
                "E0203", f"`{error.name}` cannot stand in an expression of a case", error.origin,
                "a tensor, or an instruction",
                fix="compute with tensors in a program or a reference, and call it here",
            ) from None  # fmt: skip

    # --- programs and references ---
    def _program(self, program: Program, node: syntax.Call) -> tuple[Any, ...]:
        header = signature(program)
        arguments, sizes = self._arguments(header, node)
        scalars = {n: a.value for n, a in arguments.items() if n in header.scalars}
        sizes = bind_sizes(header, arguments, sizes, node.origin)
        check_facts(header, {**sizes, **scalars}, node.origin)
        if program.definition.kind == "reference":
            return (self._reference(program, arguments, sizes),)
        executor = self.executor
        kernel = program.instantiate(warp_width=executor.warp_width if executor else 32)
        results = {
            name: self._poisoned(header, name, sizes, node)
            if name not in arguments else _copy(arguments[name].value)
            for name in header.outputs
        }  # fmt: skip
        if executor is None:
            return tuple(results.values())
        values = {name: argument.value for name, argument in arguments.items()}
        report = executor.run(kernel, {**values, **results}, output=self.output)
        self.result.calls.append(
            Call(
                program.name, executor.name,
                tuple(_shown(n, values[n]) for n in header.inputs),
                tuple(_shown(n, results[n]) for n in header.outputs),
                report.blocks, report.seconds,
            )
        )  # fmt: skip
        return tuple(report.outputs[name] for name in header.outputs)

    def _poisoned(
        self, header: Signature, name: str, sizes: Mapping[str, int], node: syntax.Call
    ) -> Tensor:
        element, shape = header.types[name].dtype, header.shape(name, sizes)
        check_size(element, shape, node.origin)
        return blank(element, shape) if self.executor is None else poisoned(element, shape)

    def _arguments(
        self, header: Signature, node: syntax.Call
    ) -> tuple[dict[str, Argument], dict[str, Argument]]:
        """What a call gives for the parameters, and for sizes by name."""
        program = header.program.name
        if len(node.arguments) > len(header.inputs):
            raise fail(
                "E0209", f"`{program}` takes {len(header.inputs)} arguments",
                node.arguments[len(header.inputs)].origin, "one too many",
                others=((header.program.definition.origin, "defined here"),),
                fix=f"give {', '.join(header.inputs)}; out parameters are results",
            )  # fmt: skip
        given = list(zip(header.inputs, node.arguments, strict=False))
        sizes: dict[str, Argument] = {}
        arguments: dict[str, Argument] = {}
        for name, expression in [*given, *((k.name, k.value) for k in node.keywords)]:
            argument = Argument(self._value(expression), expression.origin)
            if name in arguments or name in sizes:
                raise fail(
                    "E0209", f"`{name}` is given twice", expression.origin, "again here",
                    fix="remove one",
                )  # fmt: skip
            if name in header.inputs:
                arguments[name] = argument
            elif name in header.sizes and isinstance(argument.value, int):
                sizes[name] = argument
            else:
                raise fail(
                    "E0209", f"`{program}` has no argument `{name}`", expression.origin, "here",
                    fix=instead(
                        name, [*header.inputs, *header.sizes],
                        f"it takes {', '.join(header.inputs)}",
                    ),
                )  # fmt: skip
        missing = [name for name in header.inputs if name not in arguments]
        if missing:
            raise fail(
                "E0209", f"`{program}` needs {' and '.join(missing)}", node.origin, "missing here",
                fix=f"write {program}({', '.join(header.inputs)})",
            )  # fmt: skip
        for name in header.scalars:
            self._check_scalar(header, name, arguments[name])
        return arguments, sizes

    def _check_scalar(self, header: Signature, name: str, argument: Argument) -> None:
        value, wanted = argument.value, header.types[name].dtype
        if not is_number_of(value, wanted):
            raise fail(
                "E0702", f"`{name}` of `{header.program.name}` is one {wanted.name}",
                argument.origin, f"this is {value!r}",
                fix=f"give a number that {wanted.name} holds",
            )  # fmt: skip

    def _reference(
        self, program: Program, arguments: Mapping[str, Argument], sizes: Mapping[str, int]
    ) -> ReferenceResult:
        body = program.definition.body
        if not any(isinstance(node, syntax.Return) for node in syntax.walk(body)):
            raise fail(
                "E0704", f"reference `{program.name}` returns nothing", program.definition.origin,
                "no `return`", fix="end it in `return value`",
            )  # fmt: skip
        if self.executor is not None:
            values = {name: argument.value for name, argument in arguments.items()}
            kernel = instantiate_reference(program, values)
            compute = partial(run_reference, kernel, values, output=self.output)
            return self.kept.reference(kernel.text, values, compute) if self.kept else compute()
        kernel = program.instantiate(**sizes)
        returned = [s for s in control.walk(kernel.body) if isinstance(s, control.Return)]
        shape = returned[-1].value.type.shape
        zeros = np.broadcast_to(np.zeros(()), shape)
        return ReferenceResult(zeros, zeros)


def _copy(tensor: Tensor) -> Tensor:
    return Tensor(tensor.dtype, tensor.shape, np.array(tensor.storage))


def _shown(name: str, value: Any) -> str:
    return f"{name} {value.dtype.name}{list(value.shape)}" if isinstance(value, Tensor) else (
        f"{name} = {value}"
    )  # fmt: skip


def poisoned(element: Any, shape: Sequence[int]) -> Tensor:
    """A tensor for results: NaN where the dtype has one, else bits that are no likely result."""
    empty = blank(element, tuple(shape))
    storage = np.empty(empty.storage.shape, empty.storage.dtype)
    if element.has_nan and not element.is_packed:
        storage.view(element.storage)[...] = element.nan_code
    else:
        storage.view(np.uint8)[...] = 0xA5
    return Tensor(element, tuple(shape), storage)
