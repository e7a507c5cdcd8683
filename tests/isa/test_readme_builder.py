"""The Python program in README.md is the text program beside it."""

import re
from pathlib import Path

from vm.isa.program import load

ROOT = Path(__file__).parents[2]


def test_the_builder_in_the_readme_makes_the_program_of_the_demo() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "vm.Builder()" in block)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    module = load(ROOT / "programs" / "matmul_w4a16.vm")
    assert names["b"].module()["matmul"].definition == module["matmul"].definition
    assert names["kernel"] == module["matmul"].instantiate(STAGES=3)
