"""What cases have computed, for those after them that compute the same.

Tuning runs one case for every configuration. The inputs that its functions make and the results of
its references are the same in all, and take most of the time: 30 s for a product of 8192 x 8192.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from vm.isa.tensor import Tensor

Result = TypeVar("Result")


class Kept:
    """Results by what they were computed from."""

    def __init__(self) -> None:
        self._results: dict[object, Any] = {}

    def inputs(
        self, function: str, arguments: tuple[object, ...],
        compute: Callable[[], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Tensors that a function makes of these arguments, each time new ones: programs may write
        to them."""
        made = self._get(("inputs", function, repr(arguments)), compute)
        return tuple(Tensor(t.dtype, t.shape, np.array(t.storage)) for t in made)

    def reference(
        self, text: str, values: Mapping[str, Any], compute: Callable[[], Result]
    ) -> Result:
        """The result of the reference of this text for these arguments, which nobody writes to."""
        given = tuple((name, _identity(value)) for name, value in values.items())
        return self._get(("reference", text, given), compute)

    def _get(self, key: object, compute: Callable[[], Result]) -> Result:
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]


def _identity(value: Any) -> object:
    """What tells a value from all others."""
    if not isinstance(value, Tensor):
        return repr(value)
    stored = np.ascontiguousarray(value.storage).view(np.uint8)
    return value.dtype, value.shape, hashlib.blake2b(stored.data).hexdigest()
