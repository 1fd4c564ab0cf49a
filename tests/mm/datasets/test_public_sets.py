"""Tests public data sets: every config reads a made copy of its layout, and missing files are told in one sentence."""

from pathlib import Path

import numpy as np
import pytest
from config_files import BY_NAME
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image
from refusals import raises_one_line

NAMES = {
    "80k_cityscapes-512x1024": ("{img}/town/a_leftImg8bit.png", "{seg}/town/a_gtFine_labelTrainIds.png", 0),
    "160k_coco-stuff164k-512x512": ("{img}/a.jpg", "{seg}/a_labelTrainIds.png", 0),
    "80k_pascal-context-480x480": ("{img}/a.jpg", "{seg}/a.png", 0),
    "20k_voc2012-512x512": ("{img}/a.jpg", "{seg}/a.png", 0),
    "80k_loveda-512x512": ("{img}/a.png", "{seg}/a.png", 1),
    "80k_potsdam-512x512": ("{img}/a.png", "{seg}/a.png", 1),
    "80k_vaihingen-512x512": ("{img}/a.png", "{seg}/a.png", 1),
}
"""Files of a picture and its label by the end of a config's name, and the id of the first class."""


def dataset_of(name: str, root: Path) -> dict:
    (path,) = (path for stem, path in BY_NAME.items() if stem.startswith("vil2-t_") and stem.endswith(name))
    cfg = Config.fromfile(path)
    dataset = cfg.val_dataloader.dataset
    dataset.update(data_root=str(root), serialize_data=False)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes
    assert cfg.model.decode_head.num_classes == len(DATASETS.get(dataset.type).METAINFO["classes"])
    return dataset


@pytest.mark.parametrize("name", NAMES)
def test_a_made_copy_is_read(name: str, tmp_path: Path) -> None:
    config, (picture, label, first) = dataset_of(name, tmp_path), NAMES[name]
    with raises_one_line(FileNotFoundError, config["type"], tmp_path / "gone"):
        DATASETS.build({**config, "data_root": str(tmp_path / "gone")})
    folders = dict(img=config["data_prefix"]["img_path"], seg=config["data_prefix"]["seg_map_path"])
    files = [tmp_path / part.format(**folders) for part in (picture, label)]
    for file in files:
        file.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save(files[0])
    Image.fromarray(np.array([first, first + 3, 255, 255], np.uint8).repeat(128).reshape(16, 32)).save(files[1])
    if "ann_file" in config:
        (tmp_path / config["ann_file"]).parent.mkdir(parents=True)
        (tmp_path / config["ann_file"]).write_text("a\n")
    sample = DATASETS.build(config)[0]["data_samples"].gt_sem_seg.data
    assert np.unique(sample).tolist() == [0, 3, 255]
    files[1].unlink()
    with raises_one_line(FileNotFoundError, files[1]):
        DATASETS.build(config)
