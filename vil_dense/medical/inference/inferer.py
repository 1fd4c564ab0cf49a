"""Wraps `volume_predictor.predict` as an inferer for MONAI's engines."""

from collections.abc import Callable
from typing import Any, cast

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn

from vil_dense.medical.data.plan_schema import Plan, read_plan
from vil_dense.medical.inference.volume_predictor import predict
from vil_dense.medical.inference.volume_windows import SlidingWindow


class VolumeInferer(Inferer):
    """Segments volumes on the grid of their files; replaces MONAI's `SlidingWindowInferer` followed by `Invertd`.

    Those store the scores of all classes for the whole volume on both grids, and their masks of oblique volumes differ
    from those of `predict`.

    Args:
        plan: mapping or path, see `plan_schema`.
        overlap: of neighbouring windows, in [0, 1).
        window_batch: windows at a time.
    """

    def __init__(self, plan: Plan | str, overlap: float = 0.5, window_batch: int = 1) -> None:
        super().__init__()
        self.plan = read_plan(plan)
        self.windows = SlidingWindow.of(self.plan, overlap, window_batch)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> MetaTensor:
        """Returns classes (B, 1, I, J, K) uint8 with the meta data of `inputs`.

        Args:
            inputs: MetaTensor (B, C, I, J, K) as `transforms.LoadCased` reads it, on the grid of the file. Its affine
                is that of each case (B, 4, 4) or, as MONAI Label adds the axis of the batch by hand, of all (4, 4).
            network: in eval mode on the device of `inputs`.
        """
        # MONAI types any tensor and any callable here
        cases, model = cast(MetaTensor, inputs), cast(nn.Module, network)
        affines = cases.affine.cpu().reshape(-1, 4, 4).expand(len(cases), 4, 4)
        masks = [
            predict([model], image.cpu().numpy(), affine.numpy(), self.plan, self.windows, device=cases.device)
            for image, affine in zip(cases.as_tensor(), affines, strict=True)
        ]
        classes = torch.stack([torch.from_numpy(mask)[None] for mask in masks]).to(cases.device)
        found = MetaTensor(classes, meta=cases.meta)
        found.is_batch = cases.is_batch
        return found
