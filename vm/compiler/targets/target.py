"""What a target is."""

from __future__ import annotations

from dataclasses import dataclass

from vm.compiler.rules import RuleSet


@dataclass(frozen=True)
class Target:
    """A kind of device.

    `prefix` is that of its machine instructions; `capability` orders the members of a family;
    `shared_bytes` is the shared memory that one block may have, `registers` those of a thread.
    """

    name: str
    family: str
    prefix: str
    capability: int
    warp_width: int
    shared_bytes: int
    registers: int
    rules: RuleSet
