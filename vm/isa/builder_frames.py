"""Where in the author's Python a call stands, and what its result is assigned to.

Both are read from the frame that calls the builder: the place from the positions that the code
object keeps (Python 3.11 and later; before that, the line), the names from the instruction that
follows the call, so that neither needs the source file.
"""

from __future__ import annotations

import dis
import linecache
import re
import sys
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType

from vm.errors import Origin

_OWN = __name__.removesuffix("_frames")
# What the code of an annotation that Python has kept as a string is compiled as.
DEFERRED = "<annotation>"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Instructions that may stand between a call and the store of its result.
_PASSED_OVER = frozenset(("CACHE", "COPY", "DUP_TOP", "EXTENDED_ARG", "NOP"))


@dataclass(frozen=True)
class Target:
    """What becomes of a result.

    `names` has an entry for each result: the variable, or None where it is not one. `discarded`
    says that the call is a statement of its own.
    """

    names: tuple[str | None, ...] = (None,)
    discarded: bool = False


def author_frame() -> FrameType:
    """The innermost frame that is not the builder's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def _is_ours(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.startswith(_OWN) or frame.f_code.co_filename == DEFERRED


def origin_of(frame: FrameType) -> Origin:
    """The expression that `frame` is at."""
    code = frame.f_code
    line, end_line, start, end = frame.f_lineno, None, None, None
    positions = _positions(code)
    if 0 <= frame.f_lasti // 2 < len(positions):
        found, end_line, start, end = positions[frame.f_lasti // 2]
        line = found or line
    if end_line is None or start is None or end is None:
        return origin_of_line(code.co_filename, line)
    return Origin(
        code.co_filename, line, _column(code.co_filename, line, start), end_line,
        _column(code.co_filename, end_line, end),
    )  # fmt: skip


def origin_of_line(file: str, line: int) -> Origin:
    """All of a line but its indentation."""
    text = linecache.getline(file, line).rstrip()
    indentation = len(text) - len(text.lstrip())
    return Origin(file, line, indentation + 1, line, len(text) + 1)


def _column(file: str, line: int, offset: int) -> int:
    """The column, counted from 1, of a byte offset in a line."""
    text = linecache.getline(file, line)
    if text.isascii():
        return offset + 1
    return len(text.encode()[:offset].decode(errors="ignore")) + 1


@lru_cache(maxsize=256)
def _positions(code: CodeType) -> tuple[tuple[int | None, ...], ...]:
    return tuple(code.co_positions()) if hasattr(code, "co_positions") else ()


@lru_cache(maxsize=256)
def _instructions(code: CodeType) -> tuple[tuple[int, ...], tuple[tuple[str, object], ...]]:
    found = list(dis.get_instructions(code))
    return tuple(i.offset for i in found), tuple((i.opname, i.argval) for i in found)


def target_of(frame: FrameType) -> Target:
    """What becomes of the result of the call that `frame` is at."""
    offsets, instructions = _instructions(frame.f_code)
    position = bisect_right(offsets, frame.f_lasti)
    following = [i for i in instructions[position:position + 64] if i[0] not in _PASSED_OVER]
    if not following:
        return Target()
    name, argument = following[0]
    if name == "POP_TOP":
        return Target((None,), discarded=True)
    if name == "UNPACK_SEQUENCE":
        count = int(argument)  # type: ignore[call-overload]
        names: list[str | None] = []
        for instruction in following[1:]:
            stored = _stored(instruction)
            names += stored
            if not stored or len(names) >= count:
                break
        return Target((*names[:count], *(None,) * (count - len(names))))
    return Target(_stored(following[0])[:1] or (None,))


def _stored(instruction: tuple[str, object]) -> tuple[str | None, ...]:
    """The variables an instruction stores to; later Pythons store two at once."""
    name, argument = instruction
    if not name.startswith(("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")):
        return ()
    stored = argument if isinstance(argument, tuple) else (argument,)
    if name.startswith("STORE_FAST_") and name != "STORE_FAST_STORE_FAST":
        stored = stored[:1]
    return tuple(n if isinstance(n, str) and _NAME.fullmatch(n) else None for n in stored)
