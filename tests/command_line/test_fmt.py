"""vm fmt: one way to write a file, and nothing lost on the way."""

from __future__ import annotations

import io
import re
import stat

import pytest

UGLY = """# first
vm   1   # version
# about the constant
const  A=1  # its value


const B = 2 ; const C = 3
program p( X : global(f32) [N] ,   # a parameter
  Y: out(global(f32))[N])   # another
  grid(1)   threads 32 { # opens
  # before
      x=load( X[ 0+:32 ] ,  # inside a call
        layout = spatial(32) )
  store(Y[0+:32], x)  # after
  # closing
}
# the end
"""


def comments(text: str) -> list[str]:
    return sorted(re.findall(r"#[^\n]*", text))


def test_a_file_is_rewritten_with_every_comment(vm, tmp_path):
    path = tmp_path / "ugly.vm"
    path.write_text(UGLY)
    assert vm("fmt", "--check", path).status == 1
    assert path.read_text() == UGLY
    assert vm("fmt", path).status == 0
    text = path.read_text()
    assert text != UGLY
    assert comments(text) == comments(UGLY)
    assert vm("fmt", "--check", path).status == 0
    assert vm("fmt", path).output == ""
    assert path.read_text() == text


def test_a_file_with_mistakes_is_left_alone(vm, tmp_path):
    path = tmp_path / "wrong.vm"
    path.write_text("vm 1\nconst A = = 1\n")
    outcome = vm("fmt", path)
    assert outcome.status == 1
    assert "error[E0102]" in outcome.errors
    assert path.read_text() == "vm 1\nconst A = = 1\n"


def test_standard_input_goes_to_standard_output(vm, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("vm 1\nconst  A = 1\n"))
    outcome = vm("fmt", "-")
    assert outcome.status == 0
    assert "const A = 1\n" in outcome.output


def test_permissions_and_links_stay(vm, tmp_path):
    target, link = tmp_path / "real.vm", tmp_path / "link.vm"
    target.write_text("vm 1\nconst  A = 1\n")
    target.chmod(0o640)
    link.symlink_to(target)
    assert vm("fmt", link).status == 0
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert "const A = 1\n" in target.read_text()


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync"])
def test_a_write_that_fails_loses_nothing(vm, tmp_path, monkeypatch, broken):
    path = tmp_path / "ugly.vm"
    path.write_text(UGLY)

    def fails(*_):
        raise OSError("no space")

    monkeypatch.setattr(broken, fails)
    outcome = vm("fmt", path)
    assert outcome.status == 1
    assert "error[E0802]" in outcome.errors
    assert path.read_text() == UGLY
    assert [each.name for each in tmp_path.iterdir()] == ["ugly.vm"]
