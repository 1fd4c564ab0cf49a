"""Tests that every protocol says what it does, and puts logits where the picture is."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from vil_dense.mm.evaluation.protocols import PROTOCOLS, describe

ROOT = Path(__file__).parents[3]


@MODELS.register_module()
class StepBackbone(BaseModule):
    """Returns the picture's mean intensity in cells of 4 px, padded to whole patches of 16 px as ViL pads."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        height, width = x.shape[2:]
        x = F.pad(x.mean(1, keepdim=True), (0, -width % 16, 0, -height % 16))
        return (F.avg_pool2d(x, 4),)


@MODELS.register_module()
class StepHead(BaseDecodeHead):
    """Predicts class 1 where the picture is bright, else 0; never 2 (mmseg warns of heads with two classes)."""

    def forward(self, inputs: tuple[Tensor]) -> Tensor:
        return torch.cat([-inputs[0], inputs[0], torch.full_like(inputs[0], -1e3)], 1)


def stub(size: int) -> Config:
    """Returns CamVid's config with a stub for a model, trained at `size` px."""
    cfg = Config.fromfile(ROOT / "configs/camvid/vil2-t_upernet_1xb4-1200_camvid-256x256.py")
    cfg.model.backbone = dict(type="StepBackbone")
    cfg.model.neck = cfg.model.auxiliary_head = None
    loss = cfg.model.decode_head.loss_decode
    cfg.model.decode_head = dict(type="StepHead", in_channels=1, channels=1, num_classes=3, loss_decode=loss)
    cfg.model.data_preprocessor.update(size=(size, size), mean=[128.0] * 3, std=[1.0] * 3)
    return cfg


def predict(cfg: Config, image: np.ndarray) -> np.ndarray:
    """Returns the label map of a picture under the config's test pipeline."""
    return predict_batch(cfg, [image])[0]


def predict_batch(cfg: Config, images: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the label maps of a batch of pictures under the config's test pipeline."""
    steps = [dict(type="LoadImageFromNDArray"), *cfg.test_dataloader.dataset.pipeline[1:]]
    for step in steps:
        if step["type"] == "TestTimeAug":
            step.transforms = [row for row in step.transforms if row[0].type != "LoadAnnotations"]
    pipeline = Compose([step for step in steps if step["type"] != "LoadAnnotations"])
    data = pseudo_collate([pipeline(dict(img=image, img_path="x.png")) for image in images])
    samples = MODELS.build(cfg.model).eval().test_step(data)
    return [np.atleast_2d(sample.pred_sem_seg.data.squeeze().numpy()) for sample in samples]


@pytest.mark.parametrize("protocol", [None, *PROTOCOLS])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(33, 47), (64, 64), (50, 131)])
def test_an_edge_stays_where_it_is(protocol: str | None, axis: int, shape: tuple[int, int]):
    edge = shape[axis] * 5 // 8
    image = np.zeros((*shape, 3), dtype=np.uint8)
    (image if axis == 0 else image.swapaxes(0, 1))[edge:] = 255
    cfg = stub(size=64)
    if protocol:
        PROTOCOLS[protocol](cfg)
    label = predict(cfg, image)
    assert label.shape == shape
    found = np.argmax(label, axis=axis)
    assert np.abs(found - edge).max() <= 2


@MODELS.register_module()
class OneLogitHead(StepHead):
    """Predicts one logit: class 1 where the picture is bright, with a probability of 1/2 in its dark pixels."""

    def forward(self, inputs: tuple[Tensor]) -> Tensor:
        return inputs[0].clamp(min=0)


def test_views_of_one_logit_and_of_several_pictures():
    """Tests that the mean of sigmoids is compared with the threshold, in each of two pictures of other sizes."""
    cfg = stub(size=64)
    cfg.model.decode_head.update(type="OneLogitHead", num_classes=2, out_channels=1, threshold=0.7)
    PROTOCOLS["multiscale"](cfg)
    images = [np.zeros((64, 64, 3), np.uint8), np.zeros((40, 96, 3), np.uint8)]
    for image in images:
        image[:, 32:] = 255
    for image, label in zip(images, predict_batch(cfg, images), strict=True):
        assert label.shape == image.shape[:2] and set(np.unique(label)) == {0, 1}
        assert np.abs(label.argmax(1) - 32).max() <= 2


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("mmseg", "short side 512, windows of 512 every 341"),
        ("squash", "squashed to 512 x 512, whole picture"),
        ("multiscale", "0.75 to 1.75 times the own size with flips, windows of 512 every 341"),
    ],
)
def test_words(protocol: str, words: str):
    cfg = Config.fromfile(ROOT / "configs/vil_upernet_ade20k.py")
    PROTOCOLS[protocol](cfg)
    assert describe(cfg, "test") == words


def test_mmseg_is_what_the_ade20k_config_says():
    cfg = Config.fromfile(ROOT / "configs/vil_upernet_ade20k.py")
    before = cfg.test_dataloader.to_dict(), cfg.model.test_cfg.to_dict()
    PROTOCOLS["mmseg"](cfg)
    assert (cfg.test_dataloader.to_dict(), cfg.model.test_cfg.to_dict()) == before


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([dict(type="Resize", scale=(64, 32)), dict(type="Resize", scale=(96, 48))], "2 sizes with flips"),
        ([dict(type="Resize", scale_factor=0.5)], "0.5 to 0.5 times the own size with flips"),
        ([], "own size with flips"),
    ],
)
def test_augmentation_of_one_s_own_is_described(sizes: list[dict], words: str) -> None:
    views = dict(type="TestTimeAug", transforms=[[dict(type="RandomFlip", prob=1.0)], sizes])
    dataset = dict(type="BaseSegDataset", pipeline=[dict(type="LoadImageFromFile"), views])
    cfg = Config(dict(model=dict(test_cfg=dict(mode="whole")), test_dataloader=dict(dataset=dataset)))
    assert describe(cfg, "test") == f"{words}, whole picture"
