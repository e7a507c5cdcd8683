"""Holding a kernel after every pass to the kernel that an author wrote: the same text again, and
the same bits from the reference machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED, NONE
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.matrix import Dot
from vm.isa.program import parse
from vm.isa.registers import Reduce
from vm.isa.tensor import Tensor
from vm.isa.types import GlobalType
from vm.isa.verify import verify
from vm.runtime import reference
from vm.runtime.compiled import variant_for
from vm.runtime.reference_arguments import bind


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments again, none of their memory shared."""
    return {
        name: Tensor(v.dtype, v.shape, v.storage.copy()) if isinstance(v, Tensor) else v
        for name, v in values.items()
    }


_DONE: dict[tuple[Kernel, bytes], dict[str, Tensor]] = {}


def machine_run(kernel: Kernel, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the reference machine gives, checks on; once for the same kernel and arguments."""
    digest = hashlib.sha256()
    for name, value in sorted(values.items()):
        bits = value.storage.tobytes() if isinstance(value, Tensor) else repr(value).encode()
        shape = value.shape if isinstance(value, Tensor) else ()
        digest.update(f"{name} {shape} {len(bits)}".encode() + bits)
    key = kernel, digest.digest()
    if key not in _DONE:
        _DONE[key] = reference.run(kernel, copied(values)).outputs
    return copied(_DONE[key])


@lru_cache(maxsize=256)
def stages(kernel: Kernel, target: str, variant: str) -> dict[str, Kernel]:
    """The kernel after each pass."""
    return pipeline.stages(kernel, pipeline.target(target), variant)


def variant_of(kernel: Kernel, values: Mapping[str, Any]) -> str:
    """The variant whose assumptions the arguments meet; the other one is right for them too."""
    return variant_for(kernel, bind(kernel, copied(values), checks=False).tensors)


def assert_text(what: str, kernel: Kernel) -> None:
    """The kernel's text is a program that instantiates to an equal kernel, and that verifies."""
    verify(kernel)
    again = parse(f"vm 1\n{kernel}")[kernel.name].instantiate(warp_width=kernel.warp_width)
    assert again == kernel, what


def rounds_sums(kernel: Kernel) -> bool:
    """Whether it adds floats in an order that is for the machine to choose."""
    return any(
        isinstance(i, Dot) or (isinstance(i, Reduce) and i.op == "sum")
        for i in control.walk(kernel.body)
        if i.results and i.results[0].type.dtype.is_float
    )


def has_dot(kernel: Kernel) -> bool:
    return any(isinstance(i, Dot) for i in control.walk(kernel.body))


def whole_numbers(kernel: Kernel, values: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Floats replaced by whole numbers from -2 to 2: sums of their products are exact in f32."""
    random = np.random.default_rng(seed)
    made = copied(values)
    for parameter in kernel.parameters:
        type_ = parameter.type
        if isinstance(type_, GlobalType) and type_.dtype.is_float and not type_.dtype.is_packed:
            numbers = random.integers(-2, 3, made[parameter.name].shape).astype(type_.dtype.array)
            made[parameter.name] = Tensor.from_values(type_.dtype, numbers)
    return made


def assert_same(what: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Every output has the same bits."""
    assert expected.keys() == got.keys()
    for name in expected:
        differ = expected[name].codes() != got[name].codes()
        assert not differ.any(), (
            f"{what}: {np.count_nonzero(differ)} elements of {name} differ, first at "
            f"{tuple(int(v[0]) for v in np.nonzero(differ))}"
        )


@dataclass
class Validation:
    """An executor that holds each kernel to its lowerings for a target and variant, and gives what
    the last of them gave: a case that ends in `expect(..., bound=...)` holds that to its bound."""

    target: str
    variant: str
    texts: set[Kernel]  # whose text was looked at before

    def execute(
        self, kernel: Kernel, values: Mapping[str, Any], *, output: Callable[[str], None] = print
    ) -> reference.Report:
        """Runs the kernel after every pass; outputs have the same bits but where float sums are
        taken in another order, which whole numbers do not feel."""
        variant = self.variant
        if variant == ALIGNED and variant_of(kernel, values) != ALIGNED:
            variant = NONE
        expected = machine_run(kernel, values)
        for stage, made in stages(kernel, self.target, variant).items():
            what = f"{kernel.name} for {self.target}, {variant}, after {stage}"
            if made not in self.texts:
                self.texts.add(made)
                assert_text(what, made)
            got = machine_run(made, values)
            if stage != "select" or not rounds_sums(kernel):
                assert_same(what, expected, got)
            elif has_dot(kernel):
                exact = whole_numbers(kernel, values, seed=1)
                assert_same(
                    f"{what}, whole numbers", machine_run(kernel, exact), machine_run(made, exact)
                )
            expected = got  # in the order that sums have now
        return reference.Report(got, 0, 0, 0.0)
