"""Reads an exported `.onnx` segmentor with its description, and refuses what could reach for other files."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vil_dense.files import check_regular
from vil_dense.mm.publish.published import KEY, from_content, parse
from vil_dense.mm.publish.trained_model import TrainedModel

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
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError(
            f"an .onnx file needs onnx and onnxruntime: pip install 'vil_dense[onnx]' ({error})"
        ) from None
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError(f"{path} is not a complete .onnx file: {' '.join(str(error).split())}") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(model)):
        raise ValueError(f"{path} keeps tensors in other files, which are not read: export it again as one file")
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
