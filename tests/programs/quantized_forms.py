"""Every form of quantized weights and every format of checkpoints, on each executor.

    python -m tests.programs.quantized_forms [--on reference,emulator,sm_90a] [NAME ...]

prints, for each, the worst error of its cases as a part of its bound, on the reference machine and
on the emulator, and the registers that NVRTC gives its programs on a GPU (no GPU is needed; arrays
aligned, and nothing known of them). Exit status 0 only if nothing failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

from programs.checkpoint_matmul import checkpoint_matmul
from programs.formats import FORMATS as CHECKPOINTS
from programs.formats import format_called
from programs.quantized_matmul import FORMATS, Form, quantized_matmul
from vm.errors import VmError
from vm.isa.program import Module
from vm.runtime.cases import run_case
from vm.runtime.compiled import cubin_of

WEIGHTS = (
    *(f"u{bits}" for bits in range(1, 9)),
    *(f"i{bits}" for bits in range(2, 9)),
    *("f8e4m3", "f8e5m2", "f6e3m2", "f6e2m3", "f4e2m1", "f5e2m2", "f3e1m1", "nf4"),
)
GROUPS = (16, 32, 64, 128, None)


def form_of(weight: str, group: int | None) -> Form:
    return Form(weight, group, zero_point=weight[0] == "u")


FORMS = {
    **{f"{w}-{GROUPS[at % 5]}": form_of(w, GROUPS[at % 5]) for at, w in enumerate(WEIGHTS)},
    **{f"{w}-{g}": form_of(w, g) for w in ("u3", "i5", "f6e3m2") for g in GROUPS},
    **FORMATS,
    "bf16": Form("u4", 64, "bf16", zero_point=True, activation="bf16"),
    "f32-scales": Form("i4", 32, "f32"),
    "f32-column": Form("i4", None, "f32"),
    "wide-floats": Form("f8e7m0", 16, "bf16", activation="bf16"),
    "five-entries": Form("u3", 64, entries=5),
    "groups-of-96": Form("u6", 96),
    "two-level-column": Form("f8e4m3", None, "f8e8m0", second_level=True),
}
"""Every type, the groups taken in turn, and every group for three types of odd widths."""

SETTINGS = {
    "gptq": (("bits=2",), ("bits=3",), ("bits=8",), ("version=2",)),
    "compressed_tensors": (("bits=3",), ("bits=5", "symmetric=false")),
    "nf4": (("nested=true",),),
}
"""What formats of checkpoints are tried with, beside their defaults."""


def modules() -> dict[str, Callable[[], Module]]:
    """How to make the module of each form and format."""
    found = {name: partial(quantized_matmul, form) for name, form in FORMS.items()}
    for name in CHECKPOINTS:
        for settings in ((), *SETTINGS.get(name, ())):
            called = " ".join(("checkpoint", name, *settings))
            found[called] = partial(checkpoint_matmul, format_called(name, settings))
    return found


def run_cases(module: Module, executor: str) -> str:
    """The worst error as a part of its bound; raises `VmError` where a case fails."""
    worst = 0.0
    for case in module.cases.values():
        result = run_case(module, case, executor=executor)
        if result.fault is not None:
            raise result.fault
        if not result.passed:
            return "WRONG"
        worst = max(worst, *(each.error / each.bound for each in result.expectations))
    return f"{worst:.2f}"


def compiled(module: Module, target: str) -> str:
    """The registers of the matmul's two variants; its other programs are compiled as well."""
    registers = {
        (name, variant): cubin_of(program.instantiate(), target, variant).metadata["registers"]
        for name, program in module.programs.items()
        if program.definition.kind == "program"
        for variant in ("aligned", "none")
    }
    return f"{registers['matmul', 'aligned']} {registers['matmul', 'none']}"


def main(arguments: Sequence[str] | None = None) -> int:
    known = modules()
    parser = argparse.ArgumentParser(
        prog="python -m tests.programs.quantized_forms", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--on", default="reference,emulator,sm_90a")
    parser.add_argument("names", nargs="*", choices=[*known, []], metavar="NAME")
    given = parser.parse_args(arguments)
    places = given.on.split(",")
    failed = 0
    print(f"{'form':40}" + "".join(f"{place:>12}" for place in places))
    for name in given.names or known:
        module, cells, notes = known[name](), [], []
        for place in places:
            try:
                found = compiled(module, place) if "_" in place else run_cases(module, place)
            except VmError as error:
                found = error.code
                notes.append(f"  {place}: {str(error).splitlines()[0]}")
            failed += not found[0].isdecimal()
            cells.append(f"{found:>12}")
        print("\n".join([f"{name:40}" + "".join(cells), *notes]), flush=True)
    print(f"{len(given.names or known)} forms, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
