"""Tests the checkpoint with which a run begins: the newest that is whole, of this run."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from line_runs import SCORES, Stop, last_of, line_runner, names, scores
from mmengine.config import Config
from refusals import raises_one_line

from vil_dense.mm.engine.checkpoint_names import POINTER
from vil_dense.mm.engine.run_start import find_start, newest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Returns a run with checkpoints of steps 2, 4 and 6, the last one cut short, and an earlier, longer run's."""
    for step in (2, 4, 6, 10):
        torch.save(
            dict(state_dict=dict(weight=torch.full((64,), step)), meta=dict(iter=step)), tmp_path / f"iter_{step}.pth"
        )
    (tmp_path / POINTER).write_text("/moved/from/here/iter_6.pth\n")
    (tmp_path / "best_score_iter_4.pth").write_bytes(b"of another kind")
    return tmp_path


def test_the_newest_is_that_of_the_run(run: Path):
    assert last_of(run) == str(run / "iter_6.pth")
    assert newest(str(run / "nothing")) == (None, None, [])


def test_a_broken_newest_is_named_and_the_one_before_taken(run: Path):
    whole = (run / "iter_6.pth").read_bytes()
    value = torch.full((64,), 6).numpy().tobytes()
    for broken in (b"", whole[:100], whole[:-100], b"<html>", whole.replace(value, value[:-1] + b"\1")):
        (run / "iter_6.pth").write_bytes(broken)
        path, content, lines = newest(str(run))
        assert path == str(run / "iter_4.pth") and content["meta"]["iter"] == 4
        assert lines == [f"{run}/iter_6.pth is truncated, damaged or no checkpoint: the checkpoint before it is used"]


@pytest.mark.parametrize("pointer", ["", None, "iter_3.pth"])
def test_without_a_pointer_the_highest_step_is_taken(run: Path, pointer: str | None):
    (run / POINTER).unlink() if pointer is None else (run / POINTER).write_text(pointer)
    assert last_of(run) == str(run / "iter_10.pth")


def test_checkpoints_in_another_folder(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        line_runner(tmp_path / "run", Stop(5), out_dir=tmp_path / "out").train()
    assert last_of(tmp_path / "run") == str(tmp_path / "out/run/iter_4.pth")
    line_runner(tmp_path / "run", resume=True, out_dir=tmp_path / "out").train()
    assert scores(tmp_path / "run") == dict(zip((2, 4, 6, 8), SCORES, strict=True))
    assert names(tmp_path / "out/run") == {"iter_8.pth", "best_score_iter_8.pth"}
    (tmp_path / "out/run").rename(tmp_path / "out/gone")
    with raises_one_line(ValueError, "/out/run/iter_8.pth", "/run/last_checkpoint"):
        newest(str(tmp_path / "run"))


def test_where_a_run_begins(run: Path, tmp_path_factory: pytest.TempPathFactory):
    chosen, weights, empty = run / "iter_2.pth", run / "iter_4.pth", tmp_path_factory.mktemp("empty")
    torch.save(dict(state_dict={}, meta=dict(iter=2), optimizer={}), chosen)

    def begin(work_dir: Path, go_on: bool, **options: object) -> tuple[str | None, bool]:
        cfg = Config(dict(options, work_dir=str(work_dir), auto_resume=go_on))
        find_start(cfg)
        return cfg.load_from, cfg.resume

    last = str(run / "iter_6.pth")
    assert begin(run, True) == begin(run, False, resume=True) == (last, True)
    assert begin(run, True, load_from=str(weights)) == begin(run, True, load_from="f", resume=True) == (last, True)
    assert (
        begin(run, False, load_from=str(weights)) == begin(empty, True, load_from=str(weights)) == (str(weights), False)
    )
    assert begin(run, False, load_from=str(chosen), resume=True) == (str(chosen), True)
    assert begin(empty, True, load_from=str(chosen), resume=True) == (str(chosen), True)
    assert begin(empty, True) == begin(empty, False) == begin(empty, False, resume=True) == (None, False)
    with raises_one_line(ValueError, "iter_4.pth"):
        begin(run, False, load_from=str(weights), resume=True)


def test_the_best_of_the_run_that_another_began_with_stays(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(KeyboardInterrupt):
        line_runner(first, Stop(5)).train()
    before = names(first)
    shutil.copytree(first, second)
    for name in names(second) - {"iter_4.pth"}:
        (second / name).unlink()
    line_runner(second, resume=True).train()
    assert names(first) == before and names(second) == {"iter_8.pth", "best_score_iter_8.pth", POINTER}


def test_none_whole_is_one_sentence(run: Path):
    for path in run.glob("iter_*.pth"):
        path.write_bytes(b"")
    with raises_one_line(ValueError, "3"):
        newest(str(run))


def test_one_that_would_run_code_is_no_reason_to_take_another(run: Path):
    class Canary:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save(dict(state_dict={}, evil=Canary()), run / "iter_6.pth")
    with raises_one_line(ValueError, "iter_6.pth", "posix.system"):
        newest(str(run))
