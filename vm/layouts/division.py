"""Right and left division of register layouts, on their canonical forms.

In a product the modes of the inner factor are, on every axis and in both lists, a suffix; the
outer factor is the prefix. Canonical form may have joined one mode of each side at the boundary
of an axis or of a list, so exactly the divisor's mode at the boundary may split a mode of the
dividend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vm.layouts.errors import LayoutError

if TYPE_CHECKING:
    from vm.layouts.register import RegisterLayout

Parts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def right_quotient(whole: RegisterLayout, inner: RegisterLayout) -> Parts:
    """shape, modes, spatial and local modes of the q with whole == q * inner."""
    return _quotient(whole, inner, from_inside=True)


def left_quotient(whole: RegisterLayout, outer: RegisterLayout) -> Parts:
    """shape, modes, spatial and local modes of the q with whole == outer * q."""
    return _quotient(whole, outer, from_inside=False)


def _quotient(whole: RegisterLayout, divisor: RegisterLayout, *, from_inside: bool) -> Parts:
    form = "q * divisor" if from_inside else "divisor * q"

    def refuse(reason: str) -> LayoutError:
        return LayoutError(f"{whole} is not {form} for divisor {divisor}: {reason}")

    def read(sequence: Sequence[int]) -> Sequence[int]:
        return sequence[::-1] if from_inside else sequence

    if whole.slot_order or divisor.slot_order:
        raise refuse("slots in an order of their own have no digits to compare")
    if divisor.rank > whole.rank:
        raise refuse(f"{whole.rank} axes against {divisor.rank}")
    divisor = divisor.with_rank(whole.rank)
    for axis, (have, want) in enumerate(zip(whole.shape, divisor.shape, strict=True)):
        if have % want:
            raise refuse(f"extent {have} of axis {axis} is not a multiple of {want}")
    for what, have, want in (
        ("threads", whole.threads, divisor.threads),
        ("slots", whole.slots, divisor.slots),
    ):
        if have % want:
            raise refuse(f"{have} {what} are not a multiple of {want}")

    partner: dict[int, int] = {}  # mode of the dividend -> mode of the divisor
    remainder = dict(enumerate(whole.modes))  # what is left of each mode of the dividend
    for axis in range(whole.rank):
        have = read([m for m, a in enumerate(whole.mode_axes) if a == axis])
        want = read([m for m, a in enumerate(divisor.mode_axes) if a == axis])
        for position, (m, d) in enumerate(zip(have, want, strict=False)):
            size, part = whole.modes[m], divisor.modes[d]
            if size % part or (size != part and position != len(want) - 1):
                raise refuse(f"on axis {axis} a digit of size {size} meets one of size {part}")
            partner[m] = d
            remainder[m] = size // part

    left: list[list[int]] = []
    for name, have, want in (
        ("thread", whole.spatial_modes, divisor.spatial_modes),
        ("slot", whole.local_modes, divisor.local_modes),
    ):
        stack = list(read(have))[::-1]
        for d in read(want):
            if not stack:
                raise refuse(f"its {name} number has fewer digits")
            m = stack.pop()
            if d < 0:
                if m >= 0 or m % d:
                    raise refuse(f"a replication by {-d} is missing in the {name} number")
                if m != d:
                    stack.append(-(m // d))
            else:
                if m < 0 or partner.get(m) != d:
                    raise refuse(
                        f"the {name} number has {_digit(whole, m)} where the divisor has "
                        f"{_digit(divisor, d)}"
                    )
                del partner[m]
                if remainder[m] > 1:
                    stack.append(m)
        left.append(list(read(stack[::-1])))
    if partner:
        m = min(partner)
        raise refuse(f"{_digit(whole, m)} is a digit of the other kind in the divisor")

    used = {m for order in left for m in order if m >= 0}
    kept = [m for m in range(len(whole.modes)) if m in used]
    number = {m: i for i, m in enumerate(kept)}
    return (
        tuple(a // b for a, b in zip(whole.shape, divisor.shape, strict=True)),
        tuple(remainder[m] for m in kept),
        tuple(m if m < 0 else number[m] for m in left[0]),
        tuple(number[m] for m in left[1]),
    )


def _digit(layout: RegisterLayout, mode: int) -> str:
    if mode < 0:
        return f"a replication by {-mode}"
    step, axis = layout.mode_strides[mode], layout.mode_axes[mode]
    return f"a digit of size {layout.modes[mode]} that steps by {step} on axis {axis}"
