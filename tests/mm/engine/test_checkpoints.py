"""Checkpoints survive a stop at any moment, and a resumed run ends as the unbroken one."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from config_files import BY_NAME
from forget_runs import forget_runs
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from vil_dense.mm.engine import checkpoints
from vil_dense.mm.engine.checkpoints import POINTER, AtomicBackend, SafeCheckpointHook, newest
from vil_dense.mm.utils import safe_load

pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")
ROOT = Path(__file__).parents[3]
SCORES = (0.3, 0.5, 0.4, 0.9)


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, mode: str = "tensor") -> object:
        return dict(loss=self.layer(x).square().mean()) if mode == "loss" else [x]


class Score(BaseMetric):
    """What the validation of a step finds: `SCORES`, in turn."""

    step = 0

    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(score=SCORES[Score.step // 2 - 1])


class Stop(Hook):
    """Raises where a run is to be cut off, and tells `Score` the step."""

    priority = "HIGHEST"

    def __init__(self, step: int = 0, during: str = "training") -> None:
        self.step, self.during = step, during

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if self.during == "training" and runner.iter == self.step:
            raise KeyboardInterrupt

    def before_val_epoch(self, runner: Runner) -> None:
        Score.step = runner.iter
        if self.during == "validation" and runner.iter == self.step:
            raise KeyboardInterrupt


def line_runner(
    work_dir: Path, stop: Stop | None = None, resume: bool = False, keep: int = 1, out_dir: Path | None = None
) -> Runner:
    """Eight steps of a linear model, a checkpoint and a validation at every second."""
    forget_runs()
    safe_load.install()
    torch.manual_seed(0)
    data = dict(batch_size=1, num_workers=0, dataset=[torch.ones(1)] * 4)
    start = newest(str(work_dir))[0] if resume else None
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(data, sampler=dict(type="InfiniteSampler", shuffle=False)),
        val_dataloader=dict(data, sampler=dict(type="DefaultSampler", shuffle=False)),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=8, val_interval=2),
        val_cfg=dict(),
        val_evaluator=[Score()],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9)),
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
            checkpoint=dict(
                type="SafeCheckpointHook",
                by_epoch=False,
                interval=2,
                out_dir=out_dir and str(out_dir),
                max_keep_ckpts=keep,
                save_best="score",
                rule="greater",
            ),
        ),
        custom_hooks=[stop or Stop(during="never")],
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=0),
        log_level="WARNING",
        load_from=start,
        resume=start is not None,
    )


def names(folder: Path) -> set[str]:
    """Of the checkpoints, the pointer, and anything half written."""
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.endswith(".py")}


def last_of(work_dir: Path) -> str | None:
    """Returns the path of the last checkpoint, of a folder whose checkpoints are all whole."""
    path, _, broken = newest(str(work_dir))
    assert broken == []
    return path


def scores(work_dir: Path) -> dict[int, float]:
    rows = [
        json.loads(row)
        for file in work_dir.glob("*/vis_data/scalars.json")
        for row in file.read_text().split("\n")
        if row
    ]
    return {row["step"]: row["score"] for row in rows if "score" in row}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch):
    """A disk that takes half of a file, from `start` on."""

    def write(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(Path, "write_bytes", write)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, full_disk):
    backend, path = AtomicBackend(), tmp_path / "folder/file"
    backend.put(b"old", path)
    backend.put_text("text", tmp_path / "text")
    full_disk()
    with pytest.raises(OSError, match=f"{path} could not be written: No space left on device"):
        backend.put(b"new", path)
    assert path.read_bytes() == b"old" and names(path.parent) == {"file"}
    assert (tmp_path / "text").read_text() == "text"


def test_what_is_old_goes_after_the_new_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    save = Runner.save_checkpoint

    def spy(self: Runner, out_dir: str, filename: str, *args: object, **options: object) -> None:
        seen.append((filename, {name for name in names(tmp_path) if name.endswith(".pth")}))
        save(self, out_dir, filename, *args, **options)

    monkeypatch.setattr(Runner, "save_checkpoint", spy)
    line_runner(tmp_path).train()
    before = dict(reversed(seen))  # a file is written again after it was found to be the best: the first time counts
    assert before["iter_4.pth"] >= {"iter_2.pth", "best_score_iter_2.pth"}
    assert before["best_score_iter_4.pth"] >= {"best_score_iter_2.pth"}
    assert before["iter_8.pth"] >= {"iter_6.pth", "best_score_iter_4.pth"}
    assert names(tmp_path) == {"iter_8.pth", "best_score_iter_8.pth", POINTER}
    assert (tmp_path / POINTER).read_text() == str(tmp_path / "iter_8.pth")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, full_disk):
    with pytest.raises(KeyboardInterrupt):
        line_runner(tmp_path, Stop(5)).train()
    kept = names(tmp_path)
    full_disk()
    with pytest.raises(OSError, match=r"iter_6\.pth could not be written: No space left on device"):
        line_runner(tmp_path, resume=True).train()
    assert names(tmp_path) == kept == {"iter_4.pth", "best_score_iter_4.pth", POINTER}
    assert last_of(tmp_path) == str(tmp_path / "iter_4.pth")


@pytest.mark.parametrize(
    "stop", [Stop(3), Stop(4), Stop(4, "validation"), Stop(6, "validation"), Stop(8, "validation")]
)
def test_a_resumed_run_ends_as_the_unbroken_one(stop: Stop, tmp_path: Path):
    """A validation that was cut off is made up for: the best checkpoint and all scores are there."""
    line_runner(tmp_path / "whole").train()
    with pytest.raises(KeyboardInterrupt):
        line_runner(tmp_path / "half", stop).train()
    line_runner(tmp_path / "half", resume=True).train()
    assert names(tmp_path / "half") == names(tmp_path / "whole")
    assert scores(tmp_path / "half") == scores(tmp_path / "whole") == dict(zip((2, 4, 6, 8), SCORES, strict=True))
    one, other = (safe_load.load_safely(str(tmp_path / run / "iter_8.pth")) for run in ("whole", "half"))
    torch.testing.assert_close(one["state_dict"], other["state_dict"], rtol=0, atol=0)
    assert one["message_hub"]["runtime_info"]["best_score"] == other["message_hub"]["runtime_info"]["best_score"] == 0.9


def test_what_a_killed_process_left_is_swept(tmp_path: Path):
    part = tmp_path / ".part-1-iter_2.pth"
    part.write_bytes(b"half")
    line_runner(tmp_path).train()
    assert not part.exists()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Checkpoints of steps 2, 4 and 6, the last one cut short, and an earlier, longer run's."""
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
    with pytest.raises(ValueError, match=r"no checkpoint at .*/out/run/iter_8.pth, which .*/run/last_checkpoint names"):
        newest(str(tmp_path / "run"))


def test_where_a_run_begins(run: Path, tmp_path_factory: pytest.TempPathFactory):
    chosen, weights, empty = run / "iter_2.pth", run / "iter_4.pth", tmp_path_factory.mktemp("empty")
    torch.save(dict(state_dict={}, meta=dict(iter=2), optimizer={}), chosen)

    def begin(work_dir: Path, go_on: bool, **options: object) -> tuple[str | None, bool]:
        cfg = Config(dict(options, work_dir=str(work_dir), auto_resume=go_on))
        checkpoints.find_start(cfg)
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
    with pytest.raises(ValueError, match=r"needs the checkpoint of a run, and .*iter_4.pth holds only weights"):
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
    with pytest.raises(ValueError, match=r"no checkpoint in .* is complete \(3 tried\): remove them to start anew"):
        newest(str(run))


def test_one_that_would_run_code_is_no_reason_to_take_another(run: Path):
    class Canary:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save(dict(state_dict={}, evil=Canary()), run / "iter_6.pth")
    with pytest.raises(ValueError, match=r"iter_6.pth was refused: it holds posix\.system"):
        newest(str(run))


@pytest.mark.parametrize(
    "kind", ["pictures", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("classes", "volumes"))]
)
def test_kill_test(kind: str, tmp_path: Path):
    command = [sys.executable, "tools/robustness/kill_test.py", "--out", str(tmp_path), "--kills", "1", "--kinds", kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "kills.json").read_text())[kind]
    assert found["kills"] == 1 and found["trainings"] >= 1 and found["differences"] == []


@pytest.mark.parametrize("config", ["vil_upernet_ade20k", "vil_imagenet", "vil-unet3d_40k_btcv"])
def test_the_configs_have_the_hook(config: str):
    assert Config.fromfile(BY_NAME[config]).default_hooks.checkpoint.type == SafeCheckpointHook.__name__
