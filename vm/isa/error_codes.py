"""What every error code means: `vm explain E0312`.

The tables are in `vm/isa/explanations/`, one file for each family. Each example is tested to raise
its code at the place it says.
"""

from __future__ import annotations

from collections.abc import Mapping

from vm.errors import fail
from vm.isa.explanations import (
    cases,
    devices,
    files,
    layouts,
    resources,
    targets,
    text,
    traps,
    types,
)
from vm.isa.explanations.explanation import Explanation
from vm.isa.instruction import nearest

FAMILIES = {
    "E01": "text that cannot be read",
    "E02": "names, types and calls",
    "E03": "shapes and layouts",
    "E04": "resources and groups",
    "E05": "faults of a running program",
    "E06": "missing synchronization",
    "E07": "cases",
    "E08": "files, the command line and devices",
    "E09": "what a target can do",
}

CODES: Mapping[str, Explanation] = {
    each.code: each
    for table in (text, types, layouts, resources, traps, cases, files, devices, targets)
    for each in table.EXPLANATIONS
}


def explanation(code: str) -> Explanation:
    """The explanation of a code; raises `VmError` E0803 where there is none."""
    found = CODES.get(code.upper())
    if found is None:
        close = nearest(code.upper(), CODES)
        raise fail(
            "E0803", f"there is no error {code}", None,
            fix=f"did you mean {close}?" if close else "`vm explain` lists all of them",
        )  # fmt: skip
    return found
