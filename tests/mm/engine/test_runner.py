"""Tests `ViLRunner` as other people's launchers use it: mmsegmentation's own tools, its APIs, and a notebook."""

import json
import logging
import signal
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from forget_runs import forget_runs
from mmengine.config import Config
from mmengine.fileio.handlers import file_handlers
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader
from PIL import Image
from run_command import run_command, run_script

from vil_dense.mm.engine.runner import ViLRunner
from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[3]
MMSEG_TOOLS = Path(mmseg.__file__).parent / ".mim/tools"
CONFIG = """
_base_ = "{root}/configs/vil_upernet_sample.py"
data_root = "{data}"
model = dict(backbone=dict(dim=32, depth=4, out_indices=(0, 1, 2, 3)), neck=dict(embed_dim=32))
model["decode_head"] = dict(in_channels=[32] * 4, channels=16)
model["auxiliary_head"] = dict(in_channels=32, channels=16)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root=data_root))
train_dataloader["persistent_workers"] = False
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=8, val_interval=8)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=8))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runner")
    write_sample(folder / "sample", train=8, val=3)
    (folder / "config.py").write_text(CONFIG.format(root=ROOT, data=folder / "sample"))
    return folder / "config.py"


@pytest.fixture(scope="module")
def trained(config: Path) -> Path:
    """Returns the work folder of a training by our own command."""
    folder = config.parent / "ours"
    forget_runs()
    with pytest.MonkeyPatch.context() as patch:
        assert run_command(f"train {config} --work-dir {folder}", patch) == 0
    return folder


def mmseg_command(tool: str, *arguments: object) -> None:
    """Runs one of mmsegmentation's own tools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")  # the tools set it
        assert run_script(str(MMSEG_TOOLS / tool), list(map(str, arguments)), patch) == 0


def scalars(work_dir: Path, key: str) -> list[float]:
    rows = next(work_dir.glob("*/vis_data/scalars.json")).read_text().splitlines()
    return [row[key] for row in map(json.loads, rows) if key in row]


def test_mmseg_trains_and_tests_as_our_commands_do(config: Path, trained: Path) -> None:
    mmseg_command("train.py", config, "--work-dir", config.parent / "theirs")
    ours, theirs = (scalars(folder, "loss") for folder in (trained, config.parent / "theirs"))
    assert len(ours) == 8 and ours == theirs
    mmseg_command("test.py", config, trained / "iter_8.pth", "--work-dir", config.parent / "test")
    tested = json.loads(next((config.parent / "test").glob("*/*.json")).read_text())
    found = [scalars(folder, "mIoU")[-1] for folder in (trained, config.parent / "theirs")]
    assert found == pytest.approx([tested["mIoU"]] * 2, abs=0.1)


@pytest.mark.filterwarnings("ignore:Failed to add <class 'mmengine.visualization")  # by MMSegInferencer, of each config
def test_mmseg_s_apis_give_the_class_map_of_predict(
    config: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    images = sorted(map(str, (config.parent / "sample/images/validation").iterdir()))
    checkpoint = str(trained / "iter_8.pth")
    model = init_model(str(config), checkpoint, device="cpu")
    by_model = [inference_model(model, image).pred_sem_seg.data[0].numpy() for image in images]
    by_inferencer = MMSegInferencer(str(config), checkpoint, device="cpu")(images)["predictions"]
    assert run_command(f"predict {config} {checkpoint} {' '.join(images)} --out {tmp_path}", monkeypatch) == 0
    for image, one, two in zip(images, by_model, by_inferencer, strict=True):
        ours = np.asarray(Image.open(tmp_path / "labels" / f"{Path(image).stem}.png")).astype(int) - 1
        assert len(np.unique(ours)) > 1
        np.testing.assert_array_equal(one, ours)
        np.testing.assert_array_equal(two, ours)


def test_a_run_in_a_notebook_leaves_the_process_as_it_was(config: Path, tmp_path: Path) -> None:
    def state() -> tuple:
        return (
            signal.getsignal(signal.SIGTERM),
            dict(CheckpointLoader._schemes),
            dict(file_handlers),
            torch.get_float32_matmul_precision(),
            torch._dynamo.config.recompile_limit,
            logging.Handler.handleError,
            sys.excepthook,
        )

    forget_runs()
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.train_cfg.max_iters = str(tmp_path), 2
    before = state()
    runner = RUNNERS.build(cfg)
    assert isinstance(runner, ViLRunner)
    runner.train()
    assert state() == before
    assert (tmp_path / "iter_2.pth").is_file()


def test_a_checkpoint_is_read_once(
    config: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda file, *args, **options: reads.append(str(file)) or load(file, *args, **options)
    )
    forget_runs()
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.train_cfg.max_iters = str(tmp_path), 10
    cfg.load_from, cfg.resume = str(trained / "iter_8.pth"), True
    runner = ViLRunner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 10 and reads == [cfg.load_from]
