"""Reads the model of a command line: `MODEL`, which needs no checkpoint, or `CONFIG CHECKPOINT`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vil_dense.mm.cli.arguments import read_config
from vil_dense.mm.publish.onnx_file import read_onnx
from vil_dense.mm.publish.published import needs_no_config, read_published
from vil_dense.mm.publish.trained_model import TrainedModel, find_checkpoint, find_config, with_checkpoint


def read_model(
    args: argparse.Namespace, files: Sequence[str], subfolder: str = "", *, onnx: bool = False
) -> tuple[TrainedModel, list[str]]:
    """Reads the model of a command line and merges its overrides.

    Args:
        args: of `vil_dense.command_line.parser`; `args.config` is the first argument: a config, a work folder, or a
            published file or folder.
        files: the other arguments; the first one is the checkpoint if `args.config` is a config.
        subfolder: see `read_config`.
        onnx: whether an exported `.onnx` file may stand for the model.

    Returns:
        The model, and the arguments that are left.

    Raises:
        FileNotFoundError, ValueError: see `load_trained` and `read_onnx`.
    """
    rest = list(files)
    source = Path(args.config)
    if source.suffix == ".onnx":
        if not onnx:
            raise ValueError(
                f"{source} is an exported model, which tools/predict.py runs: give the model behind it here"
            )
        trained = read_onnx(source)
        return replace(trained, cfg=read_config(args, subfolder, trained.cfg)), rest
    if needs_no_config(source) or source.suffix == ".safetensors":
        trained = read_published(source)
        return replace(trained, cfg=read_config(args, subfolder, trained.cfg)), rest
    if source.is_dir():
        checkpoint = str(find_checkpoint(source))
        args.config = str(find_config(source))
    elif not rest and not source.is_file():
        raise FileNotFoundError(f"no run, config or published model at {source}")
    elif not rest:
        raise ValueError(f"{args.config} is a config, which needs a checkpoint after it")
    else:
        checkpoint = rest.pop(0)
    return with_checkpoint(read_config(args, subfolder), checkpoint), rest
