"""One error code explained, and the frame of the examples."""

from __future__ import annotations

from dataclasses import dataclass

CHECK, RUN, COMPILE, COMMAND, PYTHON = "check", "run", "compile", "command", "python"


@dataclass(frozen=True)
class Explanation:
    """What a code means.

    `example` is a whole `.vm` file that shows it when checked (`kind` CHECK), run (RUN) or
    compiled for sm_80 (COMPILE), a command line (COMMAND) or Python (PYTHON). `at` is the part of
    the example that the message points at; empty where it points at no place in a file.
    """

    code: str
    title: str
    cause: str
    example: str
    at: str
    fix: str
    kind: str = CHECK

    def render(self) -> str:
        """What `vm explain` prints."""
        indented = "\n".join(f"    {line}".rstrip() for line in self.example.strip().split("\n"))
        return "\n\n".join(
            [f"{self.code}: {self.title}", f"Cause: {self.cause}",
             f"Example:\n{indented}", f"Fix: {self.fix}"]
        )  # fmt: skip


def program(
    *body: str,
    parameters: str = "A: global(f32)[N], C: out(global(f32))[N]",
    grid: str = "1",
    threads: int = 32,
    where: str = "",
    before: str = "",
) -> str:
    """A module of one program with these statements."""
    facts = f" where {where}" if where else ""
    lines = ["vm 1", *([before] if before else []), f"program p({parameters})"]
    lines.append(f"  grid ({grid}) threads {threads}{facts}")
    return "\n".join([*lines, "{", *(f"  {line}" for line in body), "}"]) + "\n"
