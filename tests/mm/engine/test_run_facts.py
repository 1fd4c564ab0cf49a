"""Tests the facts of a run that its page shows."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from vil_dense.mm.engine.checkpoint_names import POINTER
from vil_dense.mm.engine.hooks.report_page import report_folder
from vil_dense.mm.engine.hooks.run_facts import repeat_commands

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("script", "tested"),
    [
        (str(ROOT / "tools/train.py"), str(ROOT / "tools/test.py")),
        ("my_training.py", "tools/test.py"),
        ("ipykernel_launcher", "tools/test.py"),
    ],
)
def test_commands_name_the_tools_where_they_are(script: str, tested: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that a run begun outside of the repository names its tool by a path that is valid there."""
    monkeypatch.setattr(sys, "argv", [script, "a.py"])
    runner = SimpleNamespace(
        cfg=Config(dict(test_cfg=dict(type="TestLoop"))), work_dir="w", world_size=1, timestamp="t",
        message_hub=SimpleNamespace(runtime_info=dict(last_ckpt="w/iter_2.pth")),
    )  # fmt: skip
    assert repeat_commands(runner, "train")["Test its checkpoint"] == f"python {tested} w/t.py w/iter_2.pth"


def test_a_test_in_the_folder_of_a_training_leaves_its_report(tmp_path: Path) -> None:
    """Tests mmseg's own `test.py`, whose work folder is that of the training."""
    runner = SimpleNamespace(work_dir=str(tmp_path))
    assert {report_folder(runner, split) for split in ("val", "test")} == {tmp_path}
    (tmp_path / POINTER).touch()
    assert report_folder(runner, "test") == tmp_path / "test" and report_folder(runner, "val") == tmp_path
