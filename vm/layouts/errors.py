"""The one error of this package."""

from __future__ import annotations


class LayoutError(ValueError):
    """A layout that cannot be: the message names what disagrees and what would fit."""
