"""Runs an exported segmentor by onnxruntime in the place of mmseg's segmentor; no network of torch is built."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from vil_dense.mm.publish.onnx_file import INPUT, LOGITS
from vil_dense.mm.publish.trained_model import TrainedModel


def open_session(graph: bytes, name: str) -> Any:
    """Returns an onnxruntime session on the CPU with as many threads as torch has.

    Raises:
        ImportError: `onnxruntime` is not installed.
        ValueError: onnxruntime refuses the file `name`.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"running {name} needs onnxruntime: pip install 'vil_dense[onnx]' ({error})") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each status
        raise ValueError(f"{name} was refused by onnxruntime: {' '.join(str(error).split())[:300]}") from None


class _Head:
    """Stores what the inference reads of a decode head."""

    def __init__(self, head: ConfigDict, outputs: int) -> None:
        self.num_classes: int = head.num_classes
        threshold = head.get("threshold")
        self.threshold: float | None = 0.3 if outputs == 1 and threshold is None else threshold  # mmseg's default


class OnnxNetwork:
    """Gives the logits of windows, with the attributes of `EncoderDecoder` that the inference reads.

    Args:
        trained: its `graph` maps windows (B, C, H, W), float32, to logits (B, K, H, W).
        cfg: the model of its config: data preprocessor, windows of the test, head.

    Raises:
        ValueError: onnxruntime refuses the graph, or its logits are of another number of classes.
    """

    backbone = None

    def __init__(self, trained: TrainedModel, cfg: ConfigDict) -> None:
        self.name = trained.name
        self.session = open_session(trained.graph, trained.name)
        outputs = self.session.get_outputs()[0].shape[1]
        expected = cfg.decode_head.get("out_channels") or cfg.decode_head.num_classes
        if outputs != expected:
            raise ValueError(f"{trained.name} gives {outputs} logits for each pixel, and its head has {expected}")
        self.decode_head = _Head(cfg.decode_head, outputs)
        self.align_corners: bool = cfg.decode_head.get("align_corners", False)
        self.test_cfg = cfg.get("test_cfg") or ConfigDict(mode="whole")
        self.data_preprocessor: nn.Module = MODELS.build(cfg.data_preprocessor)

    def encode_decode(self, inputs: Tensor, batch_img_metas: Sequence[dict]) -> Tensor:
        """Returns the logits (B, K, H, W) of windows (B, C, H, W); the second argument is that of mmseg.

        Raises:
            ValueError: onnxruntime cannot run the graph on windows of this size, or returns another shape.
        """
        shape = tuple(inputs.shape)
        try:
            (logits,) = self.session.run([LOGITS], {INPUT: inputs.numpy()})
        except Exception as error:  # onnxruntime has a class of its own for each status
            why = " ".join(str(error).split())[:300]
            raise ValueError(f"{self.name} does not run on windows of shape {shape}: {why}") from None
        if logits.shape != (len(inputs), self.session.get_outputs()[0].shape[1], *shape[2:]):
            raise ValueError(f"{self.name} gives logits of shape {logits.shape} for windows of shape {shape}")
        return torch.from_numpy(logits)
