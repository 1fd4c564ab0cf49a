"""Pretrains a volume network without labels: it predicts the voxels of masked cubes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from vil_dense.layers.embed import per_axis
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.networks.nets import build_network, logits_of
from vil_dense.mm.models.masked_pretraining import check_ratio, draw_mask, masked_square_error
from vil_dense.mm.volumes.segmentor import describe_network


@MODELS.register_module()
class MaskedVolumeModel(BaseModel):
    """Masks cubes of patches (B, C, I, J, K) and predicts their voxels with a whole network of segmentation.

    Masked voxels are 0, the mean of a z-scored volume. The network has one output for each channel in the place of the
    classes; all else moves on to a `VolumeSegmentor` by its `init_cfg`. The loss is the mean square error of the masked
    voxels, whose intensities are normalised as the plan says.

    Args:
        plan: mapping or path, see `medical.data.plan_schema`; its labels are not used.
        network: `type`, `ViLUNet3D` or `ViLUNETR3D`, and its options.
        cube_vox: side of a masked cube, voxels; one number or one for each axis.
        mask_ratio: lowest and highest share of masked cubes; each patch draws its own.

    Raises:
        ValueError: another network, or numbers that cannot be.
    """

    def __init__(
        self,
        plan: Mapping[str, Any] | str,
        network: dict[str, Any],
        cube_vox: int | Sequence[int] = 16,
        mask_ratio: Sequence[float] = (0.75, 0.75),
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.plan, self.mask_ratio = read_plan(plan), check_ratio(mask_ratio)
        self.cube_vox = per_axis(cube_vox, 3, "cube_vox")
        if not str(network.get("type")).startswith("ViL"):
            raise ValueError(f"ViLUNet3D and ViLUNETR3D are pretrained without labels, got {network.get('type')!r}")
        options = dict(network, out_channels=len(self.plan["channels"]), deep_supervision=1)
        self.network = build_network(self.plan, **options)
        print_log(describe_network(self.network, self.plan["patch_vox"]), "current")

    def forward(self, image: Tensor, mode: str = "tensor", **_: Any) -> Any:
        """Draws a mask and returns what `mode` names.

        `tensor`: the predicted voxels (B, C, I, J, K). `loss`: dict(loss=mean square error of the masked voxels).
        `predict`: a list with dict(image, masked, reconstructed), each (C, I, J, K), for each patch.
        """
        mask = self.draw_voxels(image)
        masked = image.masked_fill(mask[:, None], 0.0)
        prediction = self.logits(masked)[0]
        if mode == "tensor":
            return prediction
        if mode == "loss":
            return dict(loss=masked_square_error(prediction.movedim(1, -1), image.movedim(1, -1), mask))
        restored = torch.where(mask[:, None], prediction, image)
        rows = zip(image, masked, restored, strict=True)
        return [dict(zip(("image", "masked", "reconstructed"), row, strict=True)) for row in rows]

    def logits(self, image: Tensor) -> list[Tensor]:
        """Returns the predicted voxels of patches (B, C, I, J, K), alone in a list as those of a `VolumeSegmentor`."""
        return logits_of(self.network(image))[:1]

    def draw_voxels(self, image: Tensor) -> Tensor:
        """Draws the masked voxels of patches, (B, I, J, K) bool; cubes at the end of an axis may be cut."""
        size = image.shape[2:]
        grid = [-(-n // side) for n, side in zip(size, self.cube_vox, strict=True)]
        mask = draw_mask(len(image), grid, self.mask_ratio)
        for axis, (side, n) in enumerate(zip(self.cube_vox, size, strict=True), start=1):
            mask = mask.repeat_interleave(side, axis).narrow(axis, 0, n)
        return mask.to(image.device)

    def panels(self, batch: dict) -> list[list[np.ndarray]]:
        """Returns the middle slice of patch, masked patch and reconstruction, (J, I, 3) uint8, for each patch.

        Grey values range from the 1st to the 99th percentile of the slice; the first channel is shown.
        """
        rows = []
        for row in self.val_step(batch):
            slices = [row[key][0, :, :, row[key].shape[-1] // 2].float().cpu().numpy() for key in row]
            low, high = np.percentile(slices[0], (1, 99))
            grey = [np.clip((x - low) / max(high - low, 1e-6), 0, 1) * 255 for x in slices]
            rows.append([np.repeat(x.T[::-1, ::-1, None].astype(np.uint8), 3, axis=2) for x in grey])
        return rows
