"""Tests SIGTERM: a checkpoint after the step and exit code 75; the run that goes on ends as the unbroken one."""

import time
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from preempted_runs import handler_restored, runner, stop  # noqa: F401
from refusals import raises_one_line
from torch.utils.data import DataLoader

from vil_dense.mm.engine.checkpoints import SafeCheckpointHook
from vil_dense.mm.engine.earlier_run import move_earlier_run
from vil_dense.mm.engine.failures import resume_point
from vil_dense.mm.engine.hooks.hook_states import plain_values
from vil_dense.mm.engine.hooks.reports import RunReportHook, read_scalars
from vil_dense.mm.engine.run_start import newest
from vil_dense.mm.utils.safe_load import load_safely


def test_the_step_is_saved_and_the_run_goes_on(tmp_path: Path):
    whole = runner(tmp_path / "whole")
    whole.train()
    stop(runner(tmp_path / "cut", tell=3))
    assert resume_point(str(tmp_path / "cut")) == str(tmp_path / "cut/iter_3.pth")
    log = next((tmp_path / "cut").glob("*/*.log")).read_text()
    saved = tmp_path / "cut/iter_3.pth"
    assert f"stopped by SIGTERM after step 3: --resume goes on from {saved} (exit code 75)" in log
    again = runner(tmp_path / "cut", resume=True)
    again.train()
    assert again.iter == 6
    ends = [load_safely(str(tmp_path / name / "iter_6.pth")) for name in ("whole", "cut")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)


def test_a_step_that_was_just_saved_is_not_saved_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saves = []
    save = Runner.save_checkpoint
    monkeypatch.setattr(
        Runner, "save_checkpoint", lambda run, *args, **more: (saves.append(1), save(run, *args, **more))
    )
    stop(runner(tmp_path, tell=4))
    assert len(saves) == 1 and resume_point(str(tmp_path)).endswith("iter_4.pth")


def test_the_pointer_of_an_earlier_run_is_no_checkpoint_of_this_one(tmp_path: Path):
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_3.pth"))
    stop(runner(tmp_path, tell=3))
    assert load_safely(str(tmp_path / "iter_3.pth"))["meta"]["iter"] == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [8, 12])
def test_a_run_goes_on_within_an_epoch(step: int, workers: int, tmp_path: Path):
    """Stops within epochs of six steps; it goes on with the same data, log and end."""
    loop = dict(type="EpochLoop", max_epochs=3)
    runner(tmp_path / "whole", **loop).train()
    stop(runner(tmp_path / "cut", tell=step, workers=workers, **loop))
    saved = tmp_path / f"cut/epoch_1_step_{step - 6}.pth"
    assert newest(str(tmp_path / "cut"))[::2] == (str(saved), [])
    saved_again = load_safely(str(saved))["meta"]
    assert (saved_again["epoch"], saved_again["iter"]) == (1, step)
    again = runner(tmp_path / "cut", workers=workers, resume=True, **loop)
    again.train()
    assert again.iter == 18 and not saved.exists()
    assert sorted(path.name for path in (tmp_path / "cut").glob("*.pth")) == [f"epoch_{n}.pth" for n in (1, 2, 3)]
    ends = [load_safely(str(tmp_path / name / "epoch_3.pth")) for name in ("whole", "cut")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)
    losses = [read_scalars(str(tmp_path / name), "loss") for name in ("whole", "cut")]
    assert losses[1] == losses[0] and len(losses[0]) == 18


def test_a_broken_one_within_an_epoch_gives_way_to_the_last_epoch(tmp_path: Path):
    stop(runner(tmp_path, tell=14, type="EpochLoop", max_epochs=3))
    (tmp_path / "epoch_2_step_2.pth").write_bytes(b"")
    (tmp_path / "epoch_3.pth").write_bytes((tmp_path / "epoch_1.pth").read_bytes())  # of an earlier, longer run
    assert newest(str(tmp_path))[0] == str(tmp_path / "epoch_2.pth")


@pytest.mark.parametrize(
    ("loop", "tell", "last", "before", "end"),
    [
        (dict(), 5, "net2_00005.pth", "net2_00004.pth", "net2_00006.pth"),
        (dict(type="EpochLoop", max_epochs=3), 14, "net2_00002_step_2.pth", "net2_00002.pth", "net2_00003.pth"),
    ],
    ids=["steps", "epochs"],
)
def test_file_names_of_one_s_own_are_resumed(
    loop: dict, tell: int, last: str, before: str, end: str, tmp_path: Path
) -> None:
    """Tests that a stop, a resume, a broken last checkpoint and a new run read names of the hook's `filename_tmpl`."""
    own = dict(template="net2_{:05d}.pth", **loop)
    torch.save(dict(state_dict={}, meta={}), tmp_path / "pretrained_9.pth")
    stop(runner(tmp_path, tell=tell, **own))
    assert newest(str(tmp_path))[0] == str(tmp_path / last)
    whole = (tmp_path / last).read_bytes()
    (tmp_path / last).write_bytes(b"")
    assert newest(str(tmp_path))[0] == str(tmp_path / before)
    (tmp_path / last).write_bytes(whole)
    runner(tmp_path, resume=True, **own).train()
    assert newest(str(tmp_path))[::2] == (str(tmp_path / end), []) and not list(tmp_path.glob("*_step_*.pth"))
    assert move_earlier_run(str(tmp_path), "")
    assert {path.name for path in tmp_path.glob("*.pth")} == {"pretrained_9.pth"}


@pytest.mark.parametrize("template", ["latest.pth", "iter_{}_v2.pth", "a/iter_{}.pth", "v2{}.pth", "iter_{}.ckpt"])
def test_file_names_without_a_step_that_can_be_read_are_refused(template: str) -> None:
    with raises_one_line(ValueError, "filename_tmpl", template):
        SafeCheckpointHook(filename_tmpl=template)


@pytest.mark.parametrize(("step", "batch_size", "end"), [(8, 4, 8 + 2 + 3), (12, 3, 12 + 0 + 4), (6, 4, 6 + 0 + 3 + 3)])
def test_another_batch_size_goes_on_at_the_same_picture(step: int, batch_size: int, end: int, tmp_path: Path):
    """Starts from twelve; a run of epochs of 6 steps, and then of another number of them."""
    loop = dict(type="EpochLoop", max_epochs=3)
    stop(runner(tmp_path, tell=step, **loop))
    again = runner(tmp_path, resume=True, batch_size=batch_size, **loop)
    again.train()
    assert again.epoch == 3 and again.iter == end


def test_accumulated_gradients_are_applied_first(tmp_path: Path):
    stop(runner(tmp_path, tell=3, updates=2, type="IterBasedTrainLoop", max_iters=6))
    assert resume_point(str(tmp_path)).endswith("iter_4.pth")


def test_another_loop_over_epochs_goes_on_from_the_last_one(tmp_path: Path):
    stop(runner(tmp_path, tell=8, type="EpochBasedTrainLoop", max_epochs=3))
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_1.pth"]


def test_a_sampler_that_cannot_skip_is_refused(tmp_path: Path):
    run = runner(tmp_path, type="EpochLoop", max_epochs=3)
    run._train_dataloader = DataLoader([dict(inputs=torch.zeros(3))])
    with raises_one_line(ValueError, "SequentialSampler"):
        run.train()


def test_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Tests that times are for the log alone: by ten seconds at each look, and by more than the run takes."""
    runner(tmp_path / "straight").train()
    now = [time.time()]

    def back() -> float:
        now[0] -= 10
        return now[0]

    monkeypatch.setattr(time, "time", back)
    runner(tmp_path / "back").train()
    ends = [load_safely(str(tmp_path / name / "iter_6.pth")) for name in ("straight", "back")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)


def test_reports_keep_no_time_in_checkpoints():
    """Tests that a resumed run ends as one without an interruption does: a time would differ."""
    assert plain_values(RunReportHook()) == {}
