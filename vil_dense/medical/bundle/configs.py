"""Writes the configs of a bundle: inference, training, evaluation, and the last two on several GPUs."""

from collections.abc import Mapping, Sequence
from typing import Any

from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.losses import DICE_CE, PartialLoss, loss_of
from vil_dense.medical.networks.nets import network_options, target

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
TRANSFORMS = "vil_dense.medical.data.transforms"
INFERER = "vil_dense.medical.inference.inferer.VolumeInferer"
LOSSES = "vil_dense.medical.losses"
LOSS = "$monai.handlers.from_engine(['loss'], first=True)"
MASKS = "$monai.handlers.from_engine(['pred', 'label'])"


def network_config(plan: Plan, network: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of a network: its class by name, and every argument.

    Args:
        network: `type`, and options, as in the model of a training config.

    Raises:
        ValueError: see `nets.network_options`.
    """
    return {"_target_": target(network["type"]), **network_options(plan, **network)}


def inference(plan: Plan, network: Mapping[str, Any], windows: SlidingWindow) -> dict[str, Any]:
    """Returns a config that segments `dataset_dir`, see `inputs.find_cases`, and writes masks to `output_dir`."""
    dtype = f"$np.{LabelMap.of(plan).mask_dtype}"
    save = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg"}
    return {
        "imports": [
            "$import pathlib",
            "$import numpy as np",
            "$import torch",
            "$from vil_dense.medical.datalists.inputs import find_cases",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/masks'",
        "device": DEVICE,
        "plan": plan,
        "datalist": "$[case.as_dict() for case in find_cases(pathlib.Path(@dataset_dir), len(@plan['channels']))]",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": _compose({"_target_": f"{TRANSFORMS}.LoadCased", "keys": ["image"], "plan": "@plan"}),
        "dataset": _dataset("@datalist", "@preprocessing"),
        "dataloader": _loader("@dataset", 1, False),
        "inferer": _inferer(windows),
        "postprocessing": _compose({**save, "separate_folder": False, "resample": False, "output_dtype": dtype}),
        "handlers": [_load(), {"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": _evaluator("@dataloader", "@inferer", "@postprocessing", "@handlers"),
        "run": ["$@evaluator.run()"],
    }


def train(
    plan: Plan,
    network: Mapping[str, Any],
    windows: SlidingWindow,
    *,
    fold: int | None = 0,
    datalist: str | None = None,
    patient: str | None = None,
    augment: Mapping[str, Any] | None = None,
    batch_size: int = 2,
    learning_rate: float = 1e-3,
    dice_weight: float = 1.0,
    boundary_weight: float = 0.0,
) -> dict[str, Any]:
    """Returns a config that trains on `dataset_dir`, see `datalist.read_datalist`, and writes models/model.pt.

    Args:
        fold: the fold for validation.
        datalist, patient: see `datalist.read_datalist`.
        augment: options of `transforms.augmentation`.
        dice_weight, boundary_weight: of the losses of Dice and boundaries beside cross entropy, which has 1.
    """
    return {
        "imports": [
            "$import os",
            "$import monai",
            "$import torch",
            "$import torch.distributed as dist",
            "$from vil_dense.medical.datalists.datalist import read_datalist",
        ],
        "bundle_root": ".",
        "ckpt_dir": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "$@bundle_root + '/data'",
        "datalist": datalist,
        "patient": patient,
        "fold": fold,
        "val_interval": 1,
        "cache_rate": 1.0,
        "device": DEVICE,
        "plan": plan,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "cases": "$read_datalist(@dataset_dir, @datalist, patient=@patient).split(@fold)",
        "loss": _loss(plan, dice_weight, boundary_weight),
        "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": learning_rate},
        "train": _training(augment or {}, batch_size),
        "validate": _validation(LabelMap.of(plan), windows),
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@train#trainer.run()"],
    }


def _training(augment: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """Returns the section `train`."""
    patches = {"_target_": f"{TRANSFORMS}.training_patches", "plan": "@plan", **augment}
    dataset = {**_dataset(_cases(0), "@train#preprocessing"), "_target_": "CacheDataset", "cache_rate": "@cache_rate"}
    validate = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "epoch_level": True}
    return {
        "preprocessing": patches,
        "dataset": dataset,
        "dataloader": _loader("@train#dataset", batch_size, True),
        "inferer": {"_target_": "SimpleInferer"},
        "handlers": [
            {**validate, "interval": "@val_interval"},
            {"_target_": "StatsHandler", "tag_name": "train_loss", "output_transform": LOSS},
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
    }


def _loss(plan: Plan, dice_weight: float, boundary_weight: float) -> dict[str, Any]:
    """Returns the config of the loss of all scales, that of `losses.loss_of`, and of boundaries."""
    of_scale = {"_target_": "DiceCELoss", **DICE_CE, "lambda_dice": dice_weight}
    if isinstance(loss_of(plan), PartialLoss):
        of_scale = {"_target_": f"{LOSSES}.PartialLoss", "plan": "@plan", "dice_weight": dice_weight}
    boundary = {"boundary": {"_target_": f"{LOSSES}.BoundaryLoss", "plan": "@plan"}, "boundary_weight": boundary_weight}
    all_scales = {"_target_": "vil_dense.medical.networks.nets.AllScalesLoss", "loss": of_scale}
    return {**all_scales, **(boundary if boundary_weight else {})}


def _validation(labels: LabelMap, windows: SlidingWindow) -> dict[str, Any]:
    """Returns the section `validate`: Dice of the masks that inference writes, on the grids of the files."""
    saver = {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "save_dict": {"model": "@network"}}
    # computed from class indices: one-hot scores would take 4 bytes for each class and voxel of the file
    dice = {"_target_": "MeanDice", "include_background": False, "num_classes": len(labels.outputs)}
    masks = None
    if not labels.plain:  # regions overlap, or values are not class indices
        dice = {"_target_": "MeanDice", "include_background": True}
        masks = {"_target_": f"{TRANSFORMS}.ToStructuresd", "keys": ["pred", "label"], "plan": "@plan"}
    evaluator = _evaluator("@validate#dataloader", "@validate#inferer", masks, "@validate#handlers")
    return {
        "preprocessing": _compose({"_target_": f"{TRANSFORMS}.LoadCased", "keys": ["image", "label"], "plan": "@plan"}),
        "dataset": _dataset(_cases(1), "@validate#preprocessing"),
        "dataloader": _loader("@validate#dataset", 1, False),
        "inferer": _inferer(windows),
        "handlers": [
            {"_target_": "StatsHandler", "iteration_log": False},
            {**saver, "save_key_metric": True, "key_metric_filename": "model.pt"},
        ],
        "key_metric": {"val_mean_dice": {**dice, "output_transform": MASKS}},
        "evaluator": {**evaluator, "key_val_metric": "@validate#key_metric"},
    }


def evaluate() -> dict[str, Any]:
    """Returns changes to train.json that evaluate models/model.pt on the validation fold and write to `output_dir`.

    The first keys are those that MONAI's `ConfigWorkflow` asks of an evaluation.
    """
    metrics = {"_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": ["val_mean_dice"]}
    metas = "$lambda batch: [item['image'].meta for item in batch]"
    saver = {**metrics, "metric_details": ["val_mean_dice"], "batch_transform": metas, "summary_ops": "*"}
    workflow = {key: f"@validate#{key}" for key in ("dataset", "inferer", "evaluator")}
    return {
        **workflow,
        "validate#handlers": [_load(), {"_target_": "StatsHandler", "iteration_log": False}, saver],
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@validate#evaluator.run()"],
    }


def multi_gpu_train() -> dict[str, Any]:
    """Returns changes to train.json for torchrun with one process for each GPU."""
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
    """Returns changes to train.json and evaluate.json for torchrun."""
    return {**_multi_gpu(), "run": ["$@validate#evaluator.run()"]}


def onnx_export(channels: int, patch_vox: Sequence[int]) -> dict[str, Any]:
    """Returns the arguments (`--args_file`) of `python -m monai.bundle onnx_export` for any batch and size.

    The example has two windows, as an exporter takes an axis of one for a fixed one.
    """
    axes = {"image": [0, 2, 3, 4], "pred": [0, 2, 3, 4]}
    return {
        "net_id": "network_def",
        "config_file": "configs/inference.json",
        "meta_file": "configs/metadata.json",
        "ckpt_file": "models/model.pt",
        "filepath": "models/model.onnx",
        "input_shape": [2, channels, *patch_vox],
        "converter_kwargs": {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": axes},
    }


def _cases(part: int) -> str:
    """Returns the training cases (0) or the validation cases (1) of the fold, as dictionaries."""
    return f"$[case.as_dict() for case in @cases[{part}]]"


def _dataset(data: str, transform: Any) -> dict[str, Any]:
    return {"_target_": "Dataset", "data": data, "transform": transform}


def _loader(dataset: str, batch_size: int, shuffle: bool) -> dict[str, Any]:
    sizes = {"batch_size": batch_size, "shuffle": shuffle, "num_workers": 0}
    return {"_target_": "DataLoader", "dataset": dataset, **sizes}


def _compose(transform: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of a chain of one transform: MONAI Label takes chains apart, and fails on a single one."""
    return {"_target_": "Compose", "transforms": [transform]}


def _inferer(windows: SlidingWindow) -> dict[str, Any]:
    return {"_target_": INFERER, "plan": "@plan", "overlap": windows.overlap, "window_batch": windows.batch}


def _evaluator(loader: str, inferer: str, postprocessing: Any, handlers: str) -> dict[str, Any]:
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
