"""Trains for a minute on the embedded sample: UperNet if mmseg is installed, else a small head in plain torch."""

import importlib.util
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contestants.case import LeftOut
from benchmarks.contestants.segmentors import build_segmentor
from benchmarks.measure import Result
from benchmarks.session import Session, set_precision
from benchmarks.speed import refused_kernels
from vil_dense.backbones import VisionLSTM

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "configs/vil_upernet_sample.py"
SHAPE: dict[str, Any] = dict(dim=96, depth=8, patch_size=8, grid=(16, 16))
"""The backbone of CONFIG."""
TAPS = (1, 3, 5, 7)
SECONDS, BATCH, SIDE, PICTURES, HELD_OUT = 60, 16, 128, 320, 48
RATE, WARM_UP = 1.5e-3, 20


def scenes() -> ModuleType:
    """Loads the painter of the sample by its file, since its package needs OpenMMLab."""
    spec = importlib.util.spec_from_file_location("scenes", ROOT / "vil_dense/synthetic/scenes.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise LeftOut(f"the sample cannot be painted ({error})") from error
    return module


def paint(count: int, split: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Paints pictures (N, 3, H, W), about in -1 to 1, and labels (N, H, W), 255 for other."""
    painter = scenes()
    pairs = [painter.make_scene(np.random.default_rng([0, split, n]), (SIDE, SIDE)) for n in range(count)]
    images = torch.stack([torch.from_numpy(image) for image, _ in pairs]).to(device)
    labels = torch.stack([torch.from_numpy(label) for _, label in pairs]).to(device).long()
    return (images.movedim(-1, 1).float() - 128) / 64, torch.where(labels == 0, 255, labels - 1)


class SmallHead(nn.Module):
    """Predicts logits (B, classes, H, W) from four maps of the backbone with two convolutions."""

    def __init__(self, classes: int, backend: str) -> None:
        super().__init__()
        self.net = VisionLSTM(**SHAPE, backend=backend)
        dim = SHAPE["dim"]
        self.head = nn.Sequential(
            nn.Conv2d(len(TAPS) * dim, dim, 3, padding=1), nn.GroupNorm(8, dim), nn.ReLU(), nn.Conv2d(dim, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat(self.net.features(x, TAPS), 1)
        return F.interpolate(self.head(maps), x.shape[2:], mode="bilinear")

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self(x).float(), labels, ignore_index=255)


class UperNet(nn.Module):
    """Gives the segmentor of CONFIG the methods of `SmallHead`."""

    def __init__(self, session: Session, backend: str) -> None:
        super().__init__()
        case = session.case("infer", size=SIDE, batch=BATCH, dtype=torch.bfloat16, config=str(CONFIG), whole=True)
        self.model = build_segmentor(case, attention=False, backend=backend)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.model(x, mode="tensor"), x.shape[2:], mode="bilinear")

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]
        return self.model.parse_losses(self.model.loss(x, samples))[0]


def build(session: Session, backend: str, classes: int) -> tuple[str, nn.Module]:
    """Makes UperNet, or without mmseg the small head."""
    torch.manual_seed(0)
    try:
        return "UperNet", UperNet(session, backend)
    except ImportError as error:
        session.say(f"no UperNet ({error}): the backbone is trained with a small head")
        return "small head", SmallHead(classes, backend)


def choose_backend(session: Session) -> str:
    """Chooses Triton's kernels if they run and have passed their checks."""
    on_gpu = session.device.type == "cuda" and importlib.util.find_spec("triton") is not None
    return "triton" if on_gpu and not refused_kernels(session) else "chunkwise"


def learn(session: Session) -> Iterator[Result]:
    """Trains for a minute, or for the remaining time, and measures mIoU on held-out pictures."""
    set_precision(torch.bfloat16)
    classes, backend = scenes().CLASSES, choose_backend(session)
    name, model = build(session, backend, len(classes))
    model.to(session.device).train()
    pictures, labels = paint(4 if session.dry else PICTURES, 0, session.device)
    held_out = paint(2 if session.dry else HELD_OUT, 1, session.device)
    seconds = max(1.0, min(SECONDS, 0.8 * session.left))
    curve, spent = train(model, pictures, labels, seconds, 2 if session.dry else None)
    facts = dict(network=name, backend=backend, seconds=spent, steps=len(curve), batch=min(BATCH, len(pictures)))
    yield facts | dict(loss=curve, **score(model, *held_out, classes))


def train(
    model: nn.Module, pictures: Tensor, labels: Tensor, seconds: float, most: int | None
) -> tuple[list[float], float]:
    """Runs steps of AdamW under bfloat16 autocast for `seconds`, the rate falling with the time; returns the losses.

    The first step, which compiles, is not part of the time.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    draw = torch.Generator().manual_seed(0)
    losses: list[Tensor] = []
    start = time.monotonic()
    while (most is None or len(losses) < most) and (len(losses) < 2 or time.monotonic() - start < seconds):
        if len(losses) == 1:
            start = time.monotonic()
        chosen = torch.randperm(len(pictures), generator=draw)[:BATCH].to(pictures.device)
        x, y = pictures[chosen], labels[chosen]
        if torch.rand((), generator=draw) < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        done = min(1.0, (time.monotonic() - start) / seconds)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (len(losses) + 1) / WARM_UP) * (1 - 0.95 * done)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            loss = model.loss(x, y)  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
        if len(losses) % 10 == 0:  # no more than ten steps wait for the device
            losses[-1].item()
    return [float(loss) for loss in losses], time.monotonic() - start


def score(model: nn.Module, pictures: Tensor, labels: Tensor, classes: Sequence[str]) -> Result:
    """Returns mIoU and the IoU of each class that occurs, in %."""
    model.eval()
    count = len(classes)
    predict = partial(torch.autocast, pictures.device.type, dtype=torch.bfloat16)
    with torch.no_grad(), predict():
        found = torch.cat([model(x).argmax(1) for x in pictures.split(BATCH)])
    valid = labels != 255
    pairs = (labels[valid] * count + found[valid]).bincount(minlength=count**2).view(count, count).double()
    union = pairs.sum(0) + pairs.sum(1) - pairs.diag()
    iou = {name: 100 * float(pairs[n, n] / union[n]) for n, name in enumerate(classes) if union[n] > 0}
    return dict(miou=sum(iou.values()) / len(iou), iou=iou)
