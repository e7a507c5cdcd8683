"""What the tests of the reference machine share: programs with marked places, and their faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vm.errors import Origin, VmError
from vm.isa.instantiate import instantiate
from vm.isa.kernel import Kernel
from vm.isa.program import parse
from vm.runtime.reference import Report, run

SCHEDULES = ("program", "reverse", "random:1", "random:2", "random:3")
EFFECTS = ("wait", "issue", "random:1", "random:2")


def execute(text: str, arguments: dict[str, Any], **options: Any) -> Report:
    """Runs the only program of a text."""
    return run(_kernel(text), arguments, **options)


def outputs(text: str, arguments: dict[str, Any], **options: Any) -> dict[str, np.ndarray]:
    return {n: t.values() for n, t in execute(text, arguments, **options).outputs.items()}


def fault(text: str, arguments: dict[str, Any], **options: Any) -> VmError:
    """The fault of a program in which `<[...]>` marks where it is found and `<{...}>`, if there,
    the places that it disagrees with; all must be what the error says, to the column."""
    plain, places = _unmark(text)
    kernel = _kernel(plain)
    with pytest.raises(VmError) as caught:
        run(kernel, arguments, **options)
    (diagnostic,) = caught.value.diagnostics
    labels = [_extent(label.origin) for label in diagnostic.labels]
    assert labels[:1] == places["["], caught.value
    assert all(place in labels[1:] for place in places["{"]), caught.value
    return caught.value


def _kernel(text: str) -> Kernel:
    """The kernel unverified: the machine finds by itself what the verifier can find as well."""
    (program,) = parse(text).programs.values()
    return instantiate(program.definition, program.constants, {})


def _unmark(text: str) -> tuple[str, dict[str, list[tuple[int, ...]]]]:
    plain = ""
    starts: dict[str, tuple[int, int]] = {}
    places: dict[str, list[tuple[int, ...]]] = {"[": [], "{": []}
    closing = {"]": "[", "}": "{"}
    index = 0
    while index < len(text):
        pair = text[index : index + 2]
        line, column = plain.count("\n") + 1, len(plain) - (plain.rfind("\n") + 1) + 1
        if pair in ("<[", "<{"):
            starts[pair[1]] = (line, column)
            index += 2
        elif pair in ("]>", "}>"):
            mark = closing[pair[0]]
            places[mark].append((*starts[mark], line, column))
            index += 2
        else:
            plain += text[index]
            index += 1
    return plain, places


def _extent(origin: Origin) -> tuple[int, ...]:
    return origin.line, origin.column, origin.end_line, origin.end_column
