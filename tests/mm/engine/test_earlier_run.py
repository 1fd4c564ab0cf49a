"""Trains twice in a work folder: the first run's results are moved aside, or the run resumes; the best is named."""

import time
from pathlib import Path

import pytest
from run_command import run_command
from small_runs import CROP, write_config

from vil_dense.mm.engine.earlier_run import move_earlier_run
from vil_dense.mm.utils.safe_load import load_safely


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("earlier"))


def test_a_second_run_keeps_the_first_apart(config: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    def train(options: str) -> str:
        assert run_command(f"train {config} --work-dir {run} {options} {CROP}", monkeypatch) == 0
        return capfd.readouterr().out

    run = tmp_path / "run"
    said = train("--resume --cfg-options")
    assert f"no checkpoint in {run}" in said, "a run that cannot resume says so"
    (best,) = run.glob("best_mIoU_iter_*.pth")
    assert f"best checkpoint: {best} (mIoU" in said
    assert {"iter_1.pth", "iter_2.pth", "last_checkpoint"} <= {path.name for path in run.iterdir()}
    (run / "notes.txt").write_text("mine")
    first = (run / "iter_2.pth").read_bytes()

    time.sleep(1)  # MMEngine names the folder of a log by the second
    said = train(f"--cfg-options train_cfg.max_iters=1 load_from={run}/iter_1.pth")
    assert f"{run}/previous_1" in said and "--resume" not in said
    assert (run / "previous_1/iter_2.pth").read_bytes() == first
    assert len(list((run / "previous_1").glob("*/*.log"))) == len(list(run.glob("*/*.log"))) == 1
    assert {path.name for path in run.glob("iter_*.pth")} == {"iter_1.pth"} and (run / "notes.txt").is_file()
    assert (run / "previous_1/last_checkpoint").is_file() and (run / "previous_1/pictures").is_dir()

    said = train("--resume --cfg-options")
    assert "previous_2" not in said and load_safely(str(run / "iter_2.pth"))["meta"]["iter"] == 2


def test_what_is_moved(tmp_path: Path) -> None:
    for name in ("iter_8.pth", "epoch_2_step_3.pth", "best_Dice_iter_8.pth", "weights.pth", ".lock", "config.py"):
        (tmp_path / name).write_text(name)
    for name in ("20260101_000000", "20260102_000000", "pictures", "data", "previous_1"):
        (tmp_path / name).mkdir()
    line = move_earlier_run(str(tmp_path), str(tmp_path / "20260102_000000"))
    assert "3 checkpoints" in line and str(tmp_path / "previous_2") in line
    moved = {"iter_8.pth", "epoch_2_step_3.pth", "best_Dice_iter_8.pth", "20260101_000000", "pictures"}
    assert {path.name for path in (tmp_path / "previous_2").iterdir()} == moved
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"weights.pth", ".lock", "config.py", "20260102_000000", "data", "previous_1", "previous_2"}
    assert move_earlier_run(str(tmp_path), str(tmp_path / "20260102_000000")) == ""


def test_a_best_score_that_no_validation_gives(config: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    options = f"--cfg-options val_evaluator.iou_metrics=[mDice] {CROP}"
    assert run_command(f"train {config} --work-dir {tmp_path} {options}", monkeypatch) == 0
    assert "mDice" in capfd.readouterr().out.partition("best checkpoint: not saved")[2]
    assert not list(tmp_path.glob("best_*"))
