"""Orders that a run may take: of blocks, of the groups within one, and of asynchronous effects.

A right program gives the same results in all of them; tests run it in several.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar

from vm.errors import fail

Item = TypeVar("Item")

PREEMPTION = 0.5
"""How likely a random schedule takes another group after an instruction."""

EARLY = 0.25
"""How likely a copy on its way is performed at each later effect of its group."""


class Schedule(Protocol):
    """Which block comes next, which group goes on, and whether a group is held up."""

    def blocks(self, count: int) -> Sequence[int]: ...

    def choose(self, runnable: Sequence[Item]) -> Item: ...

    def preempts(self) -> bool: ...


class ProgramOrder:
    """Blocks by their index, groups as they are written, each as far as it comes."""

    def blocks(self, count: int) -> Sequence[int]:
        return range(count)

    def choose(self, runnable: Sequence[Item]) -> Item:
        return runnable[0]

    def preempts(self) -> bool:
        return False


class ReverseOrder:
    """The last block first, and the last group that can run first."""

    def blocks(self, count: int) -> Sequence[int]:
        return range(count - 1, -1, -1)

    def choose(self, runnable: Sequence[Item]) -> Item:
        return runnable[-1]

    def preempts(self) -> bool:
        return False


class RandomOrder:
    """Blocks in any order, groups in turns of random length."""

    def __init__(self, seed: int):
        self._random = Random(seed)

    def blocks(self, count: int) -> Sequence[int]:
        order = list(range(count))
        self._random.shuffle(order)
        return order

    def choose(self, runnable: Sequence[Item]) -> Item:
        return self._random.choice(runnable)

    def preempts(self) -> bool:
        return self._random.random() < PREEMPTION


class Effects:
    """When the data of an asynchronous copy moves: as it is issued, as it is waited for, or at a
    random moment between."""

    def __init__(self, at_issue: bool = False, seed: int | None = None):
        self.at_issue = at_issue
        self._random = None if seed is None else Random(seed)

    def moves_now(self) -> bool:
        """Whether a copy on its way, seen again at a later effect of its group, is performed."""
        return self._random is not None and self._random.random() < EARLY


def schedule(name: str) -> Schedule:
    """`program`, `reverse` or `random:SEED`; raises E0803 for another name."""
    if name == "program":
        return ProgramOrder()
    if name == "reverse":
        return ReverseOrder()
    return RandomOrder(_seed("schedule", name, "program, reverse"))


def effects(name: str) -> Effects:
    """`issue`, `wait` or `random:SEED`; raises E0803 for another name."""
    if name in ("issue", "wait"):
        return Effects(name == "issue")
    return Effects(seed=_seed("effects", name, "issue, wait"))


def _seed(what: str, name: str, known: str) -> int:
    kind, _, seed = name.partition(":")
    if kind != "random" or not seed.isdecimal():
        raise fail(
            "E0803", f"{what} cannot be `{name}`", None, fix=f"write {known} or random:SEED"
        )
    return int(seed)
