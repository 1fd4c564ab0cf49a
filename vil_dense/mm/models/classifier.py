"""Wraps a `VisionLSTM` or `HierViL` with its head as an image classifier for MMEngine's Runner."""

from typing import Any

import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from vil_dense.backbones import build_classifier
from vil_dense.backbones.checkpoint import load_weights, to_own
from vil_dense.mm.models.pretrained import DEFAULT_DIRECTION, checkpoint_of, naming, read_pretrained

HEAD = ("head.weight", "head.bias")
NORMS = ("post_norm.", "head_norm.")


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Classifies pictures (B, 3, H, W); the loss is the cross-entropy, also with soft targets.

    Args:
        variant: a key of `backbones.VARIANTS`, e.g. `vil-tiny`, or of `backbones.HIERARCHICAL_VARIANTS`.
        num_classes: outputs of the head.
        data_preprocessor: `PicturePreprocessor` or a config of one, to which `num_classes` is added.
        init_cfg: `dict(type="Pretrained", checkpoint=FILE)` loads weights of any layout that `backbones.checkpoint`
            supports, strictly and without running code from the file; a head for another number of classes is not
            loaded. Of a segmentor or a masked pretraining the backbone is loaded; norms and head are then new.
        **options: any option of the variant's network, `VisionLSTM` or `HierViL`; overrides that of the variant.

    Raises:
        ValueError: a variant or option is unknown.
    """

    _is_init: bool  # set by `BaseModule`

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
        self.num_classes = num_classes
        self.direction = options.get("direction", DEFAULT_DIRECTION)
        self.net = build_classifier(variant, num_classes=num_classes, **options)

    def forward(self, inputs: Tensor, labels: Tensor | None = None, mode: str = "tensor", **_: Any) -> Any:
        """Returns what `mode` names.

        `tensor`: logits (B, K). `loss`: dict(loss=mean cross-entropy); labels are class indices (B,) or probabilities
        (B, K). `predict`: a list with dict(scores=probabilities (K,), label=class index or None) for each picture.
        """
        logits = self.net(inputs)
        if mode == "tensor":
            return logits
        logits = logits.double() if inputs.dtype.itemsize == 8 else logits.float()
        if mode == "loss":
            if labels is None:
                raise ValueError("mode='loss' needs labels")
            return dict(loss=F.cross_entropy(logits, labels if labels.ndim == 1 else labels.to(logits.dtype)))
        classes = [None] * len(logits) if labels is None else labels.tolist()
        return [dict(scores=row, label=label) for row, label in zip(logits.softmax(-1), classes, strict=True)]

    def pooled(self, inputs: Tensor) -> Tensor:
        """Returns what the head reads of pictures (B, 3, H, W): pooled and normalised tokens, (B, C)."""
        head, self.net.head = self.net.head, None
        try:
            return self.net(inputs)
        finally:
            self.net.head = head

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`; without one the parameters are left as they were constructed."""
        if self.init_cfg is None or self._is_init:
            return
        path = checkpoint_of(self.init_cfg)
        with naming(path):
            own, kind = read_pretrained(path, self.direction)
        target, note = self.net.state_dict(), ""
        backbone_alone = not any(key.startswith((*NORMS, *HEAD)) for key in own)
        if "head.weight" not in own or own["head.weight"].shape[0] != self.num_classes:
            was = f"of {len(own['head.weight'])} classes" if "head.weight" in own else "none"
            own.update({key: target[key] for key in HEAD})
            note = f", head new for {self.num_classes} classes (was {was})"
        norms = {key: value for key, value in target.items() if key.startswith(NORMS)}
        if norms and backbone_alone:
            own.update(norms)
            note += f", norms before the head new ({len(norms)} tensors)"
        with naming(path):
            report = load_weights(self.net, own)
        print_log(f"{kind} from {path}: {report}{note}", "current")
        self._is_init = True

    def weights_as_ours(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Renames `weights` of any known layout, published or from a run of this package, to this model's names."""
        return {f"net.{key}": value for key, value in to_own(weights, direction=self.direction).items()}
