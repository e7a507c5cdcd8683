"""Says what this machine has, what is missing for which purpose, and the command that installs
it."""

from __future__ import annotations

import argparse

from vm.runtime.doctor import FAULTY, render, report


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(arguments: argparse.Namespace) -> int:
    findings = report()
    print(render(findings))
    return 1 if any(finding.status == FAULTY for finding in findings) else 0
