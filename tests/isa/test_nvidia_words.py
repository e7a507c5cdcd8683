"""What instructions on words refuse, and how their constants are written. What they compute is held
to exact arithmetic in spec/conformance/machine_nvidia.vm (tests/spec/table_words.py)."""

from __future__ import annotations

import pytest

from vm.errors import VmError
from vm.isa.program import parse

HEAD = """vm 1
program p(n: u32, z: f32) grid (1) threads 32
{
  x = iota(u32, [64], layout=spatial(32).local(2))
  other = iota(u32, [32], layout=spatial(32))
  i = iota(i32, [64], layout=spatial(32).local(2))
  f = cast(i, f32)
"""


def kernel(line: str):
    return parse(f"{HEAD}  print({line})\n}}\n")["p"].instantiate()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nv.lop3(x, n, 0, 256)", "E0209"), ("nv.lop3(x, n, -1, 0)", "E0205"),
        ("nv.lop3(x, i, 0, 0)", "E0205"), ("nv.lop3(x, other, 0, 0)", "E0304"),
        ("nv.lop3(n, 1, 2, 0)", "E0203"), ("nv.prmt(f, x, 0)", "E0205"),
        ("nv.prmt(x, x, 4294967296)", "E0205"), ("nv.shift_left(x, 32)", "E0209"),
        ("nv.shift_right(x, 32)", "E0209"), ("nv.funnel_shift(x, x, 32)", "E0209"),
        ("nv.half2_add(x, x, f32)", "E0205"), ("nv.half2_mul(x, x, u16)", "E0205"),
        ("nv.half2_fma(x, x, 1.5, f16)", "E0205"), ("nv.half2_exceeds(x, x, bf16)", "E0205"),
        ("nv.look_up(x, address=64, entries=4)", "E0209"),
        ("nv.look_up(x, address=-128, entries=4)", "E0209"),
        ("nv.look_up(x, address=4294967296, entries=4)", "E0209"),
        ("nv.look_up(x, address=0, entries=16384)", "E0209"),
        ("nv.look_up(x, address=0, entries=3)", "E0209"),
        ("nv.look_up(x, address=0, entries=0)", "E0209"),
        ("nv.look_up(i, address=0, entries=4)", "E0205"),
        ("nv.look_up(n, address=0, entries=4)", "E0203"),
        ("nv.cvt_pack(x, f, f16)", "E0205"),
        ("nv.cvt_pack(f, z, f32)", "E0205"), ("nv.cvt_pack(z, 1.0, f16)", "E0203"),
        ('nv.cvt_pack(f, f, f8e4m3, overflow="ieee")', "E0205"),
        ("nv.cvt_f8x2_to_half2(x, f8e3m4)", "E0205"), ("nv.cvt_half2_to_f8x2(f, f8e4m3)", "E0205"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(line, code):
    with pytest.raises(VmError) as raised:
        kernel(line)
    assert raised.value.code == code


def test_patterns_of_bits_are_written_in_hexadecimal():
    """Numbers of bits and numbers as such are not."""
    text = str(kernel("nv.lop3(nv.shift_left(x, 12), 65535, n, 234)"))
    assert "nv.shift_left(x, 12)" in text and ", 0xffff, n, 0xea)" in text
    assert "nv.cvt_pack(f, 2.0, bf16)" in str(kernel("nv.cvt_pack(f, 2, bf16)"))
