"""What all tests share: a cache of this run's own."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_finish() -> None:
    """What is collected lives to the end of the run: no search for garbage goes through it, and
    searches are rarer than Python has them, since kernels and caches live long too."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)


@pytest.fixture(scope="session", autouse=True)
def run_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this run keeps what it compiles: the same for all its processes, and no user's."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder inside that of the run
        folder = folder.parent
    patch = pytest.MonkeyPatch()
    patch.setenv("VM_CACHE_DIR", str(folder / "cache"))
    yield folder / "cache"
    patch.undo()


@pytest.fixture(scope="session")
def objects(run_cache: Path) -> Path:
    """Where the emulator keeps what it compiles."""
    return run_cache / "emulator"
