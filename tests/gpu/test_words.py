"""Instructions on words on the GPU, against the reference machine."""

from __future__ import annotations

import pytest

from tests.compiler.test_words import assert_every_is_the_same
from vm.runtime.compiled import run_on_cuda

pytestmark = pytest.mark.gpu


def test_every_instruction():
    assert_every_is_the_same(run_on_cuda)
