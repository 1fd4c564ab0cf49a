"""Trains for a minute on the synthetic sample: the backbone of its config with a small head, in plain torch."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.backbones import VisionLSTM
from vil_dense.synthetic.scenes import CLASSES, make_scene

SHAPE: dict[str, Any] = dict(dim=96, depth=8, patch_size=8, grid=(16, 16))
"""The backbone of configs/vil_upernet_sample.py."""
TAPS = (1, 3, 5, 7)
BATCH, SIDE, PICTURES, HELD_OUT = 16, 128, 320, 48
RATE, WARM_UP = 1.5e-3, 20
IGNORED = 255


def paint(count: int, split: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Paints pictures (N, 3, H, W), about in -1 to 1, and labels (N, H, W), 255 for other."""
    pairs = [make_scene(np.random.default_rng([0, split, n]), (SIDE, SIDE)) for n in range(count)]
    images, labels = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*pairs, strict=True))
    return (images.movedim(-1, 1).float() - 128) / 64, torch.where(labels == 0, IGNORED, labels.long() - 1)


class SmallHead(nn.Module):
    """Predicts logits (B, classes, H, W) from four maps of the backbone with two convolutions."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.net = VisionLSTM(**SHAPE, backend=backend)
        dim = SHAPE["dim"]
        self.head = nn.Sequential(
            nn.Conv2d(len(TAPS) * dim, dim, 3, padding=1),
            nn.GroupNorm(8, dim),
            nn.ReLU(),
            nn.Conv2d(dim, len(CLASSES), 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat(self.net.features(x, TAPS), 1)
        return F.interpolate(self.head(maps), x.shape[2:], mode="bilinear")


def learn(backend: str, device: torch.device, dtype: torch.dtype, seconds: float, most: int | None) -> dict[str, Any]:
    """Trains for `seconds` or `most` steps; returns the losses and the mIoU on held-out pictures."""
    torch.manual_seed(0)
    model = SmallHead(backend).to(device).train()
    toy = most is not None
    pictures, labels = paint(4 if toy else PICTURES, 0, device)
    losses, spent = train(model, pictures, labels, dtype, seconds, most)
    facts = dict(backend=backend, seconds=spent, steps=len(losses), batch=min(BATCH, len(pictures)), loss=losses)
    return facts | score(model, *paint(2 if toy else HELD_OUT, 1, device), dtype, CLASSES)


def train(
    model: nn.Module, pictures: Tensor, labels: Tensor, dtype: torch.dtype, seconds: float, most: int | None
) -> tuple[list[float], float]:
    """Runs steps of AdamW under autocast, the rate falling with the time; returns the losses and the seconds.

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
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
        if len(losses) % 10 == 0:  # no more than ten steps wait for the device
            losses[-1].item()
    return [float(loss) for loss in losses], time.monotonic() - start


def score(
    model: nn.Module, pictures: Tensor, labels: Tensor, dtype: torch.dtype, classes: Sequence[str]
) -> dict[str, Any]:
    """Returns mIoU and the IoU of each class that occurs, in %."""
    model.eval()
    count = len(classes)
    with torch.no_grad(), torch.autocast(pictures.device.type, dtype=dtype, enabled=dtype != torch.float32):
        found = torch.cat([model(x).argmax(1) for x in pictures.split(BATCH)])
    valid = labels != IGNORED
    pairs = (labels[valid] * count + found[valid]).bincount(minlength=count**2).view(count, count).double()
    union = pairs.sum(0) + pairs.sum(1) - pairs.diag()
    iou = {name: 100 * float(pairs[n, n] / union[n]) for n, name in enumerate(classes) if union[n] > 0}
    return dict(miou=sum(iou.values()) / len(iou), iou=iou)
