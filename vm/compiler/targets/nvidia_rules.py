"""The set that the rules of NVIDIA GPUs are in."""

from __future__ import annotations

from vm.compiler.rules import RuleSet
from vm.compiler.targets.common import COMMON

NVIDIA = RuleSet("nvidia", COMMON)
WARP = 32
