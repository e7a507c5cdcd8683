"""The report on machines that have things and on machines that do not."""

import importlib.metadata
import platform
import shutil
import sys

import pytest

from tests.runtime.fake_driver import FakeDriver
from vm.runtime import cuda, doctor
from vm.runtime.cache import Cache, Entry
from vm.runtime.doctor import FAULTY, MISSING, OK, render, report


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VM_CACHE_DIR", str(tmp_path / "cache"))
    cached = (cuda._initialized, cuda.device)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def found(item):
    return next(each for each in report() if each.item == item)


def test_every_item_is_there_once():
    items = [each.item for each in report()]
    assert len(items) == len(set(items))
    expected = ["python", "vm", "numpy", "cuda-bindings", "nvrtc", "nvdisasm", "driver", "cache"]
    assert [item for item in items if item in expected] == expected
    assert {each.status for each in report()} <= {OK, MISSING, FAULTY}


def test_what_is_here():
    assert found("python").detail.startswith(platform.python_version())
    assert found("vm").detail == importlib.metadata.version("vm")
    assert "sm_90a" in found("nvrtc").detail and found("nvrtc").status == OK
    assert "nvdisasm" in found("nvdisasm").detail and "Build" in found("nvdisasm").detail


def test_missing_packages_come_with_their_command(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr(importlib.metadata, "files", absent)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    findings = report()
    by_item = {each.item: each for each in findings}
    for item, command in [
        ("cuda-bindings", "pip install -e '.[cuda]'"),
        ("nvrtc", "pip install -e '.[cuda]'"),
        ("nvdisasm", "pip install nvidia-cuda-nvdisasm"),
        ("host compiler", "apt-get install g++"),
        ("ziglang", "pip install -e '.[hip]'"),
        ("torch", "pip install torch"),
    ]:
        assert (by_item[item].status, by_item[item].install) == (MISSING, command)
        assert f"install: {command}" in render(findings)
    assert by_item["device"].status == MISSING


def test_devices(monkeypatch, tmp_path):
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64  580.1\nGCC version: 13\n")
    monkeypatch.setattr(doctor, "_DRIVER_VERSION", tmp_path / "version")
    monkeypatch.setattr(cuda, "_initialized", lambda: FakeDriver(devices=2))
    assert found("cuda:1").detail == "Fake, sm_90a, 132 SMs, 227 KB of shared memory in a block"
    assert found("driver").detail == "NVIDIA UNIX x86_64  580.1"


def test_no_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_DRIVER_VERSION", tmp_path / "absent")
    assert found("driver").status == MISSING


def test_cache():
    assert (found("cache").status, "0 entries" in found("cache").detail) == (OK, True)
    cache = Cache()
    cache.get_or_compile("k", lambda: Entry(b"payload", {}))
    assert "1 entries" in found("cache").detail
    (cache.directory / "k.entry").write_bytes(b"VMCACHE1")
    finding = found("cache")
    assert (finding.status, finding.install) == (FAULTY, "vm cache verify")
    assert "1 damaged" in finding.detail


def test_a_tool_that_does_not_run(monkeypatch, tmp_path):
    tool = tmp_path / "g++"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tool) if name == "g++" else None)
    assert found("host compiler").status == FAULTY


def test_text_lines_up():
    text = render(report())
    column = text.splitlines()[0].index(OK)
    assert all(line[column - 1] == " " for line in text.splitlines())
