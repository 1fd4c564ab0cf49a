"""Writes a network as one ONNX file, whose batch, height and width may vary."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from vil_dense.mm.publish.onnx_file import CLASSES, INPUT, LOGITS, open_session

OPSET = 20
"""Version of ONNX's operators: the newest for which torch writes without a conversion."""


def save_onnx(network: nn.Module, example: Tensor, path: Path, texts: Mapping[str, str], layout: str | None) -> None:
    """Writes `network` with `texts` as metadata.

    Args:
        network: takes one tensor, named `inputs` in the file, and returns one, `logits` or `classes`.
        example: its batch is at least 2; batch, height and width may vary later.
        path: the file.
        texts: metadata of the file.
        layout: of pictures, see `write.export`; None for windows.

    Raises:
        ImportError: `onnx` or `onnxscript` is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ONNX needs two more packages: pip install 'vil_dense[onnx]' ({error})") from None
    program = export_program(network, example, layout)
    with _quiet():
        torch.onnx.export(
            program,
            (example,),
            str(path),
            dynamo=True,
            optimize=False,  # takes minutes, and runtimes do it
            verbose=False,
            external_data=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[LOGITS if layout is None else CLASSES],
        )
    model = onnx.load(path)
    for node in (node for part in (model.graph, *model.functions) for node in part.node):
        del node.metadata_props[:]  # torch's traces of each node, with paths of this machine
        node.doc_string = ""
    onnx.helper.set_model_props(model, dict(texts))
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # torchvision is not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch on its own code
            yield
    finally:
        logger.setLevel(level)


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Returns a function that runs an ONNX file by onnxruntime on a tensor."""
    session = open_session(path.read_bytes(), str(path))
    return lambda inputs: torch.from_numpy(session.run(None, {INPUT: inputs.numpy()})[0])


def export_program(network: nn.Module, example: Tensor, layout: str | None) -> torch.export.ExportedProgram:
    """Returns `torch.export`'s program of a network with all axes but that of the channels dynamic; see `save_onnx`."""
    axes = (0, 1, 2) if layout == "NHWC" else (0, 2, 3)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch on its own code
        return torch.export.export(network, (example,), dynamic_shapes=dict(inputs={axis: Dim.AUTO for axis in axes}))
