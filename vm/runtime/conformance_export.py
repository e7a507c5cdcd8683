"""Conformance tests as JSON and .npy files, for implementations without a parser.

spec/08-text-format.md ("Export") defines the format. Kernels are instantiated: every operand is a
value, a number or a tile, every layout a table.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vm.isa import control, syntax
from vm.isa.dtypes import DType
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.kernel import Kernel
from vm.isa.parse import parse_text
from vm.isa.printer import format_text
from vm.isa.program import load
from vm.isa.tensor import Tensor
from vm.isa.types import GlobalType, Immediate, RegisterType, Tile, Type, Value
from vm.layouts import MemoryLayout, RegisterLayout
from vm.runtime.conformance import test_files
from vm.runtime.conformance_directives import (
    FRAME,
    Instances,
    Walk,
    offset_of,
    outputs,
    position,
)
from vm.runtime.reference_values import ReferenceResult


@dataclass(frozen=True)
class Pending:
    """A result that only a run gives: of a step, at a position among its results."""

    step: int
    index: int


@dataclass
class Recorder:
    """Writes down the kernels that a test runs, in place of running them."""

    arrays: Path
    kernels: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    _numbers: dict[int, tuple[int, Kernel]] = field(default_factory=dict)

    def perform(self, kernel: Kernel, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        if id(kernel) not in self._numbers:
            self._numbers[id(kernel)] = (len(self.kernels), kernel)
            self.kernels.append(kernel_json(kernel))
        given = {name: self.data(value) for name, value in arguments.items()}
        self.steps.append({"kernel": self._numbers[id(kernel)][0], "arguments": given})
        return tuple(Pending(len(self.steps) - 1, at) for at in range(len(outputs(kernel))))

    def data(self, value: Any) -> Any:
        """An argument or a wanted result."""
        if value is None:
            return None
        if isinstance(value, Pending):
            return {"result": [value.step, value.index]}
        if isinstance(value, Tensor):
            return self._array(value.codes(), value.dtype.name)
        if isinstance(value, ReferenceResult):
            wide = np.asarray(value.values, np.float64).view(np.uint64)
            found = self._array(wide, "f64")
            magnitude = np.asarray(value.magnitude, np.float64).view(np.uint64)
            return {**found, "magnitude": self._array(magnitude, "f64")["array"]}
        return {"number": number_json(value)}

    def _array(self, codes: np.ndarray, dtype: str) -> dict[str, Any]:
        codes = np.ascontiguousarray(codes)
        about = f"{codes.dtype}{codes.shape}".encode()
        name = hashlib.sha256(about + codes.tobytes()).hexdigest()[:20] + ".npy"
        if not (self.arrays / name).exists():
            np.save(self.arrays / name, codes, allow_pickle=False)
        return {"array": f"arrays/{name}", "dtype": dtype, "shape": list(codes.shape)}


def export(path: str | Path, folder: Path) -> int:
    """Writes all tests at a path into a folder; the number of assertions written."""
    arrays = folder / "arrays"
    arrays.mkdir(parents=True, exist_ok=True)
    names, total = [], 0
    for file in test_files(path):
        module = load(file)
        instances = Instances(module)
        recorder = Recorder(arrays)
        tests = []
        for test in module.tests.values():
            walk = Walk(instances, test, recorder)
            made = []
            recorder.steps = []
            for call in walk.assertions():
                made.append(assertion_json(walk, call, recorder))
                recorder.steps = []
            tests.append({"name": test.name, "needs": list(test.needs), "rules": list(test.rules),
                          "assertions": made})  # fmt: skip
            total += len(made)
        document = {"file": file.name, "kernels": recorder.kernels, "tests": tests}
        (folder / f"{file.stem}.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
        names.append(f"{file.stem}.json")
    (folder / "index.json").write_text(json.dumps({"version": 1, "files": names}) + "\n")
    return total


def assertion_json(walk: Walk, call: syntax.Call, recorder: Recorder) -> dict[str, Any]:
    """One assertion; steps that it runs are in `recorder.steps` afterwards."""
    made: dict[str, Any] = {"directive": call.function, "line": call.origin.line}
    match call.function:
        case "assert_return" | "assert_same":
            got = walk.values(call.arguments[0])
            want = [v for argument in call.arguments[1:] for v in walk.values(argument)]
            made["results"] = [
                {"got": recorder.data(g), "want": recorder.data(w)}
                for g, w in zip(got, want, strict=True)
            ]
            made["bound"] = bound_json(walk, call)
        case "assert_trap" | "assert_race" | "assert_deadlock":
            program, arguments = walk.prepared(call.arguments[0])
            made |= fault_json(walk, call, program.definition.origin.source.text,
                               program.definition.origin)  # fmt: skip
            walk.perform(program, arguments)
        case "assert_malformed" | "assert_invalid":
            source = walk.quoted(call.arguments[0])
            made["text"] = source.text
            made |= fault_json(walk, call, source.text, None)
        case "assert_unsupported":
            program, arguments = walk.program_of(call.arguments[0])
            made |= fault_json(walk, call, program.definition.origin.source.text,
                               program.definition.origin)  # fmt: skip
            made["target"] = walk.keywords(call, *FAULT_KEYWORDS)["target"]
            walk.performer.perform(walk.instances.kernel(program), arguments)
        case "assert_text":
            source = walk.quoted(call.arguments[0])
            made["text"] = source.text
            made["printed"] = format_text(parse_text(source))
        case "assert_layout":
            first, wanted = (walk.static(argument) for argument in call.arguments)
            made["layout"] = static_json(first)
            made["table"] = static_json(wanted)
    made["steps"] = recorder.steps
    return made


FAULT_KEYWORDS = ("at", "nth", "line", "column", "other", "target")


def fault_json(
    walk: Walk, call: syntax.Call, text: str, definition: Any
) -> dict[str, Any]:
    """Code and places of a fault."""
    found = walk.keywords(call, *FAULT_KEYWORDS)
    part = (len(FRAME) if text.startswith(FRAME) else 0, len(text))
    if definition is not None:
        part = (offset_of(text, definition.line, definition.column),
                offset_of(text, definition.end_line, definition.end_column))  # fmt: skip
    place = walk.place(call, found, text, part)
    other = found.get("other")
    return {
        "code": walk.static(call.arguments[1]), "place": list(place),
        "other": other and list(position(text, other, None, part, call.origin)),
    }  # fmt: skip


def bound_json(walk: Walk, call: syntax.Call) -> Any:
    node = next((k.value for k in call.keywords if k.name == "bound"), None)
    if node is None:
        return None
    arguments = [static_json(walk.static(argument)) for argument in node.arguments]
    return {"name": node.function, "arguments": arguments}


# --- kernels ---
def kernel_json(kernel: Kernel) -> dict[str, Any]:
    """A kernel as chapter 8 says; values are numbered in the order in which they appear."""
    return _Kernel(kernel).document()


class _Kernel:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.numbers: dict[Value, int] = {}

    def document(self) -> dict[str, Any]:
        kernel = self.kernel
        parameters = [
            {"id": self.number(p), "name": p.name, "access": getattr(p.type, "access", "in"),
             **self.type(p.type)}
            for p in kernel.parameters
        ]  # fmt: skip
        return {
            "name": kernel.name, "kind": kernel.kind, "parameters": parameters,
            "sizes": [{"id": self.number(s), "name": s.name} for s in kernel.sizes],
            "grid": [self.expression(e) for e in kernel.grid],
            "where": [self.expression(e) for e in kernel.where],
            "threads": kernel.threads, "warp_width": kernel.warp_width,
            "body": self.block(kernel.body),
        }  # fmt: skip

    def number(self, value: Value) -> int:
        return self.numbers.setdefault(value, len(self.numbers))

    def type(self, type_: Type) -> dict[str, Any]:
        made: dict[str, Any] = {"space": type_.space, "dtype": type_.dtype.name}
        made["shape"] = [self.expression(e) for e in type_.shape]
        if isinstance(type_, GlobalType):
            strides = type_.strides
            made["strides"] = None if strides is None else [self.expression(e) for e in strides]
        if isinstance(type_, RegisterType):
            made["layout"] = static_json(type_.layout)
        return made

    def expression(self, node: Any) -> Any:
        """An extent, grid extent or fact."""
        match node:
            case Value():
                return {"value": self.number(node)}
            case syntax.Literal(value):
                return number_json(value)
            case syntax.Name(text):
                return {"size": text}
            case syntax.Operation(operator, operands):
                return {"apply": operator, "to": [self.expression(o) for o in operands]}
            case syntax.Call(function, arguments):
                return {"apply": function, "to": [self.expression(a) for a in arguments]}
        return number_json(node)

    def block(self, statements: list[Instruction]) -> list[dict[str, Any]]:
        return [self.instruction(statement) for statement in statements]

    def instruction(self, instruction: Instruction) -> dict[str, Any]:
        origin = instruction.origin
        made: dict[str, Any] = {
            "op": instruction.opcode,
            "place": [origin.line, origin.column, origin.end_line, origin.end_column],
            "fields": {name: self.field(getattr(instruction, name, None), item)
                       for name, item in instruction.fields.items()},
            "places": {name: [o.line, o.column, o.end_line, o.end_column]
                       for name, o in instruction.places.items()},
        }  # fmt: skip
        match instruction:
            case control.If():
                made["blocks"] = {"then": self.block(instruction.then),
                                  "otherwise": self.block(instruction.otherwise)}  # fmt: skip
            case control.For():
                variable = instruction.variable
                made["variable"] = {"id": self.number(variable), "type": self.type(variable.type)}
                made["blocks"] = {"body": self.block(instruction.body)}
            case control.While() | control.Group():
                made["blocks"] = {"body": self.block(instruction.body)}
            case control.Declare():
                variable = instruction.variable
                made["variable"] = {"id": self.number(variable), "type": self.type(variable.type)}
        made["results"] = [
            {"assign": self.number(value)} if value.mutable
            else {"id": self.number(value), "type": self.type(value.type)}
            for value in instruction.results
        ]  # fmt: skip
        return made

    def field(self, value: Any, item: Operand | Attribute) -> Any:
        if isinstance(item, Attribute) and item.kind == "extents":
            return {"attribute": [self.expression(extent) for extent in value]}
        if isinstance(item, Attribute):
            return {"attribute": static_json(value)}
        if isinstance(value, tuple):
            return [self.operand(each) for each in value]
        return None if value is None else self.operand(value)

    def operand(self, operand: Any) -> dict[str, Any]:
        match operand:
            case Immediate(value, dtype):
                return {"number": number_json(value), "dtype": dtype.name if dtype else None}
            case Tile(base, offsets, extents):
                return {
                    "tile": self.number(base), "offsets": [self.operand(o) for o in offsets],
                    "extents": [e if e is None or isinstance(e, int) else "all" for e in extents],
                }  # fmt: skip
        return {"value": self.number(operand)}


def number_json(value: Any) -> Any:
    """A number, as text where JSON has none or would lose the sign of a zero."""
    if isinstance(value, float) and (not math.isfinite(value) or str(value) == "-0.0"):
        return str(value)
    return value


def static_json(value: Any) -> Any:
    """A static value: a number, a string, a dtype, a list or a layout."""
    if isinstance(value, RegisterLayout):
        return {"text": str(value), "shape": list(value.shape), "threads": value.threads,
                "slots": value.slots, "table": value.flat().tolist()}  # fmt: skip
    if isinstance(value, MemoryLayout):
        return {"text": str(value), "shape": list(value.shape), "offsets": value.offsets().tolist()}
    if isinstance(value, DType):
        return value.name
    if isinstance(value, tuple):
        return [static_json(each) for each in value]
    return value if value is None or isinstance(value, str) else number_json(value)
