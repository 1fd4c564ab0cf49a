"""Runs without a validation train, save and report; so do runs whose data sets are wrapped."""

from pathlib import Path

import pytest
from mmengine.config import Config
from page_checks import check_page
from run_command import run_command
from small_runs import write_config


def without_validation(cfg: Config) -> None:
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None


def wrapped(cfg: Config) -> None:
    """Repeats the training pictures; validates and tests on two data sets in one."""
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=cfg.train_dataloader.dataset)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset = dict(type="ConcatDataset", datasets=[loader.dataset] * 2)


@pytest.mark.parametrize("change", [without_validation, wrapped])
def test_pictures(change: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = write_config(tmp_path), tmp_path / "run"
    cfg = Config.fromfile(config)
    cfg.train_dataloader.dataset.pipeline[3].crop_size = (64, 64)
    change(cfg)
    cfg.dump(config)
    assert run_command(f"train {config} --work-dir {run}", monkeypatch) == 0
    assert (run / "iter_2.pth").is_file() and (run / "pictures/curves.png").is_file()
    page = check_page(run / "report.html")
    assert ("this run did not validate" in page.text) == (change is without_validation)
    more = "--resume --cfg-options train_cfg.max_iters=4"
    assert run_command(f"train {config} --work-dir {run} {more}", monkeypatch) == 0
    assert run_command(f"test {config} {run}/iter_4.pth --work-dir {tmp_path}/test", monkeypatch) == 0
    pictures = tmp_path / "sample/images/validation"
    assert run_command(f"predict {config} {run}/iter_4.pth {pictures} --out {tmp_path}/out", monkeypatch) == 0
    assert len(list((tmp_path / "out/labels").iterdir())) == 1
