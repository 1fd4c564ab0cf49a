"""Defines named test protocols and describes them; numbers of different protocols cannot be compared.

Published numbers on ADE20K use three of them: mmseg's (short side 512, windows of 512 every 341), that of the official
ViL code (every picture squashed to 512 x 512, one window) and multi-scale with flips.
"""

from collections.abc import Sequence

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from vil_dense.mm.datasets.wrappers import config_parts
from vil_dense.mm.utils.heads import last_head

SCALES = (0.75, 1.0, 1.25, 1.5, 1.75)
"""Factors on the size of the picture in the multi-scale test, as in the ViL paper."""


def _mmseg(cfg: Config) -> None:
    size = cfg.model.data_preprocessor.size[0]
    _resize(cfg, scale=(4 * size, size), keep_ratio=True)
    cfg.model.test_cfg = dict(mode="slide", crop_size=(size, size), stride=(2 * size // 3, 2 * size // 3))


def _squash(cfg: Config) -> None:
    height, width = cfg.model.data_preprocessor.size
    _resize(cfg, scale=(width, height), keep_ratio=False, interpolation="bicubic")
    cfg.model.test_cfg = dict(mode="whole")


def _multiscale(cfg: Config) -> None:
    """Averages probabilities over scales and flips as mmseg does; the authors sum logits and pad small windows."""
    bicubic = dict(type="Resize", keep_ratio=True, interpolation="bicubic")
    scaled = [dict(bicubic, scale_factor=factor) for factor in SCALES]
    flipped = [dict(type="RandomFlip", prob=prob, direction="horizontal") for prob in (0.0, 1.0)]
    for dataset in config_parts(cfg.test_dataloader.dataset):
        load, *rest = _without_resize(dataset)
        augmented = dict(type="TestTimeAug", transforms=[scaled, flipped, *([step] for step in rest)])
        dataset.pipeline = [load, augmented]
    cfg.model = dict(type="MeanTTAModel", module=cfg.model)


PROTOCOLS = {"mmseg": _mmseg, "squash": _squash, "multiscale": _multiscale}
"""Functions that change a config in place. Sizes follow the training crop, 512 px on ADE20K."""


@MODELS.register_module()
class MeanTTAModel(BaseTTAModel):
    """Predicts the class with the highest mean probability over the views of a picture, as mmseg's SegTTAModel does.

    With one logit that is the mean of sigmoids, compared with the threshold of the head. Probabilities are added up
    view by view; mmseg stores the logits of every view, up to 11 GB on ADE20K.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        views = list(zip(data["inputs"], data["data_samples"], strict=True))
        pictures = range(len(data["data_samples"][0]))
        return [self._merge_views([(inputs[n], samples[n]) for inputs, samples in views]) for n in pictures]

    def _merge_views(self, views: Sequence[tuple[Tensor, SegDataSample]]) -> SegDataSample:
        """Returns the sample of a picture with the prediction of all its views; one logit is that of class 1 of two."""
        total = torch.zeros(())  # can be added to maps on any device
        for inputs, sample in views:
            (sample,) = self.module.test_step(dict(inputs=[inputs], data_samples=[sample]))
            logits = sample.seg_logits.data
            total = total + (logits.sigmoid() if len(logits) == 1 else logits.softmax(0))
            del sample.seg_logits
        if len(total) == 1:
            label = (total / len(views) > last_head(self.module.decode_head).threshold).long()
        else:
            label = total.argmax(0, keepdim=True)
        sample.set_data(dict(pred_sem_seg=PixelData(data=label)))
        return sample

    def merge_preds(self, data_samples_list: list) -> list:
        """Returns the samples unchanged: `test_step` has merged the views already."""
        return data_samples_list


def _without_resize(dataset: ConfigDict) -> list:
    return [step for step in dataset.pipeline if step.type != "Resize"]


def _resize(cfg: Config, **how: object) -> None:
    for dataset in config_parts(cfg.test_dataloader.dataset):
        load, *rest = _without_resize(dataset)
        dataset.pipeline = [load, dict(type="Resize", **how), *rest]


def describe(cfg: Config, split: str) -> str:
    """Describes the protocol of `split` (val or test), read from the pipeline and the model of the config."""
    steps = next(config_parts(cfg[f"{split}_dataloader"].dataset)).pipeline
    model = cfg.model.get("module", cfg.model)
    inference = model.test_cfg
    windows = "whole picture"
    if inference.mode == "slide":
        windows = f"windows of {inference.crop_size[0]} every {inference.stride[0]}"
    return f"{_scale(steps)}, {windows}"


def _scale(steps: list) -> str:
    for step in steps:
        if step.type == "Resize" and step.get("scale") is None:
            return f"{step.scale_factor} times the own size"
        if step.type == "Resize":
            width, height = (step.scale, step.scale) if isinstance(step.scale, int) else step.scale
            return f"short side {min(height, width)}" if step.get("keep_ratio") else f"squashed to {height} x {width}"
        if step.type == "TestTimeAug":
            options = [option for row in step.transforms for option in row]
            resizes = [option for option in options if option.type == "Resize"]
            scales = [option.scale_factor for option in resizes if option.get("scale_factor")]
            flips = " with flips" if any(option.type == "RandomFlip" for option in options) else ""
            if not scales or len(scales) < len(resizes):
                return f"{len(resizes)} sizes{flips}" if resizes else f"own size{flips}"
            return f"{min(scales)} to {max(scales)} times the own size{flips}"
    return "own size"
