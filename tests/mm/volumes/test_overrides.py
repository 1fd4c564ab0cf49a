"""Tests that options for the top of a volume config reach all parts but those that have their own."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
from config_files import BY_NAME
from mmengine.config import Config
from volume_plans import small_plan

from vil_dense.mm.cli.arguments import read_config
from vil_dense.mm.engine.resolve.volumes import resolve_plan

PLAN = small_plan("organ", spacing_mm=[1.0, 1.0, 1.0], patch_vox=[16, 16, 16], batch_size=5)
SPLITS = ("train", "val", "test")


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "my_plan.json"
    path.write_text(json.dumps(dict(plan=PLAN)))
    return str(path)


def resolved(name: str | Path, **options) -> Config:
    """Returns the config as a tool with these `--cfg-options` has it."""
    path = BY_NAME.get(name, name)
    cfg = read_config(Namespace(config=str(path), cfg_options=options, work_dir="w", launcher="none", local_rank=0))
    resolve_plan(cfg)
    return cfg


def values(cfg: Config, key: str) -> list:
    return [cfg[f"{split}_dataloader"].dataset[key] for split in SPLITS]


@pytest.mark.parametrize("name", ["vil-unet3d_40k_acdc", "vil-unet3d_2500_hippocampus", "vil_unet3d_volumes"])
def test_one_option_reaches_all_parts(name: str, plan: str) -> None:
    cfg = resolved(name, plan=plan, data_root="/x", datalist="list.json", fold=3, patient="p.")
    expected = dict(plan=PLAN, data_root="/x", datalist="list.json", fold=3, patient="p.")
    for key, value in expected.items():
        assert values(cfg, key) == [value] * 3 and cfg.shared[key] == value, key
    assert [part.plan for part in (cfg.model, cfg.val_evaluator, cfg.test_evaluator)] == [PLAN] * 3


def test_a_part_of_the_plan(tmp_path: Path) -> None:
    """Tests it also in the config that a run leaves in its work folder."""
    cfg = resolved("vil_unet3d_sample", **{"plan.patch_vox": (16, 16, 8)})
    cfg.dump(tmp_path / "run.py")
    again = resolved(tmp_path / "run.py", **{"plan.spacing_mm": (3.0, 3.0, 5.0)})
    for plan in (again.plan, again.model.plan, again.val_evaluator.plan, *values(again, "plan")):
        assert (plan.patch_vox, plan.spacing_mm) == ((16, 16, 8), (3.0, 3.0, 5.0))
        assert plan.labels == cfg.plan.labels


def test_a_part_of_a_plan_in_a_file(plan: str) -> None:
    cfg = resolved("vil_unet3d_volumes", plan=plan, **{"plan.patch_vox": (16, 16, 8), "plan.network.channels": [8, 16]})
    changed = PLAN | dict(patch_vox=(16, 16, 8), network=dict(channels=[8, 16]))
    assert values(cfg, "plan") == [changed] * 3 and cfg.model.plan == changed


def test_a_part_s_own_value_stays(plan: str) -> None:
    own = {"train_dataloader.dataset.data_root": "/mine", "test_dataloader.dataset.fold": 0}
    cfg = resolved("vil-unet3d_40k_spleen", plan=plan, fold=2, **own)
    assert values(cfg, "data_root") == ["/mine", "data/Task09_Spleen", "data/Task09_Spleen"]
    assert values(cfg, "fold") == [2, 2, 0] and values(cfg, "plan") == [PLAN] * 3
    every = {f"{split}_dataloader.dataset.data_root": "/mine" for split in SPLITS}
    assert values(resolved("vil-unet3d_40k_spleen", **every), "data_root") == ["/mine"] * 3


@pytest.mark.parametrize(("own", "batch_size"), [({}, 5), ({"train_dataloader.batch_size": 2}, 2)])
def test_the_batch_size_is_the_plan_s_unless_it_is_asked_for(own: dict, batch_size: int, plan: str) -> None:
    """Tests it also where the config happens to hold the number that is asked for."""
    cfg = resolved("vil_unet3d_volumes", plan=plan, **own)
    assert cfg.train_dataloader.batch_size == batch_size and cfg.val_dataloader.batch_size == 1
    assert resolved("vil-unet3d_40k_btcv", plan=plan).train_dataloader.batch_size == 2, "the config's own"
