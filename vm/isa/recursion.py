"""Room for walking trees as deep as the language allows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vm.errors import Origin, fail

# A walk takes up to ten Python frames for each of the 256 levels that text may nest.
_FRAMES = 4_000


@contextmanager
def deep_walk(origin: Origin | None) -> Iterator[None]:
    """Lets the walks inside go as deep as a tree can be.

    Raises E0105 at `origin` where that is not enough, as for constants that use one another in a
    chain of thousands.
    """
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, depth + _FRAMES))
    try:
        yield
    except RecursionError:
        raise fail(
            "E0105", "definitions that use one another go too deep", origin, "found here",
            fix="name fewer constants by one another, and nest less",
        ) from None  # fmt: skip
    finally:
        sys.setrecursionlimit(before)
