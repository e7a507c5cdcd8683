"""The command as a whole: help, misuse, and how it ends when things go wrong around it."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vm.__main__ import COMMANDS
from vm.isa.error_codes import CODES
from vm.isa.explanations.explanation import COMMAND


def test_no_command_shows_all_commands(vm):
    outcome = vm()
    assert outcome.status == 2
    assert all(f"  {name} " in outcome.output for name in COMMANDS)
    assert vm("--help").status == 0


def test_a_mistake_of_ours_is_reported_as_one(tmp_path):
    # Tests rule Embed/internal.
    broken = (
        "import vm.__main__, vm.command_line.check as check\n"
        "check.run = lambda arguments: 1 // 0\nvm.__main__.main()"
    )
    file = tmp_path / "right.vm"
    file.write_text("vm 1\nprogram p(n: i32) grid (1) threads 32 { print(n) }\n")
    done = subprocess.run([sys.executable, "-c", broken, "check", str(file)], text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode != 0
    said, report = done.stderr.rstrip().split("\n")[0], Path(done.stderr.split()[-1])
    assert said.startswith("internal error: ZeroDivisionError") and "error[E" not in done.stderr
    assert "program p(n: i32)" in report.read_text(encoding="utf-8")
    report.unlink()


def test_an_unknown_command_is_answered_with_the_nearest(vm):
    outcome = vm("chek")
    assert outcome.status == 2
    assert "did you mean `vm check`?" in outcome.errors
    assert not outcome.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(vm, name):
    outcome = vm(name, "--help")
    assert outcome.status == 0
    assert outcome.output.startswith(f"usage: vm {name}")


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("doctor", "explain")])
def test_missing_arguments_are_misuse(vm, name):
    assert vm(name).status == 2


@pytest.mark.parametrize("code", sorted(c for c, each in CODES.items() if each.kind == COMMAND))
def test_examples_of_explanations_fail_with_their_code(vm, code, tmp_path, monkeypatch, programs):
    import shlex

    import numpy as np

    (tmp_path / "programs").symlink_to(programs)
    np.save(tmp_path / "matrix.npy", np.zeros((3, 4), np.float32))
    np.savez(tmp_path / "weights.npz", missing=np.zeros(4, np.float32), other=np.zeros(3))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(CODES[code].example)
    assert arguments[0] == "vm"
    outcome = vm(*arguments[1:])
    assert outcome.status == 1
    assert f"error[{code}]" in outcome.errors


# --- in a process of its own ---


def started(*arguments: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vm", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_a_reader_that_goes_away_is_no_error(programs):
    with started("layout", "spatial(64, 64)") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


ENDLESS = """vm 1
program p(C: out(global(f32))[N]) grid (1) threads 32 {
  print(0, label="ready")
  while true {
    synchronize()
  }
}
case main(N=1) {
  C = p(N=1)
  expect(C, C)
}
"""


def test_control_c_is_quiet(tmp_path):
    (tmp_path / "endless.vm").write_text(ENDLESS)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    # A shell starts what runs in the background with the signal ignored, and children inherit it.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    endless = tmp_path / "endless.vm"
    with started("run", endless, env=environment, preexec_fn=heard) as process:
        assert "ready" in process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == ""


def test_a_mistake_of_ours_becomes_one_file(tmp_path):
    (tmp_path / "good.vm").write_text("vm 1\n\nconst A = 1\n")
    broken = (
        "import sys, vm.__main__ as m, vm.command_line.check as c\n"
        "def diagnose(path): raise KeyError('lost')\n"
        "c.diagnose = diagnose\n"
        f"sys.argv = ['vm', 'check', {str(tmp_path / 'good.vm')!r}]\n"
        "m.main()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", broken], capture_output=True, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert "mistake in vm, not in your program" in process.stderr
    assert "Traceback" not in process.stderr
    report = Path(process.stderr.split("\n")[-2].strip())
    text = report.read_text()
    assert report.parent == tmp_path
    for part in ("KeyError: 'lost'", "const A = 1", "vm check", "numpy", "python"):
        assert part in text
