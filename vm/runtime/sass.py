"""Reading the machine code of a cubin: the disassembly, counts of instructions, the main loop.

Speed without a GPU is judged by this: 128-bit accesses and matrix instructions that are there,
local memory that is not, and how many instructions one step of the main loop takes.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vm.errors import InternalError, fail

PACKAGE = "nvidia-cuda-nvdisasm"
INSTALL = f"pip install {PACKAGE}"

_INSTRUCTION = re.compile(
    r"/\*(?P<address>[0-9a-f]{4,})\*/\s+"
    r"(?:@(?P<predicate>!?\w+)\s+)?"
    r"(?P<opcode>[A-Z][\w.]*)"
    r"(?P<operands>[^;]*);"
)
_LABEL = re.compile(r"^\s*([.\w$]+):\s*$")
_SECTION = re.compile(r"^\s*\.section\s+\.text\.(\S+?),", re.MULTILINE)
_TARGET = re.compile(r"`\(([.\w$]+)\)")
_BARRIER = re.compile(r"\bB\d+\b")

_WAITING = ("SYNCS", "NANOSLEEP", "YIELD", "NOP", "BRA", "ISETP", "WARPSYNC")
"""What a loop that only waits (for an mbarrier, say) is made of."""


@dataclass(frozen=True)
class Instruction:
    """One machine instruction: `LDG.E.128 R4, [R2.64]` under `predicate` P0, !P1 or none."""

    address: int
    predicate: str
    opcode: str
    operands: str

    def __str__(self) -> str:
        guard = f"@{self.predicate} " if self.predicate else ""
        return f"{guard}{self.opcode} {self.operands}".rstrip()


def find_disassembler() -> Path | None:
    """Where nvdisasm is: in its package, else beside a toolkit on the path."""
    try:
        for file in importlib.metadata.files(PACKAGE) or ():
            if file.name in ("nvdisasm", "nvdisasm.exe"):
                path = Path(str(file.locate()))
                if path.is_file():
                    return path
    except importlib.metadata.PackageNotFoundError:
        pass
    found = shutil.which("nvdisasm")
    return Path(found) if found else None


def disassemble(cubin: bytes, name: str | None = None) -> str:
    """The code sections of `cubin` as text, or that of kernel `name` alone.

    Raises `VmError` E0823 where there is no nvdisasm, `InternalError` where it refuses the cubin
    or the kernel is not in it.
    """
    tool = find_disassembler()
    if tool is None:
        raise fail("E0823", "no disassembler: nvdisasm was not found", None, fix=INSTALL)
    sass = _disassembly(tool, cubin)
    return sass if name is None else code_of(sass, name)


@lru_cache(maxsize=8)
def _disassembly(tool: Path, cubin: bytes) -> str:
    """All code sections; the tool takes a third of a second for the smallest kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        run = subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise InternalError(f"nvdisasm cannot read the cubin: {run.stderr.strip()}")
    return run.stdout


def code_of(sass: str, name: str) -> str:
    """The section of kernel `name` in a disassembly; raises `InternalError` where it has none."""
    sections = list(_SECTION.finditer(sass))
    ends = [section.start() for section in sections[1:]] + [len(sass)]
    for section, end in zip(sections, ends, strict=False):
        if section.group(1) == name:
            return sass[section.start() : end]
    raise InternalError(f"the cubin holds no kernel {name}")


def instructions(sass: str) -> tuple[Instruction, ...]:
    """The instructions of a disassembly in order of address, without the padding at the end."""
    return tuple(_Code(sass).reachable())


def instruction_counts(code: str | Iterable[Instruction], pattern: str) -> Counter[str]:
    """How often each opcode occurs whose beginning matches the regular expression `pattern`.

    `code` is a disassembly or some instructions of one: `instruction_counts(sass, r"LDG.*128")`;
    the sum is `.total()`.
    """
    listed = instructions(code) if isinstance(code, str) else code
    return Counter(each.opcode for each in listed if re.match(pattern, each.opcode))


def main_loop(sass: str) -> tuple[Instruction, ...]:
    """The instructions of the largest innermost loop; empty where there is no loop.

    A loop is natural: all that reaches a branch back to its head without passing the head, wherever
    it lies (waiting for an mbarrier is moved behind the end of a kernel). It is innermost when it
    holds no other loop but such as only wait.
    """
    code = _Code(sass)
    loops = [loop for loop in code.loops().items() if not code.only_waits(loop[1])]
    innermost = [
        body
        for head, body in loops
        if not any(other != head and other in body for other, _ in loops)
    ]
    largest = max(innermost, key=len, default=frozenset())
    return tuple(code.listed[index] for index in sorted(largest))


class _Code:
    """The control flow of a disassembly: instructions by index, and which may follow which."""

    def __init__(self, sass: str) -> None:
        self.listed: list[Instruction] = []
        self.entries: list[int] = []
        labels: dict[str, int] = {}
        for line in sass.splitlines():
            found = _INSTRUCTION.search(line)
            if found:
                address = int(found["address"], 16)
                if address == 0:
                    self.entries.append(len(self.listed))
                guard, operands = found["predicate"] or "", found["operands"].strip()
                self.listed.append(Instruction(address, guard, found["opcode"], operands))
            elif label := _LABEL.match(line):
                labels[label.group(1)] = len(self.listed)
        self.successors: list[tuple[int, ...]] = []
        meeting: dict[str, int] = {}  # where threads go on together after BSYNC of a barrier
        for index, each in enumerate(self.listed):
            target = _TARGET.search(each.operands)
            to = labels.get(target.group(1)) if target else None
            barrier = _BARRIER.search(each.operands)
            if each.opcode.startswith("BSSY") and barrier and to is not None:
                meeting[barrier.group()] = to
            self.successors.append(self._follow(index, each, to, barrier, meeting))

    def _follow(
        self,
        index: int,
        each: Instruction,
        to: int | None,
        barrier: re.Match[str] | None,
        meeting: dict[str, int],
    ) -> tuple[int, ...]:
        base = each.opcode.partition(".")[0]
        following = (index + 1,) if index + 1 < len(self.listed) else ()
        if base == "BSYNC" and barrier and barrier.group() in meeting:
            return (meeting[barrier.group()],)
        if base in ("BRA", "JMP"):
            jump = () if to is None else (to,)
            # `BRA.U !UP0, label` carries its condition as an operand
            conditional = each.predicate or not each.operands.startswith("`(")
            return (*following, *jump) if conditional else jump
        if base in ("EXIT", "RET", "BRX", "KILL", "BPT"):
            return following if each.predicate else ()
        return following

    def reachable(self) -> list[Instruction]:
        return [self.listed[index] for index in sorted(self._search()[0])]

    def loops(self) -> dict[int, frozenset[int]]:
        """The body of each loop by the index of its head; two ways back to a head are one loop."""
        reached, back = self._search()
        before: dict[int, list[int]] = {index: [] for index in reached}
        for index in reached:
            for following in self.successors[index]:
                before[following].append(index)
        bodies: dict[int, set[int]] = {}
        for tail, head in back:
            body = bodies.setdefault(head, {head})
            pending = [tail]
            while pending:
                index = pending.pop()
                if index not in body:
                    body.add(index)
                    pending += before[index]
        return {head: frozenset(body) for head, body in bodies.items()}

    def only_waits(self, body: frozenset[int]) -> bool:
        opcodes = [self.listed[index].opcode for index in body]
        return all(opcode.startswith(_WAITING) for opcode in opcodes)

    def _search(self) -> tuple[set[int], list[tuple[int, int]]]:
        """What a depth-first walk reaches, and its edges back to an instruction still open."""
        reached: set[int] = set()
        back: list[tuple[int, int]] = []
        for entry in self.entries:
            if entry in reached:
                continue
            reached.add(entry)
            active = {entry}
            stack = [(entry, iter(self.successors[entry]))]
            while stack:
                index, pending = stack[-1]
                following = next(pending, None)
                if following is None:
                    active.discard(index)
                    stack.pop()
                elif following in active:
                    back.append((index, following))
                elif following not in reached:
                    reached.add(following)
                    active.add(following)
                    stack.append((following, iter(self.successors[following])))
        return reached, back
