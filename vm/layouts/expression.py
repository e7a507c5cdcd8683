"""Register layouts as text: the shortest product of factors, or the general form."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vm.layouts.register import RegisterLayout

Call = tuple[str, tuple[int, ...]]


def call_text(call: Call) -> str:
    """`name(1, 2)`"""
    return f"{call[0]}({', '.join(map(str, call[1]))})"


def text(layout: RegisterLayout) -> str:
    """An expression that evaluates to `layout`."""
    calls = factor_calls(layout)
    if calls:
        return ".".join(call_text(call) for call in calls)
    order = f", order={list(layout.slot_order)}" if layout.slot_order else ""
    return (
        f"register_layout(shape={list(layout.shape)}, modes={list(layout.modes)}, "
        f"spatial={list(layout.spatial_modes)}, local={list(layout.local_modes)}{order})"
    )


def factor_calls(layout: RegisterLayout) -> tuple[Call, ...]:
    """The fewest factors (outer first; of these the shortest text) whose product is `layout`;
    empty if the orders of its thread digits, slot digits and axes contradict each other, or
    slots are in an order of their own.

    A factor takes the last digits of one list, one per axis, and each must be what is innermost
    on its axis; so the state of the search is only how many digits of each list are left."""
    if layout.slot_order:
        return ()
    spatial, local = layout.spatial_modes, layout.local_modes
    place = {m: (0, p) for p, m in enumerate(spatial) if m >= 0}
    place |= {m: (1, p) for p, m in enumerate(local)}

    def innermost(mode: int, taken: set[int], left: tuple[int, int]) -> bool:
        return all(
            m in taken or place[m][1] >= left[place[m][0]]
            for m in range(mode + 1, len(layout.modes))
            if layout.mode_axes[m] == layout.mode_axes[mode]
        )

    def last_factors(left: tuple[int, int]) -> list[tuple[Call, tuple[int, int]]]:
        found: list[tuple[Call, tuple[int, int]]] = []
        for kind, (order, name) in enumerate(((spatial, "spatial"), (local, "local"))):
            end = left[kind]
            if end and order[end - 1] < 0:
                after = (left[0] - 1, left[1])
                found.append((("replicated", (-order[end - 1],)), after))
            for direction, prefix in ((1, ""), (-1, "column_")):
                taken: set[int] = set()
                extents = [1] * layout.rank
                previous = None
                for position in range(end - 1, -1, -1):
                    m = order[position]
                    if m < 0:
                        break
                    axis = layout.mode_axes[m]
                    if previous is not None and (previous - axis) * direction <= 0:
                        break
                    if not innermost(m, taken, left):
                        break
                    previous = axis
                    taken.add(m)
                    extents[axis] = layout.modes[m]
                    after = (position, left[1]) if kind == 0 else (left[0], position)
                    if direction == 1 or len(taken) > 1:
                        found.append(((prefix + name, tuple(extents)), after))
        return found

    @cache
    def best(left: tuple[int, int]) -> tuple[int, int, tuple[Call, ...]] | None:
        if left == (0, 0):
            return 0, 0, ()
        options = []
        for call, after in last_factors(left):
            rest = best(after)
            if rest is not None:
                count, length, calls = rest
                options.append((count + 1, length + len(call_text(call)), (*calls, call)))
        return min(options, default=None)

    result = best((len(spatial), len(local)))
    if result is None:
        return ()
    calls = result[2]
    if all(name == "replicated" for name, _ in calls) and (layout.rank or not calls):
        calls = (("local", (1,) * layout.rank), *calls)
    return calls
