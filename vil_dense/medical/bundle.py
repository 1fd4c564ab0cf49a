"""A trained network as a MONAI bundle, which `python -m monai.bundle run` trains, evaluates and runs.

The configs name classes and functions of vil_dense, so that preprocessing and network are those of training; a loader
needs vil_dense installed, or takes the traced `models/model.ts`.
"""

import json
import warnings
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from torch import Tensor, nn

from vil_dense import __version__
from vil_dense.files import save_json, whole_folder
from vil_dense.medical.data.transforms import Plan
from vil_dense.medical.networks.nets import network_options

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
OWN = ("ViLUNet3D", "ViLUNETR3D")
DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
TRANSFORMS = "vil_dense.medical.data.transforms"


def network_config(plan: Plan, network: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a network for a bundle: its class by name, and every argument.

    Args:
        network: `type`, and options, as in the model of a training config.

    Raises:
        ValueError: a network that is not one of `OWN`.
    """
    kind = network["type"]
    if kind not in OWN:
        raise ValueError(f"bundles are written for {' and '.join(OWN)}, this run trained {kind}")
    return {"_target_": f"vil_dense.medical.{kind}", **network_options(plan, **network)}


def inference(plan: Plan, network: Mapping[str, Any]) -> dict[str, Any]:
    """`dataset_dir`, what `inputs.find_cases` takes -> `output_dir` of masks on the grids of the images."""
    back = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"}
    save = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg"}
    steps = [
        {**back, "nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {**save, "separate_folder": False, "resample": False, "output_dtype": "$np.uint8"},
    ]
    return {
        "imports": [
            "$import pathlib",
            "$import numpy as np",
            "$import torch",
            "$from vil_dense.medical.data.inputs import find_cases",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/masks'",
        "device": DEVICE,
        "plan": plan,
        "datalist": "$[case.as_dict() for case in find_cases(pathlib.Path(@dataset_dir), len(@plan['channels']))]",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": f"{TRANSFORMS}.preprocess", "plan": "@plan", "keys": ["image"]},
        "dataset": _dataset("@datalist", "@preprocessing"),
        "dataloader": _loader("@dataset", 1, False),
        "inferer": _inferer(plan),
        "postprocessing": {"_target_": "Compose", "transforms": steps},
        "handlers": [_load(), {"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": _evaluator("@dataloader", "@inferer", "@postprocessing", "@handlers"),
        "run": ["$@evaluator.run()"],
    }


def train(
    plan: Plan,
    network: Mapping[str, Any],
    *,
    fold: int | None = 0,
    augment: Mapping[str, Any] | None = None,
    batch_size: int = 2,
    learning_rate: float = 1e-3,
) -> dict[str, Any]:
    """`dataset_dir` as `datalist.read_datalist` knows it, validated on `fold` -> models/model.pt.

    Args:
        augment: options of `transforms.augmentation`.
    """
    cases = "$[case.as_dict() for case in @cases[{}]]"
    loss = {"_target_": "DiceCELoss", "include_background": False, "to_onehot_y": True, "softmax": True, "batch": True}
    patches = {"_target_": f"{TRANSFORMS}.training_patches", "plan": "@plan", **(augment or {})}
    one_hot = {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False]}
    saver = {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "save_dict": {"model": "@network"}}
    validate = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "epoch_level": True}
    return {
        "imports": [
            "$import os",
            "$import monai",
            "$import torch",
            "$import torch.distributed as dist",
            "$from vil_dense.medical.data.datalist import read_datalist",
        ],
        "bundle_root": ".",
        "ckpt_dir": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "$@bundle_root + '/data'",
        "datalist": None,
        "fold": fold,
        "val_interval": 1,
        "cache_rate": 1.0,
        "device": DEVICE,
        "plan": plan,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "cases": "$read_datalist(@dataset_dir, @datalist).split(@fold)",
        "loss": {"_target_": "DeepSupervisionLoss", "loss": loss},
        "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": learning_rate},
        "train": {
            "dataset": {
                **_dataset(cases.format(0), patches),
                "_target_": "CacheDataset",
                "cache_rate": "@cache_rate",
            },
            "dataloader": _loader("@train#dataset", batch_size, True),
            "inferer": {"_target_": "SimpleInferer"},
            "handlers": [
                {**validate, "interval": "@val_interval"},
                {"_target_": "StatsHandler", "tag_name": "train_loss", "output_transform": _LOSS},
            ],
            "trainer": {
                "_target_": "SupervisedTrainer",
                "max_epochs": 100,
                "device": "@device",
                "train_data_loader": "@train#dataloader",
                "network": "@network",
                "loss_function": "@loss",
                "optimizer": "@optimizer",
                "inferer": "@train#inferer",
                "train_handlers": "@train#handlers",
            },
        },
        "validate": {
            "preprocessing": {"_target_": f"{TRANSFORMS}.preprocess", "plan": "@plan"},
            "dataset": _dataset(cases.format(1), "@validate#preprocessing"),
            "dataloader": _loader("@validate#dataset", 1, False),
            "inferer": _inferer(plan),
            "postprocessing": {**one_hot, "to_onehot": len(plan["labels"])},
            "handlers": [
                {"_target_": "StatsHandler", "iteration_log": False},
                {**saver, "save_key_metric": True, "key_metric_filename": "model.pt"},
            ],
            "key_metric": {
                "val_mean_dice": {
                    "_target_": "MeanDice",
                    "include_background": False,
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
            },
            "evaluator": {
                **_evaluator(
                    "@validate#dataloader", "@validate#inferer", "@validate#postprocessing", "@validate#handlers"
                ),
                "key_val_metric": "@validate#key_metric",
            },
        },
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@train#trainer.run()"],
    }


def evaluate() -> dict[str, Any]:
    """Laid over train.json: the weights of models/model.pt on the cases of the fold, scores to `output_dir`."""
    metrics = {"_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": ["val_mean_dice"]}
    metas = "$lambda batch: [item['image'].meta for item in batch]"
    saver = {**metrics, "metric_details": ["val_mean_dice"], "batch_transform": metas, "summary_ops": "*"}
    return {
        "validate#handlers": [_load(), {"_target_": "StatsHandler", "iteration_log": False}, saver],
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@validate#evaluator.run()"],
    }


def multi_gpu_train() -> dict[str, Any]:
    """Laid over train.json, for torchrun: one process a GPU."""
    split = {"_target_": "DistributedSampler", "even_divisible": True}
    return {
        **_multi_gpu(),
        "train#sampler": {**split, "dataset": "@train#dataset", "shuffle": True},
        "train#dataloader#sampler": "@train#sampler",
        "train#dataloader#shuffle": False,
        "train#trainer#train_handlers": "$@train#handlers[:1] if dist.get_rank() > 0 else @train#handlers",
        "run": ["$@train#trainer.run()"],
    }


def multi_gpu_evaluate() -> dict[str, Any]:
    """Laid over train.json and evaluate.json, for torchrun."""
    return {**_multi_gpu(), "run": ["$@validate#evaluator.run()"]}


def metadata(plan: Plan, about: Mapping[str, Any]) -> dict[str, Any]:
    """metadata.json, of MONAI's schema.

    Args:
        about: keys to add or replace, e.g. task, description, eval_metrics.
    """
    # MONAI 1.6 overwrites the required packages by the optional ones: both say the same.
    packages = {"vil_dense": __version__} | {name: version(name) for name in ("nibabel", "pytorch-ignite")}
    shape = [f"{size}*n" for size in plan["patch_vox"]]
    names = {str(value): name for name, value in plan["labels"].items()}
    channels = {str(index): name for index, name in enumerate(plan["channels"])}
    tensor = dict(spatial_shape=shape, dtype="float32", is_patch_data=True)
    image = dict(type="image", format="magnitude", num_channels=len(channels), value_range=[-10, 10])
    scores = dict(type="image", format="logits", num_channels=len(names), value_range=[-100, 100])
    known = dict(
        schema=SCHEMA_URL,
        version="0.1.0",
        changelog={"0.1.0": "exported"},
        monai_version=monai.__version__,
        pytorch_version=torch.__version__.partition("+")[0],
        numpy_version=np.__version__,
        required_packages_version=packages,
        optional_packages_version=packages,
        task=f"Segmentation of {', '.join(name for name in plan['labels'] if plan['labels'][name] > 0)}",
        description="A Vision-LSTM (ViL, arXiv 2406.04303) encoder-decoder for volumes, trained with vil_dense.",
        authors="to be filled in",
        copyright="to be filled in",
        data_type="nibabel",
        intended_use="Research. No medical device.",
        network_data_format=dict(
            inputs=dict(image={**image, **tensor, "channel_def": channels}),
            outputs=dict(pred={**scores, **tensor, "channel_def": names}),
        ),
    )
    return {**known, **about}


def write_bundle(
    out: Path,
    plan: Plan,
    network: Mapping[str, Any],
    model: nn.Module,
    *,
    training: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> str:
    """Write a bundle, whole or not at all; returns one sentence about its TorchScript.

    Args:
        out: folder of the bundle; it has to be new or empty.
        network: `type` and options, see `network_config`.
        model: the network, with its weights.
        training: keywords of `train`.
        about: for `metadata`.
        texts: more files, by their paths in the bundle: docs/README.md is the model card.

    Raises:
        FileExistsError: there is something in the folder.
        ValueError: see `network_config`.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: a bundle needs a folder of its own")
    config = network_config(plan, network)
    plan = json.loads(json.dumps(plan))
    files = {
        "metadata": metadata(plan, about or {}),
        "inference": inference(plan, config),
        "train": train(plan, config, **(training or {})),
        "evaluate": evaluate(),
        "multi_gpu_train": multi_gpu_train(),
        "multi_gpu_evaluate": multi_gpu_evaluate(),
        "schema": json.loads(resources.files("vil_dense.medical").joinpath("bundle_schema.json").read_text()),
    }
    licence = "Weights inherit the licence of the data they were trained on: name the data and its licence here.\n"
    with whole_folder(out) as part:
        for folder in ("configs", "models", "docs"):
            (part / folder).mkdir()
        for name, content in files.items():
            save_json(part / "configs" / f"{name}.json", content)
        for name, text in {"docs/data_license.txt": licence, **(texts or {})}.items():
            (part / name).write_text(text)
        torch.save(model.state_dict(), part / "models/model.pt")
        example = torch.zeros(1, len(plan["channels"]), *plan["patch_vox"])
        return save_torchscript(model.eval(), example, part / "models/model.ts")


def save_torchscript(model: nn.Module, example: Tensor, path: Path) -> str:
    """Trace `model` at the size of `example` and write it, if it then gives the same on another input of that size."""
    with warnings.catch_warnings(), torch.no_grad():
        # sizes are constants of the trace: windows have one size
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        traced = torch.jit.trace(model, example)
        follow_device(traced)
        other = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
        apart = float((traced(other) - model(other)).abs().max())
        if not apart <= 1e-4:
            return f"no TorchScript: its output is up to {apart:.2g} off"
        torch.jit.save(traced, path)
    return f"TorchScript for windows of {' x '.join(map(str, example.shape[2:]))}: models/model.ts"


def follow_device(traced: torch.jit.ScriptModule) -> None:
    """Tensors that a trace makes by itself (masks, counts) come to be where its input is.

    A trace keeps the device it was made on as a constant, which neither `map_location` nor `to` changes. Before the
    first run: what has run stays as it was.
    """
    graph = traced.graph
    torch._C._jit_pass_inline(graph)  # the graphs of the parts, too, then have this one's input
    here = graph.create("prim::device", [next(x for x in graph.inputs() if str(x.type()) == "Tensor")])
    here.output().setType(torch._C.DeviceObjType.get())
    graph.prependNode(here)
    for node in graph.findAllNodes("prim::Constant"):
        if node.output().type() == here.output().type():
            node.output().replaceAllUsesWith(here.output())
    torch._C._jit_pass_dce(graph)


_LOSS = "$monai.handlers.from_engine(['loss'], first=True)"


def _dataset(data: str, transform: Any) -> dict[str, Any]:
    return {"_target_": "Dataset", "data": data, "transform": transform}


def _loader(dataset: str, batch_size: int, shuffle: bool) -> dict[str, Any]:
    sizes = {"batch_size": batch_size, "shuffle": shuffle, "num_workers": 0}
    return {"_target_": "DataLoader", "dataset": dataset, **sizes}


def _inferer(plan: Plan) -> dict[str, Any]:
    windows = {"roi_size": list(plan["patch_vox"]), "sw_batch_size": 1, "overlap": 0.5, "mode": "gaussian"}
    return {"_target_": "SlidingWindowInferer", **windows}


def _evaluator(loader: str, inferer: str, postprocessing: str, handlers: str) -> dict[str, Any]:
    parts = {"inferer": inferer, "postprocessing": postprocessing, "val_handlers": handlers}
    return {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": loader,
        "network": "@network",
        **parts,
    }


def _load() -> dict[str, Any]:
    where = {"load_path": "$@bundle_root + '/models/model.pt'", "load_dict": {"model": "@network"}}
    return {"_target_": "CheckpointLoader", **where, "map_location": "@device"}


def _multi_gpu() -> dict[str, Any]:
    wrapped = {"_target_": "torch.nn.parallel.DistributedDataParallel", "module": "$@network_def.to(@device)"}
    return {
        "device": "$torch.device('cuda:' + os.environ['LOCAL_RANK'])",
        "network": {**wrapped, "device_ids": ["@device"]},
        "validate#sampler": {
            "_target_": "DistributedSampler",
            "dataset": "@validate#dataset",
            "even_divisible": False,
            "shuffle": False,
        },
        "validate#dataloader#sampler": "@validate#sampler",
        "validate#evaluator#val_handlers": "$None if dist.get_rank() > 0 else @validate#handlers",
        "initialize": [
            "$dist.is_initialized() or dist.init_process_group(backend='nccl')",
            "$torch.cuda.set_device(@device)",
            "$monai.utils.set_determinism(seed=0)",
        ],
        "finalize": ["$dist.is_initialized() and dist.destroy_process_group()"],
    }
