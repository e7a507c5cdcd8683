from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def objects(tmp_path_factory) -> Path:
    """Where the emulator keeps what it compiles."""
    return tmp_path_factory.mktemp("objects")
