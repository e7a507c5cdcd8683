"""Runs the cases of a file and compares what comes out with what each expects.

Says which programs ran where, and for each comparison the element that came nearest to its bound.
Fails if any case does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vm.command_line.settings import parse_assignment, parse_settings
from vm.errors import VmError, fail
from vm.isa import syntax
from vm.isa.instruction import instead
from vm.isa.program import Module, load
from vm.isa.tensor import Tensor
from vm.runtime.cases import EXECUTORS, CaseResult, find_case, find_executor, run_case
from vm.runtime.comparison import Expectation
from vm.runtime.inputs import FileInput, parse_input, write_npy


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--case", metavar="NAME", help="only this one")
    parser.add_argument(
        "--on", metavar="EXECUTOR", default="reference",
        help=f"{', '.join(EXECUTORS)}, or emulator:TARGET (what is emitted for that target)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="another value for a constant or a size of the case",
    )  # fmt: skip
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=INPUT",
        help="in place of an input of the case: file.npy, file.npz:key, x.safetensors:tensor, "
        "random:SEED",
    )  # fmt: skip
    parser.add_argument(
        "--output", action="append", default=[], metavar="NAME=file.npy",
        help="write a variable of the case, as numbers",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    find_executor(arguments.on)
    module = load(arguments.file)
    cases = chosen_cases(module, arguments.case, bool(arguments.input or arguments.output))
    settings = parse_settings(arguments.set)
    inputs = {
        name: parse_input(value)
        for name, value in (parse_assignment(text, "--input") for text in arguments.input)
    }
    outputs = dict(parse_assignment(text, "--output") for text in arguments.output)
    files = [i.path for i in inputs.values() if isinstance(i, FileInput)]
    if outputs:  # there is one case then
        check_outputs(outputs, [Path(arguments.file), *files], cases[0])
    results = []
    for case in cases:
        result = run_case(
            module, case, executor=arguments.on, settings=settings, inputs=inputs, output=print
        )
        print(rendered(result), flush=True)
        if result.fault is not None:
            print(f"\n{result.fault}\n", file=sys.stderr)
        for name, path in outputs.items():
            write_npy(path, variable(result, name))
            print(f"  {name} written to {path}")
        results.append(result)
    failed = [result.name for result in results if not result.passed]
    passed = len(results) - len(failed)
    print(
        f"{passed} of {len(results)} cases passed"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def chosen_cases(module: Module, name: str | None, one: bool) -> list[syntax.Case]:
    """The cases to run; raises `VmError` E0809 where there is none, or not the `one` needed."""
    cases = module.cases
    if name is None and (len(cases) == 1 or (cases and not one)):
        return list(cases.values())
    if name is None and "main" in cases:
        return [cases["main"]]
    if name is not None:
        return [find_case(module, name)]
    raise fail(
        "E0809", "--input and --output need one case" if cases else "this file has no cases", None,
        fix=f"choose with --case: {', '.join(cases)}" if cases
        else "write one: case main(N = 1024) { ... expect(...) }",
    )  # fmt: skip


def check_outputs(outputs: dict[str, str], sources: list[Path], case: syntax.Case) -> None:
    """Raises `VmError` E0808 for an output that is no .npy file, a file that is read, or of a name
    that the case has not: before anything runs."""
    bound = [statement for statement in case.body.statements if isinstance(statement, syntax.Bind)]
    names = [name for statement in bound for name in statement.names]
    for name, path in outputs.items():
        if name not in names:
            raise no_tensor(case.name, name, names)
        if not path.endswith(".npy"):
            raise fail(
                "E0808", f"--output {name}={path} is no .npy file", None, fix=f"write {name}=x.npy"
            )
        for source in sources:
            if Path(path).exists() and source.exists() and Path(path).samefile(source):
                raise fail(
                    "E0808", f"--output {name}={path} would overwrite a file that is read", None,
                    fix="choose another name",
                )  # fmt: skip


def variable(result: CaseResult, name: str) -> Any:
    """The numbers of a variable of the case; raises `VmError` E0808 where it has none such."""
    value = result.variables.get(name)
    if value is None:  # a fault came before it
        raise no_tensor(result.name, name, result.variables)
    return value.values() if isinstance(value, Tensor) else value.values


def no_tensor(case: str, name: str, known: Iterable[str]) -> VmError:
    known = list(known)
    return fail(
        "E0808", f"case `{case}` has no tensor `{name}` to write", None,
        fix=instead(name, known, f"it has: {', '.join(known) or 'none'}"),
    )  # fmt: skip


def rendered(result: CaseResult) -> str:
    """What a person reads about one case."""
    sizes = " ".join(f"{name}={value}" for name, value in result.sizes.items())
    lines = [f"case {result.name}  {sizes}".rstrip()]
    lines += [f"  {note}" for note in result.notes]
    name_width = max((len(call.program) for call in result.calls), default=0)
    for call in result.calls:
        lines.append(
            f"  {call.program:<{name_width}}  on {call.executor}: {', '.join(call.inputs)} -> "
            f"{', '.join(call.outputs)}; {_counted(call.blocks)}, {call.seconds:.2f} s"
        )
    lines += [f"  {_expectation(each)}" for each in result.expectations]
    verdict = "PASS" if result.passed else "FAIL"
    return "\n".join([*lines, f"  {verdict}  {result.seconds:.2f} s"])


def _expectation(each: Expectation) -> str:
    index = f"[{', '.join(map(str, each.index))}]"
    if each.passed and each.bound is None:
        return f"{each.what} {each.type}: every element equal"
    if each.passed:
        return (
            f"{each.what} {each.type}: largest error, as a share of its bound: {each.error:.3g} of "
            f"{each.bound:.3g} at {index}"
        )
    allowed = "must be equal" if each.bound is None else f"the bound is {each.bound:.3g}"
    return (
        f"{each.what} {each.type}: {each.wrong} elements are wrong; worst is {index}: "
        f"{each.got:.9g} instead of {each.want:.9g}, off by {each.error:.3g}, {allowed}"
    )


def _counted(blocks: int) -> str:
    return "1 block" if blocks == 1 else f"{blocks} blocks"
