"""Runs without a validation train, save and report; so do runs whose data sets are wrapped."""

from pathlib import Path

import pytest
from mmengine.config import Config
from page_checks import check_page
from run_command import run_command

from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")


def small(data: Path) -> Config:
    """Returns the sample's config with a small model and two steps."""
    cfg = Config.fromfile(ROOT / "configs/vil_upernet_sample.py")
    cfg.model.backbone.update(dim=32, depth=2, out_indices=(0, 0, 1, 1))
    cfg.model.neck.embed_dim = 32
    cfg.model.decode_head.update(in_channels=[32] * 4, channels=16)
    cfg.model.auxiliary_head.update(in_channels=32, channels=16)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    return cfg


def without_validation(cfg: Config) -> None:
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None


def wrapped(cfg: Config) -> None:
    """Repeats the training pictures; validates and tests on two data sets in one."""
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=cfg.train_dataloader.dataset)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset = dict(type="ConcatDataset", datasets=[loader.dataset] * 2)


@pytest.mark.parametrize("change", [without_validation, wrapped])
def test_pictures(change: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path / "sample", train=4, val=2)
    cfg, config, run = small(tmp_path / "sample"), tmp_path / "config.py", tmp_path / "run"
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
    assert len(list((tmp_path / "out/labels").iterdir())) == 2
