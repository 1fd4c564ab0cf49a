"""Tests that every config says what it trains, by which command, from which source and with which result."""

import ast
import re
from pathlib import Path

import pytest
from config_files import CONFIGS, EXPERIMENTS, docstring, field
from mmengine.config import Config

ROOT = Path(__file__).parents[2]
NUMBER = r"\b(mIoU|top-1|Dice|loss) \d|\d %"  # loss: of a pretraining without labels
HARDWARE = r"\b(CPU|GPUs?|A100|H100|H200)\b"

each_config = pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)


def is_result(text: str) -> bool:
    """Says whether `text` is "Not run yet." or has a measured number and the hardware that measured it."""
    return text == "Not run yet." or bool(re.search(NUMBER, text) and re.search(HARDWARE, text))


@each_config
def test_docstring(path: Path):
    text = docstring(path)
    assert re.match(r"(Trains|Fine-tunes) .*\.", text)
    assert f"tools/train.py {path.relative_to(ROOT)}" in field(text, "Command")
    assert field(text, "Source")
    assert is_result(field(text, "Result"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Not run yet.", True),
        ("mIoU 31.01 after 1200 steps; 50 minutes of one CPU core", True),
        ("77.3 % top-1 on 8 x A100", True),
        ("", False),
        ("to be measured.", False),
        ("Not run yet. See the paper.", False),
        ("loss 0.274 at step 1200; 13 minutes of one CPU core", True),
        ("mIoU 31.01 after 1200 steps", False),
        ("fifty minutes of one CPU core", False),
    ],
)
def test_is_result(text: str, expected: bool):
    assert is_result(text) == expected


STEP = re.compile(r"(\w+_pipeline)\[(\d+)\]\.\w+")
"""Matches a value of a step of a pipeline, as in `train_pipeline[3].scale`."""


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.py")), ids=lambda path: path.stem)
def test_assigns_whole_variables_and_values_of_steps(path: Path):
    """Tests that a config reaches into its base for values of steps alone, and names these steps behind the line."""
    text = path.read_text()
    assigned = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign | ast.AugAssign)]
    targets = [target for node in assigned for target in getattr(node, "targets", None) or [node.target]]
    assert all(isinstance(target, ast.Name) or STEP.fullmatch(ast.unparse(target)) for target in targets)
    for line in text.splitlines():
        if steps := STEP.findall(line):
            cfg = Config.fromfile(path)
            named = line.partition("  # ")[2].split(", ")
            assert named == [cfg[pipeline][int(index)]["type"] for pipeline, index in steps], line
