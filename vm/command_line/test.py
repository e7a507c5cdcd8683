"""Runs the conformance tests in a file, or in all files below a folder, and counts what passed.

A test that needs what the executor does not have is skipped, which is not a pass."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vm.runtime.cases import EXECUTORS
from vm.runtime.conformance import FAIL, SKIP, WAIVED, Report, run_path
from vm.runtime.files import write_file


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a .vm file or a folder")
    parser.add_argument("--on", choices=tuple(EXECUTORS), default="reference", help="the executor")
    parser.add_argument("--json", metavar="FILE", help="write every result, and the counts")
    parser.add_argument(
        "--export", metavar="DIR",
        help="write the assertions as JSON and .npy files, for machines without a parser",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    if arguments.export is not None:
        from vm.runtime.conformance_export import export

        count = export(arguments.path, Path(arguments.export))
        print(f"{count} assertions written to {arguments.export}")
        return 0
    report = run_path(arguments.path, arguments.on)
    if arguments.json is not None:
        write_file(arguments.json, json.dumps(report.as_json(), indent=1) + "\n")
    print(rendered(report))
    return 0 if report.passed else 1


def rendered(report: Report) -> str:
    """What a person reads: failures, why tests were skipped or waived, and the counts."""
    lines = []
    for each in report.results:
        if each.status == FAIL:
            lines += [f"FAIL {each.file}:{each.line} \"{each.test}\" {each.directive}",
                      f"  {each.reason}"]  # fmt: skip
    for status in (SKIP, WAIVED):
        reasons: dict[str, int] = {}
        for each in report.results:
            if each.status == status:
                reasons[each.reason] = reasons.get(each.reason, 0) + 1
        lines += [f"{status} {count}: {reason}" for reason, count in sorted(reasons.items())]
    lines += ["", *_table(report), ""]
    counts = ", ".join(f"{count} {status}" for status, count in report.counts().items())
    lines.append(f"on {report.executor}: {counts}; {report.seconds:.1f} s")
    return "\n".join(lines)


def _table(report: Report) -> list[str]:
    """Assertions by instruction and directive, and in all by directive."""
    directives = list(report.by_directive())
    titles = [name.removeprefix("assert_") for name in directives]
    rows = [("instruction", [*titles, "all"])]
    for name, counts in report.by_instruction().items():
        if counts:
            numbers = [counts.get(directive, 0) for directive in directives]
            rows.append((name, [*numbers, sum(numbers)]))
    numbers = [*report.by_directive().values()]
    rows.append(("all assertions", [*numbers, sum(numbers)]))
    first = max(len(name) for name, _ in rows)
    return [
        f"{name:<{first}}" + "".join(f"{number or '-':>{len(title) + 2}}"
                                     for number, title in zip(cells, rows[0][1], strict=True))
        for name, cells in rows
    ]  # fmt: skip
