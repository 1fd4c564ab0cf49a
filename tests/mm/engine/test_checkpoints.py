"""Tests that checkpoints survive a stop at any moment, and a resumed run ends as the unbroken one."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from config_files import BY_NAME
from line_runs import SCORES, Stop, last_of, line_runner, names, scores
from mmengine.config import Config
from mmengine.runner import Runner
from refusals import raises_one_line

from vil_dense.mm.engine.checkpoints import POINTER, AtomicBackend, SafeCheckpointHook
from vil_dense.mm.utils import safe_load

ROOT = Path(__file__).parents[3]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch):
    """Imitates a disk that takes half of a file, from `start` on."""

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
    with raises_one_line(OSError, path, "No space left"):
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
    with raises_one_line(OSError, "iter_6.pth", "No space left"):
        line_runner(tmp_path, resume=True).train()
    assert names(tmp_path) == kept == {"iter_4.pth", "best_score_iter_4.pth", POINTER}
    assert last_of(tmp_path) == str(tmp_path / "iter_4.pth")


@pytest.mark.parametrize(
    "stop", [Stop(3), Stop(4), Stop(4, "validation"), Stop(6, "validation"), Stop(8, "validation")]
)
def test_a_resumed_run_ends_as_the_unbroken_one(stop: Stop, tmp_path: Path):
    """Tests that a validation that was cut off is made up for: the best checkpoint and all scores are there."""
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "stateful", "extended", "classes", "volumes"])
def test_kill_test(kind: str, tmp_path: Path):
    command = [sys.executable, "tools/robustness/kill_test.py", "--out", str(tmp_path), "--kills", "1", "--kinds", kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "kills.json").read_text())[kind]
    assert found["kills"] == 1 and found["trainings"] >= 1 and found["differences"] == []


@pytest.mark.parametrize("config", ["vil_upernet_ade20k", "vil_imagenet", "vil-unet3d_40k_btcv"])
def test_the_configs_have_the_hook(config: str):
    assert Config.fromfile(BY_NAME[config]).default_hooks.checkpoint.type == SafeCheckpointHook.__name__


@pytest.mark.parametrize(("key", "rule"), [("mBIoU", "greater"), ("cross_entropy", "less"), ("top1", "greater")])
def test_the_best_is_known_of_each_metric_of_ours(key: str, rule: str) -> None:
    assert SafeCheckpointHook(save_best=key).rules == [rule]


def test_weights_of_another_model_are_not_evaluated(tmp_path: Path) -> None:
    """Tests plain MMEngine, which would leave out what does not fit: it may begin a training, but no validation."""
    line_runner(tmp_path).train()
    content = torch.load(tmp_path / "iter_8.pth", weights_only=False)
    content["state_dict"]["norm.weight"] = torch.ones(2)
    torch.save(content, tmp_path / "other.pth")
    of_ddp = {f"module.{key}": value for key, value in content["state_dict"].items() if key != "norm.weight"}
    torch.save(content | dict(state_dict=of_ddp), tmp_path / "of_ddp.pth")
    for name, fits in (("iter_8.pth", True), ("of_ddp.pth", True), ("other.pth", False)):
        validating, training = (line_runner(tmp_path / f"{name}-{part}") for part in ("val", "train"))
        validating._load_from = training._load_from = str(tmp_path / name)
        if fits:
            validating.val()
        else:
            with raises_one_line(ValueError, "0 are missing", "1 are left", "norm.weight", "work folder"):
                validating.val()
        training.train()
