"""Writes a trained segmentor as one file that loads without running code, and reads it.

The file is `.safetensors`: the tensors, and one text `vil_dense` in its metadata, a JSON with the keys of `CONTENT`. A
folder in the form of the Hugging Face Hub holds this file as `model.safetensors`, the JSON as `config.json`, which is
for readers alone, and a model card as `README.md`.
"""

import copy
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vil_dense import __version__
from vil_dense.files import save_json, whole_folder, write_whole
from vil_dense.mm.datasets.wrappers import config_parts
from vil_dense.mm.engine.resolve.config import resolve_norm
from vil_dense.mm.publish.card import model_card
from vil_dense.mm.publish.checks import FILE_KEYS, check_classes, check_config, check_type, names_a_place
from vil_dense.mm.publish.checks import REGISTRIES as PARTS
from vil_dense.mm.publish.trained_model import TrainedModel
from vil_dense.state_files import read_state, write_state

KEY = "vil_dense"
FORMAT = 1
LARGEST = 2**20
"""Bytes of the description; that of a UperNet takes about 10,000, with 150 classes."""
CONTENT = {
    "format": int,
    "version": str,
    "config": dict,
    "data": dict,
    "metrics": dict,
    "about": dict,
}
"""Number of this format, version of vil_dense, config (`checks.REGISTRIES`), classes, metrics, texts on the model."""
RUNTIME = dict(
    default_scope="mmseg",
    test_cfg=dict(type="TestLoop"),
    custom_hooks=[dict(type="ReportHook")],
    env_cfg=dict(
        cudnn_benchmark=False,
        mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
        dist_cfg=dict(backend="nccl"),
    ),
    log_processor=dict(by_epoch=False),
    visualizer=dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")]),
)
"""Holds what `tools/test.py` needs beside the parts of a published config, as in `configs/_base_/runtime.py`."""
WEIGHTS = "model.safetensors"


def publish(trained: TrainedModel, out: str | Path, *, name: str = "", licence: str = "") -> None:
    """Writes a trained segmentor to a `.safetensors` file, or to a folder with config and model card.

    Args:
        trained: the model; its config is resolved, and paths of this machine are left out.
        out: a file that ends in `.safetensors`, or a folder, which is replaced if it was published before.
        name, licence: of the model and its weights, for the card; if empty, those that it was published with before,
            or the name of its config.

    Raises:
        ValueError: the model has a part that cannot be published, such as a class of your own.
        FileExistsError: `out` is a folder with other files, or a file of another kind.
    """
    out = Path(out)
    if trained.graph:
        raise ValueError(
            f"{trained.name} holds a graph and no weights to publish: publish the run it was exported from"
        )
    content = describe(trained, name, licence)
    text = json.dumps(content, allow_nan=False)
    parse(text)  # what could not be read again is not written
    if out.suffix == ".safetensors":
        write_state(trained.weights, out, {KEY: text})
        return
    if out.exists() and not (out.is_dir() and (is_published(out) or not any(out.iterdir()))):
        what = "holds other files" if out.is_dir() else "is a file"
        raise FileExistsError(f"{out} {what}: give a new folder, or a file that ends in .safetensors")
    with whole_folder(out) as folder:
        write_state(trained.weights, folder / WEIGHTS, {KEY: text})
        save_json(folder / "config.json", content)
        card = model_card(content)
        write_whole(folder / "README.md", lambda part: part.write_text(card, encoding="utf-8"))


def describe(trained: TrainedModel, name: str, licence: str) -> dict[str, Any]:
    """Returns the `CONTENT` of a trained model; raises as `publish` does."""
    cfg = copy.deepcopy(trained.cfg)
    resolve_norm(cfg, world_size=1, cuda=False, weights=trained.weights)
    parts = {part: _plain(cfg[part]) for part in PARTS if cfg.get(part) is not None}
    if "test_dataloader" in parts:
        _without_own_classes(parts)
    described = dict(trained.described)
    labels = described.get("label_map")
    described.update(
        classes=list(described["classes"]),
        palette=[list(map(int, colour)) for colour in described["palette"]],
        label_map=[[int(old), int(new)] for old, new in labels.items()] if labels else None,
        reduce_zero_label=bool(described.get("reduce_zero_label")),
    )
    about = dict(trained.about)
    for key, given in (("name", name), ("licence", licence)):
        about[key] = given or about.get(key, "")
    about["name"] = about["name"] or Path(trained.cfg.filename or "model").stem
    return dict(
        format=FORMAT,
        version=__version__,
        config={part: _encoded(content) for part, content in parts.items()},
        data=described,
        metrics=trained.metrics,
        about=about,
    )


def is_published(path: Path) -> bool:
    """Returns whether a path is a published file, or a folder with one."""
    file = path / WEIGHTS if path.is_dir() else path
    try:
        return file.suffix == ".safetensors" and file.is_file() and _text_of(file) is not None
    except ValueError:
        return False


def needs_no_config(path: Path) -> bool:
    """Returns whether a path is read as a published file or folder: it is one, or has no config beside it."""
    file = path / WEIGHTS if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.is_file():
        return False
    return is_published(file) or not any(file.parent.glob("*.py"))


def read_published(path: Path) -> TrainedModel:
    """Reads a published file, or a folder with one, and runs no code of it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, is no published file, or holds what a published file cannot; see `checks`.
    """
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no published model at {file}")
    text = _text_of(file)
    if text is None:
        raise ValueError(f"{file} holds weights alone and no description: give config=FILE, or publish it again")
    try:
        content = parse(text)
    except ValueError as error:
        raise ValueError(f"{file} was refused: {error}") from error
    return from_content(content, str(file), weights=read_state(file))


def from_content(content: dict[str, Any], name: str, *, weights: dict[str, Tensor], graph: bytes = b"") -> TrainedModel:
    """Returns the model of a checked description, with its weights or the graph of an ONNX file; see `parse`."""
    cfg = Config(copy.deepcopy(RUNTIME) | {key: _decoded(part) for key, part in content["config"].items()})
    data = content["data"]
    described = dict(data, label_map=dict(data["label_map"]) if data["label_map"] else None)
    metrics, about = content["metrics"], content["about"]
    return TrainedModel(cfg, weights, described, name, metrics=metrics, about=about, graph=graph)


def parse(text: str) -> dict[str, Any]:
    """Returns the `CONTENT` of a description after all checks.

    Raises:
        ValueError: it is too long, not of this form, or fails a check.
    """
    if len(text) > LARGEST:
        raise ValueError(f"its description has {len(text):,} characters, and at most {LARGEST:,} are read")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its description is not valid JSON: {error}") from None
    wrong = [
        key for key, kind in CONTENT.items() if not isinstance(content, dict) or type(content.get(key)) is not kind
    ]
    if wrong:
        raise ValueError(f"its description has no {wrong[0]} of the expected kind")
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']}, and this version of vil_dense reads {FORMAT}: update it")
    if not all(isinstance(value, (int, float)) for value in content["metrics"].values()):
        raise ValueError("its metrics are not numbers")
    if not all(isinstance(value, (str, int)) for value in content["about"].values()):
        raise ValueError("its texts on the model are of another kind")
    check_config({key: _decoded(part) for key, part in content["config"].items()})
    check_classes(content["data"])
    return content


def _text_of(file: Path) -> str | None:
    """Returns the description in the metadata of a file; None if it has none."""
    try:
        with safe_open(file, "pt") as opened:
            return (opened.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{file} is not a complete .safetensors file: {why}") from None


def _plain(node: Any) -> Any:
    """Returns a part of a config without keys that name files, and without places on this machine."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if key not in FILE_KEYS}
        return {
            key: _plain(value) for key, value in kept.items() if not (isinstance(value, str) and names_a_place(value))
        }
    if isinstance(node, (list, tuple)):
        return type(node)(map(_plain, node))
    return node


def _without_own_classes(parts: dict[str, Any]) -> None:
    """Reduces the data to their pipeline where the data set is of a class that is not known everywhere."""
    loader = parts["test_dataloader"]
    try:
        for dataset in config_parts(ConfigDict(loader["dataset"])):
            check_type(dataset.get("type"), "test_dataloader.dataset", PARTS["test_dataloader"])
    except ValueError:
        pipeline = next(config_parts(ConfigDict(loader["dataset"]))).pipeline
        parts["test_dataloader"] = dict(dataset=dict(pipeline=ConfigDict(a=pipeline).to_dict()["a"]))


def _encoded(node: Any) -> Any:
    """Returns a part of a config for JSON, with tuples as dicts of one key."""
    if isinstance(node, dict):
        return {key: _encoded(value) for key, value in node.items()}
    if isinstance(node, tuple):
        return {"__tuple__": [_encoded(value) for value in node]}
    return [_encoded(value) for value in node] if isinstance(node, list) else node


def _decoded(node: Any) -> Any:
    """Returns the part of a config that `_encoded` was given."""
    if isinstance(node, dict):
        if node.keys() == {"__tuple__"} and isinstance(node["__tuple__"], list):
            return tuple(map(_decoded, node["__tuple__"]))
        return {key: _decoded(value) for key, value in node.items()}
    return [_decoded(value) for value in node] if isinstance(node, list) else node
