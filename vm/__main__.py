"""The command `vm`, also `python -m vm`.

A command is an entry of `COMMANDS` and the module `vm/command_line/<name>.py` with two functions:
`configure(parser)` says its arguments and `run(arguments)` does it and gives the exit status. Only
the module of the command that is called is imported: most of a short command is imports.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from vm.errors import VmError

COMMANDS = {
    "run": "run the cases of a file and compare with what they expect",
    "check": "find the mistakes in a file without running it",
    "fmt": "rewrite a file in the one way it is written",
    "compile": "show what a program becomes",
    "explain": "what an error means and how to repair it",
    "layout": "show what a layout expression stands for",
    "test": "run conformance tests and count what passed",
    "tune": "measure a program with other constants and keep the times",
    "doctor": "what this machine can run, and what is missing",
}

FAILED, MISUSED, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def overview() -> str:
    """What `vm` without a command says."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {meaning}" for name, meaning in COMMANDS.items()]
    return "\n".join(
        ["usage: vm COMMAND ...", "", "commands:", *lines, "", "vm COMMAND --help says more."]
    )


def run(arguments: Sequence[str]) -> int:
    """Does what the command line says; the result is the exit status, 0 only if all went well.

    Mistakes of the user are shown on standard error; mistakes of ours are raised.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if arguments else MISUSED
    name, *rest = arguments
    if name not in COMMANDS:
        close = next(iter(get_close_matches(name, COMMANDS, n=1)), None)
        hint = f"; did you mean `vm {close}`?" if close else ""
        print(f"vm: there is no command `{name}`{hint}\n\n{overview()}", file=sys.stderr)
        return MISUSED
    command = import_module(f"vm.command_line.{name}")
    parser = argparse.ArgumentParser(
        prog=f"vm {name}", description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.configure(parser)
    try:
        status = command.run(parser.parse_args(rest))
        sys.stdout.flush()
        return status
    except VmError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone. What is still buffered must go nowhere too, or Python complains
        # about it when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def main() -> None:
    """The console script: exits; whatever is not the user's mistake becomes a bug report."""
    sys.excepthook = _report
    sys.exit(run(sys.argv[1:]))


def _report(kind: type[BaseException], error: BaseException, traceback: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    from vm.command_line.bug_report import write_bug_report

    path = write_bug_report(error, sys.argv)
    print(
        f"internal error: {kind.__name__}: {error}\n"
        f"This is a mistake in vm, not in your program. Please report it with this file:\n  {path}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
