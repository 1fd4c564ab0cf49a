"""A `VisionLSTM` with its head as an image classifier for MMEngine's Runner."""

from typing import Any

import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from vil_dense.backbones import VisionLSTM
from vil_dense.backbones import variant as variant_options
from vil_dense.backbones.checkpoint import load_weights, to_own
from vil_dense.mm.models.pretrained import naming, read_pretrained

HEAD = ("head.weight", "head.bias")


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Pictures (B, 3, H, W) to class logits; cross-entropy with soft targets.

    Args:
        variant: a key of `backbones.VARIANTS`, e.g. `vil-tiny`.
        num_classes: width of the head.
        data_preprocessor: `PicturePreprocessor` or a config of one, which gets `num_classes`.
        init_cfg: `dict(type="Pretrained", checkpoint=FILE)` loads weights of any layout that `backbones.checkpoint`
            knows, strictly and without running code from the file; a head for another number of classes is left new.
        **options: any option of `VisionLSTM`, in place of the variant's.

    Raises:
        ValueError: an unknown variant or option.
    """

    def __init__(
        self,
        variant: str = "vil-tiny",
        *,
        num_classes: int = 1000,
        data_preprocessor: Any = None,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = dict(data_preprocessor, num_classes=num_classes)
        super().__init__(data_preprocessor, init_cfg)
        options = {**variant_options(variant), **options}
        self.num_classes = num_classes
        self.direction = options.get("direction", "bi-alternating")
        self.net = VisionLSTM(num_classes=num_classes, **options)

    def forward(self, inputs: Tensor, labels: Tensor | None = None, mode: str = "tensor", **_: Any) -> Any:
        """By `mode`, `tensor`: logits (B, K). `loss`: dict(loss=mean cross-entropy); labels are class indices (B,) or
        shares (B, K). `predict`: for each picture dict(scores=probabilities (K,), label=class index or None)."""
        logits = self.net(inputs)
        if mode == "tensor":
            return logits
        logits = logits.double() if inputs.dtype.itemsize == 8 else logits.float()
        if mode == "loss":
            return dict(loss=F.cross_entropy(logits, labels if labels.ndim == 1 else labels.to(logits.dtype)))
        classes = [None] * len(logits) if labels is None else labels.tolist()
        return [dict(scores=row, label=label) for row, label in zip(logits.softmax(-1), classes, strict=True)]

    def init_weights(self) -> None:
        """Loads `init_cfg`'s checkpoint; without one the parameters keep their initialisation from construction."""
        if self.init_cfg is None or self._is_init:
            return
        if not isinstance(self.init_cfg, dict) or set(self.init_cfg) != {"type", "checkpoint"}:
            raise ValueError(
                f"ImageClassifier takes init_cfg=dict(type='Pretrained', checkpoint=FILE), got {self.init_cfg}"
            )
        path = str(self.init_cfg["checkpoint"])
        with naming(path):
            own, kind = read_pretrained(path, self.direction)
        target, note = self.net.state_dict(), ""
        if "head.weight" not in own or own["head.weight"].shape[0] != self.num_classes:
            was = f"of {len(own['head.weight'])} classes" if "head.weight" in own else "none"
            own.update({key: target[key] for key in HEAD})
            note = f", head new for {self.num_classes} classes (was {was})"
        with naming(path):
            report = load_weights(self.net, own)
        print_log(f"{kind} from {path}: {report}{note}", "current")
        self._is_init = True

    def weights_as_ours(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """`weights` of any layout under this model's names, e.g. of a published checkpoint, or of a run of ours."""
        return {f"net.{key}": value for key, value in to_own(weights, direction=self.direction).items()}
