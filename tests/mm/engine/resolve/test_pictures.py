"""Tests that a config of one's own pictures has classes, sizes and split from the folder, and keeps what is set."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from picture_folders import write_folder
from PIL import Image
from refusals import raises_one_line

from vil_dense.mm.engine.resolve.pictures import choose_sizes, resolve_from_checkpoint, resolve_pictures

CONFIG = Path(__file__).parents[4] / "configs/vil_upernet_images.py"


def read(folder: Path, **options: object) -> Config:
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(folder / "work")
    cfg.merge_from_dict(dict(data_root=str(folder / "data")) | options)
    return cfg


def sizes_of(cfg: Config) -> dict[str, object]:
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    return dict(
        crop={tuple(size) for size in (steps["RandomCrop"].crop_size, cfg.model.data_preprocessor.size, cfg.crop_size)},
        grid=tuple(cfg.model.backbone.grid),
        scale={tuple(steps["RandomResize"].scale), tuple(cfg.test_dataloader.dataset.pipeline[1].scale)},
        classes={cfg.model.decode_head.num_classes, cfg.model.auxiliary_head.num_classes, cfg.num_classes},
    )


FOUND = dict(crop={(32, 32)}, grid=(4, 4), scale={(48, 12)}, classes={3})


def test_everything_is_found(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", "flat")
    cfg = read(tmp_path)
    lines = resolve_pictures(cfg)
    assert sizes_of(cfg) == FOUND
    assert "32 x 32 px" in lines[-1] and "2000 steps of 8 crops" in lines[-1]
    splits = json.loads((tmp_path / "work/splits.json").read_text())
    assert [len(splits[split]) for split in ("train", "val")] == [5, 2]
    built = {split: DATASETS.build(cfg[f"{split}_dataloader"].dataset) for split in ("train", "val", "test")}
    assert [len(part) for part in built.values()] == [5, 2, 2]
    assert built["train"].metainfo["label_map"] == {0: 0, 127: 1, 255: 2} == built["test"].metainfo["label_map"]
    assert resolve_pictures(cfg)[0].startswith("data:") and sizes_of(cfg) == FOUND  # again, as for a test


def test_what_is_set_stays(tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    cfg = read(tmp_path, crop_size=(64, 96), **{"model.decode_head.num_classes": 7})
    resolve_pictures(cfg)
    assert sizes_of(cfg) == dict(crop={(64, 96)}, grid=(8, 12), scale={(48, 12)}, classes={3, 7})


@pytest.mark.parametrize(("given", "crop"), [(64, (64, 64)), ([64, 96], (64, 96))])
def test_a_crop_may_be_a_number_or_a_list(given: object, crop: tuple[int, int], tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    cfg = read(tmp_path, crop_size=given)
    resolve_pictures(cfg)
    assert sizes_of(cfg)["crop"] == {crop}
    with raises_one_line(ValueError, "crop_size", "'x'"):
        resolve_pictures(read(tmp_path, crop_size="x"))


def test_options_at_the_top_go_to_all_data_sets(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", "flat")
    cfg = read(tmp_path, split_by="(.)", val_share=0.1, ignore=[127])
    resolve_pictures(cfg)
    assert {split: len(DATASETS.build(cfg[f"{split}_dataloader"].dataset)) for split in ("train", "val")} in (
        dict(train=5, val=2),
        dict(train=2, val=5),
    )
    assert cfg.model.decode_head.num_classes == 2 and cfg.val_dataloader.dataset.ignore == [127]


def test_options_of_a_part_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    with raises_one_line(ValueError, "ignore", "top"):
        resolve_pictures(read(tmp_path, **{"train_dataloader.dataset.ignore": [0]}))


def test_a_run_s_config_keeps_its_classes_with_other_data(tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    cfg = read(tmp_path)
    resolve_pictures(cfg)
    write_folder(tmp_path / "other", "lists", "palette")
    cfg.data_root = str(tmp_path / "other")
    with raises_one_line(ValueError, "hold 1, 2", "config"):
        resolve_pictures(cfg)
    write_folder(tmp_path / "third", "lists")
    cfg.data_root = str(tmp_path / "third")
    resolve_pictures(cfg)
    cfg.test_dataloader.dataset.split = "all"
    assert len(DATASETS.build(cfg.test_dataloader.dataset)) == 7
    assert sizes_of(cfg) == FOUND and "third" in DATASETS.build(cfg.val_dataloader.dataset).data_root


def test_a_resumed_run_keeps_its_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", "flat")
    resolve_pictures(read(tmp_path))
    file = tmp_path / "work/splits.json"
    splits = json.loads(file.read_text())
    file.write_text(json.dumps(dict(train=splits["val"], val=splits["train"])))
    cfg = read(tmp_path, resume=True)
    lines = resolve_pictures(cfg)
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 2 and any(str(file) in line for line in lines)


def test_pictures_that_came_since_change_nothing_of_a_resumed_run(tmp_path: Path) -> None:
    """Adds larger pictures with another class after a run began: crop, scale, classes and pairs stay."""
    write_folder(tmp_path / "data", "flat")
    first = read(tmp_path)
    resolve_pictures(first)
    for index in range(20):
        for name, value in ((f"pictures/new{index}", 90), (f"masks/new{index}_mask", 200)):
            Image.fromarray(np.full((300, 300), value, dtype=np.uint8)).save(tmp_path / "data" / f"{name}.png")
    cfg = read(tmp_path, resume=True)
    lines = resolve_pictures(cfg)
    assert sizes_of(cfg) == sizes_of(first) == FOUND
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 5 and any("20 pairs in no list" in x for x in lines)
    anew = read(tmp_path)
    resolve_pictures(anew)
    assert sizes_of(anew) != FOUND


def test_a_checkpoint_is_enough(tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    cfg = read(tmp_path)
    resolve_pictures(cfg)
    meta = DATASETS.build(cfg.train_dataloader.dataset).metainfo
    fresh = Config.fromfile(CONFIG)
    resolve_from_checkpoint(fresh, meta)
    assert fresh.model.decode_head.num_classes == 3 and tuple(fresh.model.backbone.grid) == (4, 4)
    assert tuple(fresh.test_dataloader.dataset.pipeline[1].scale) == (48, 12)


@pytest.mark.parametrize(
    ("sizes", "patch", "crop", "short"),
    [
        ([(12, 16)] * 3, 8, 32, 12),
        ([(100, 200), (300, 250), (230, 320)], 8, 224, 230),
        ([(3000, 4000)], 8, 256, 512),
        ([(3000, 4000)], 16, 512, 512),
    ],
)
def test_sizes(sizes: list[tuple[int, int]], patch: int, crop: int, short: int) -> None:
    assert choose_sizes(np.array(sizes), patch) == dict(crop_size=(crop, crop), image_scale=(4 * short, short))


def test_a_short_run_validates_and_saves_at_its_end(tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    cfg = read(tmp_path, **{"train_cfg.max_iters": 7})
    resolve_pictures(cfg)
    assert cfg.train_cfg.val_interval == 7 == cfg.default_hooks.checkpoint.interval
