"""Runs the laws of layouts and counts them.

    python -m tests.layouts.laws

A law is a property that hypothesis draws examples for; an exhaustive test checks every small layout
(up to 3 modes and 64 elements) against brute force. Exit status 0 if all hold.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


class Count:
    """A pytest plugin: keeps only laws and exhaustive tests, and notes what they did."""

    def __init__(self) -> None:
        self.examples: dict[str, int] = {}
        self.layouts: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)
        self.distinct: set[Any] = set()
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if is_law(item.function) or is_exhaustive(item.function)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        module, name = item.module, name_of(item)
        if is_law(item.function):
            settings = item.function._hypothesis_internal_use_settings
            self.examples[name] = self.examples.get(name, 0) + settings.max_examples
        else:
            self.layouts[name] += 0
        original = getattr(module, "every_layout", None)

        def counted(*arguments: Any) -> tuple[Any, ...]:
            found = original(*arguments)
            self.layouts[name] += len(found)
            self.distinct.update(found)
            return found

        if original is not None:
            module.every_layout = counted
        try:
            return (yield)
        finally:
            if original is not None:
                module.every_layout = original

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            file, _, name = report.nodeid.partition("::")
            self.seconds[words(Path(file).stem, name.split("[")[0])] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def __str__(self) -> str:
        lines = ["laws: examples, seconds"]
        lines += [
            f"  {count:>5}  {self.seconds[name]:6.2f}  {name}"
            for name, count in self.examples.items()
        ]
        lines += ["", "exhaustive: layouts, seconds"]
        lines += [
            f"  {count:>7}  {self.seconds[name]:6.2f}  {name}"
            for name, count in self.layouts.items()
            if name not in self.examples
        ]
        lines += [
            "",
            f"{len(self.examples)} laws, {sum(self.examples.values())} examples at most",
            f"{len(self.distinct)} layouts in {sum(self.layouts.values())} checks; all layouts of "
            "up to 3 modes, 3 axes and 64 elements are among them",
            f"all hold; {sum(self.seconds.values()):.1f} s",
        ]
        return "\n".join(lines)


def is_law(function: Any) -> bool:
    """Whether hypothesis draws its arguments."""
    return getattr(function, "is_hypothesis_test", False)


def is_exhaustive(function: Any) -> bool:
    """Whether it walks through a world of small layouts."""
    code = getattr(function, "__code__", None)
    parts = [code, *(each for each in code.co_consts if hasattr(each, "co_names"))] if code else []
    return any("every_layout" in part.co_names for part in parts)


def name_of(item: pytest.Item) -> str:
    return words(Path(item.path).stem, item.function.__name__)


def words(file: str, function: str) -> str:
    return f"{file.removeprefix('test_')}: {function.removeprefix('test_').replace('_', ' ')}"


def main() -> int:
    count = Count()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        pytest.main([str(HERE), "-p", "no:cacheprovider", "-p", "no:xdist"], plugins=[count])
    print(output.getvalue() if count.failed or not count.examples else count)
    return 1 if count.failed or not count.examples else 0


if __name__ == "__main__":
    sys.exit(main())
