"""Resolves what a config of volumes leaves open until the run is known: plan, data and fold."""

from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

SHARED = ("plan", "data_root", "datalist", "fold", "patient", "cascade")
"""Keys that the parts of a volume config have in common, and that its top level overrides."""


def open_plan(cfg: Config, overrides: dict[str, Any]) -> dict[str, Any]:
    """Reads a plan that is a path if overrides change a part of it (`plan.KEY`); returns the overrides of this content.

    Raises:
        FileNotFoundError, ValueError: see `resolve_plan`.
    """
    if "plan" not in cfg or not any(key.startswith("plan.") for key in overrides):
        return overrides
    from vil_dense.medical.data.plan_schema import read_plan  # needs MONAI, which pictures do without

    source = overrides.get("plan", cfg.plan)
    cfg.plan = dict(read_plan(source)) if isinstance(source, str) else source
    return {key: value for key, value in overrides.items() if key != "plan"}


def resolve_plan(cfg: Config) -> str:
    """Writes the `SHARED` values at the top of a volume config into its model, data sets and metrics.

    A part's value gives way where it equals that of the config's `shared`, which says what the parts were built with;
    another is the part's own and stays. Afterwards `shared` holds the new values, so that a run's own config can be
    overridden in the same way. A plan that is the path of a JSON is replaced by its content, so that a run's own config
    does not change with the file. A training batch size of None, or equal to `shared.batch_size`, becomes the plan's;
    `label_check` goes to the data sets. With `fold="all"` there is no validation. For `cascade` see `_resolve_cascade`.
    Returns a line for the log with the plan, the data and the held-out fold.

    Raises:
        FileNotFoundError: there is no plan at the path.
        ValueError: a plan that cannot be, see `medical.data.plan_schema`.
        FileNotFoundError, ValueError: the first stage of a cascade, see `medical.cascade.read_first_stage`.
    """
    if "plan" not in cfg:
        return ""
    from vil_dense.medical.data.plan_schema import read_plan  # needs MONAI, which pictures do without

    source = cfg.plan if isinstance(cfg.plan, str) else "of the config"
    cfg.plan = dict(read_plan(cfg.plan))
    before, check = cfg.get("shared", {}), cfg.get("label_check", {})
    _resolve_cascade(cfg, before)
    cfg.shared = {key: cfg[key] for key in SHARED if key in cfg}
    if cfg.get("fold") == "all":
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None

    def share(part: ConfigDict, *keys: str) -> None:
        for key in keys:
            inherited = key not in part or (key in before and part[key] == before[key])
            if inherited and key in cfg:
                part[key] = cfg[key]  # `update` would merge a plan into the one before

    for split, part_of_time in (("train", 0.5), ("val", 0.5), ("test", 1.0)):
        if not (loader := cfg.get(f"{split}_dataloader")):
            continue
        # Pretraining without labels has no folds.
        share(loader.dataset, *(SHARED[:3] if loader.dataset.type == "UnlabelledVolumes" else SHARED))
        if check is None or "seconds" in check:
            loader.dataset.setdefault("check_s", None if check is None else part_of_time * check["seconds"])
        if loader.batch_size in (None, before.get("batch_size") if split == "train" else None):
            loader.batch_size = cfg.plan.get("batch_size", 2)
    for part in (cfg.model, cfg.get("val_evaluator"), cfg.get("test_evaluator")):
        if part:
            share(part, "plan")
    held_out = f", held-out fold: {cfg.fold}" if isinstance(cfg.get("fold"), int) and scores_held_out(cfg) else ""
    first = f", first stage: {cfg.cascade}" if cfg.get("cascade") else ""
    return f"plan: {source}, data: {cfg.get('data_root')}{held_out}{first}"


def _resolve_cascade(cfg: Config, before: ConfigDict) -> None:
    """Writes the first stage of a cascade into plan and model, if `cascade` names the folder of its cross-validation.

    The networks are those that were trained on no case that this training holds out. The config of a run has them
    already, and its checkpoints their weights, so that a prediction does not need the folder; `ViLRunner` removes them
    from the plan, so that a training chooses anew.

    Args:
        before: what the config's parts were built with.
    """
    if not cfg.get("cascade"):
        return
    if cfg.model.type != "VolumeSegmentor":
        raise ValueError(f"cascade is an option of a VolumeSegmentor, and the model is a {cfg.model.type}")
    if "first_stage" in cfg.plan and before.get("cascade") == cfg.cascade:
        return
    from vil_dense.medical.cascade import read_first_stage
    from vil_dense.medical.datalists.datalist import read_datalist

    listed = read_datalist(cfg.data_root, cfg.get("datalist"), patient=cfg.get("patient"))
    held_out = listed.split(cfg.fold)[1] if isinstance(cfg.get("fold"), int) else []
    first = read_first_stage(Path(cfg.cascade), cfg.plan, [case.name for case in held_out])
    cfg.plan["first_stage"] = first.groups
    cfg.model.first_stage = dict(networks=len(first.checkpoints), **first.model)
    cfg.model.first_stage_weights = [str(path) for path in first.checkpoints]


def describe_fold(cfg: Config) -> str:
    """Returns a line on a training of volumes that holds no case out; empty for others."""
    if "plan" not in cfg or cfg.get("fold", 0) not in ("all", None):
        return ""
    if cfg.fold == "all":
        return "fold: all, every case is trained on and none is left for a validation, so the run gives no score"
    if not cfg.get("val_dataloader") or scores_held_out(cfg):
        return ""
    return "warning: fold=None validates on the cases that are trained on: the scores say nothing of new cases"


def scores_held_out(cfg: Config) -> bool:
    """Returns whether the validation of a volume config is on other cases than its training."""
    if not (loader := cfg.get("val_dataloader")):
        return False
    if not (trained := cfg.get("train_dataloader")):
        return True
    train, val = trained.dataset, loader.dataset
    elsewhere = any(train.get(key) != val.get(key) for key in ("data_root", "datalist"))
    return elsewhere or (val.get("fold") not in ("all", None) and val.get("fold") == train.get("fold"))
