"""Reads an exported `.onnx` segmentor and runs it by onnxruntime; refuses what could reach for other files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from vil_dense.files import check_regular
from vil_dense.mm.publish.published import KEY, from_content, parse
from vil_dense.mm.publish.trained_model import TrainedModel
from vil_dense.mm.utils.heads import last_head

if TYPE_CHECKING:
    import onnx

INPUT, LOGITS, CLASSES = "inputs", "logits", "classes"
"""Names of the input and of the two possible outputs of an exported segmentor."""


def read_onnx(path: Path) -> TrainedModel:
    """Reads an `.onnx` file that `tools/export_onnx.py` wrote; no code of it runs.

    Raises:
        FileNotFoundError: there is none.
        ImportError: `onnx` is not installed.
        ValueError: it is damaged, has no valid description, needs other files, or holds its own preprocessing.
    """
    if not path.exists():
        raise FileNotFoundError(f"no exported model at {path}")
    check_regular(path)
    content = path.read_bytes()
    model = _load(content, path)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in texts:
        raise ValueError(f"{path} describes no segmentor of this package: it needs one of tools/export_onnx.py")
    try:
        description = parse(texts[KEY])
    except ValueError as error:
        raise ValueError(f"{path} was refused: {error}") from error
    outputs = [output.name for output in model.graph.output]
    if outputs == [CLASSES]:
        raise ValueError(
            f"{path} gives classes of pictures, and windows are averaged from logits: export it without "
            "--with-preprocessing, or run it by onnxruntime itself"
        )
    if outputs != [LOGITS] or INPUT not in [value.name for value in model.graph.input]:
        raise ValueError(f"{path} does not map {INPUT!r} to {LOGITS!r} alone: its outputs are {outputs}")
    return from_content(description, str(path), weights={}, graph=content)


def _load(content: bytes, path: Path) -> "onnx.ModelProto":
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError(
            f"an .onnx file needs onnx and onnxruntime: pip install 'vil_dense[onnx]' ({error})"
        ) from None
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError(f"{path} is not a complete .onnx file: {' '.join(str(error).split())}") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(model)):
        raise ValueError(f"{path} keeps tensors in other files, which are not read: export it again as one file")
    return model


def tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    """Yields all tensors that a model stores: in its graph, in graphs inside of nodes, and in functions."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: "Iterable[onnx.NodeProto]") -> "Iterator[onnx.TensorProto]":
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)


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
        head = last_head(cfg.decode_head)
        expected = head.get("out_channels") or head.num_classes
        if outputs != expected:
            raise ValueError(f"{trained.name} gives {outputs} logits for each pixel, and its head has {expected}")
        self.decode_head = _Head(head, outputs)
        self.align_corners: bool = head.get("align_corners", False)
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
