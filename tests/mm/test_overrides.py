"""Tests that overrides change something or are refused, and unknown names come with the nearest known one."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.registry import MODELS
from refusals import assert_one_line

from vil_dense.mm.cli.arguments import read_config, sentence
from vil_dense.mm.models.backbone import ViL

ROOT = Path(__file__).parents[2]


def read(config: str, **options: object) -> object:
    args = SimpleNamespace(config=str(ROOT / config), cfg_options=options, work_dir="w", launcher="none", local_rank=0)
    return read_config(args)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("data_root", "train_dataloader.dataset.data_root"),
        ("crop_size", "model.data_preprocessor.size"),
        ("train_pipeline", "train_dataloader.dataset.pipeline"),
        ("nowhere", "nowhere"),
    ],
)
def test_a_variable_that_is_used_up_is_refused_with_the_places(key: str, place: str) -> None:
    with pytest.raises(ValueError) as error:
        read("configs/vil_upernet_ade20k.py", **{key: "x"})
    assert_one_line(str(error.value), key, place)
    with pytest.raises(ValueError) as error:
        read("configs/vil_unet3d_volumes.py", batch_size=3)  # which its `shared` has, and no variable
    assert_one_line(str(error.value), "batch_size")


def test_what_a_run_reads_is_changed() -> None:
    cfg = read("configs/vil_upernet_ade20k.py", **{"train_cfg.max_iters": 7, "compile": True, "model.backbone.dim": 32})
    assert cfg.train_cfg.max_iters == 7 and cfg.compile and cfg.model.backbone.dim == 32
    for config in ("configs/vil_unet3d_sample.py", "configs/vil_upernet_images.py"):
        assert read(config, data_root="x").data_root == "x"


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(ValueError, match=r"did you mean variant\?"):
        ViL(varient="vil2-tiny")
    with pytest.raises(KeyError) as error:
        MODELS.build(dict(type="mmseg.FocalLos"))
    assert "did you mean FocalLoss?" in sentence(error.value)
