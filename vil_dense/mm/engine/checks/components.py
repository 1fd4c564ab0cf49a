"""Checks a config before anything is built: unknown components and options, and what MMEngine cannot do with it.

MMEngine's own errors for these leave out the name (`None is not a callable object`) or the place in the config.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from inspect import Parameter, isclass, signature
from itertools import pairwise
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import Registry
from torch import nn
from torch.nn.modules.conv import _ConvNd

DATA = r"\w+_dataloader\.dataset(?:\.datasets?(?:\.\d+)?)*"
PLACES: tuple[tuple[str, Registry], ...] = (
    (r"model\.(?:.*\.)?init_cfg(?:\..*)?", registries.WEIGHT_INITIALIZERS),
    (r"model\.(?:.*\.)?(?:sampler|assigner|match_costs|point_generator)(?:\..*)?", registries.TASK_UTILS),
    (r"model(?:\..*)?", registries.MODELS),
    (r"optim_wrapper", registries.OPTIM_WRAPPERS),
    (r"optim_wrapper\.optimizer", registries.OPTIMIZERS),
    (r"param_scheduler(?:\.\d+)?", registries.PARAM_SCHEDULERS),
    (r"\w+_dataloader\.(?:batch_)?sampler", registries.DATA_SAMPLERS),
    (r"\w+_dataloader\.collate_fn", registries.FUNCTIONS),
    (DATA, registries.DATASETS),
    (DATA + r"\.pipeline\.\d+", registries.TRANSFORMS),
    (r"(?:default_hooks\.\w+|custom_hooks\.\d+)", registries.HOOKS),
    (r"\w+_evaluator(?:\.\d+|\.metrics(?:\.\d+)?)?", registries.METRICS),
    (r"(?:train|val|test)_cfg", registries.LOOPS),
    (r"visualizer", registries.VISUALIZERS),
    (r"(?:visualizer\.)?vis_backends\.\d+", registries.VISBACKENDS),
    (r"log_processor", registries.LOG_PROCESSORS),
)
"""Registry of the components at each place of a config; the first pattern that fits counts."""
BUILT_ELSEWHERE = r"model\.(?:first_stage\.)?network(?:\..*)?"
"""The networks of a `VolumeSegmentor`, which have a table of their own."""
WITH_OPTIONS = (
    r"optim_wrapper\.optimizer|model\.(?:decode|auxiliary)_head(?:\.\d+)?|.*\.loss\w*(?:\.\d+)?|.*\.pipeline\.\d+"
    r"|default_hooks\.\w+|custom_hooks\.\d+"
)
"""Places whose components get all options themselves, so that unknown ones can be found here."""
USUAL = dict(norm_cfg=["BN", "SyncBN", "GN", "IN"], act_cfg=["ReLU", "LeakyReLU", "GELU", "SiLU"], conv_cfg=["Conv2d"])
"""Usual names in a registry that holds all kinds of modules."""
NOT_PASSED = {"type", "priority", "_scope_"}


def check_components(cfg: Config) -> None:
    """Checks that every component that the config names is registered and knows its options.

    Raises:
        ValueError: a name or an option is unknown; names the place in the config and the nearest known ones. Or several
            data sets are given as a list, which MMEngine does not read.
    """
    _check_lists(cfg)
    for place, part in components(cfg._cfg_dict):
        registry = next((registry for pattern, registry in PLACES if re.fullmatch(pattern, place)), None)
        name = part["type"]
        if registry is None or "." in name or re.fullmatch(BUILT_ELSEWHERE, place):
            continue  # a name with a dot is that of a module or of another project, which MMEngine imports
        component = _find(registry, name, f"{place}.type")
        if re.fullmatch(WITH_OPTIONS, place) and isclass(component):
            _check_options(component, part, place)
    wrapper = cfg.get("optim_wrapper") or {}
    if isinstance(constructor := wrapper.get("constructor"), str) and "." not in constructor:
        _find(registries.OPTIM_WRAPPER_CONSTRUCTORS, constructor, "optim_wrapper.constructor")


def components(node: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the dicts below `node` that name a component by a text, each with its place, as in `model.neck`."""
    if isinstance(node, Mapping):
        if place and isinstance(node.get("type"), str):
            yield place, node
        children = [(str(key), child) for key, child in node.items()]
    elif isinstance(node, (list, tuple)):
        children = [(str(number), child) for number, child in enumerate(node)]
    else:
        return
    for key, child in children:
        yield from components(child, f"{place}.{key}" if place else key)


def options_of(component: type) -> list[str] | None:
    """Returns the names of the arguments of a class and, where it passes others on, of those that it inherits from.

    None means that it may take any: a class passes all on to `object` or a general module, as mmseg's heads of
    mmdetection do where that is missing.
    """
    names: list[str] = []
    for parent in component.__mro__:
        if parent in (object, nn.Module, BaseModule):
            return None
        if "__init__" in vars(parent):
            parameters = signature(vars(parent)["__init__"]).parameters.values()
            names += [parameter.name for parameter in parameters if parameter.name not in names]
            if all(parameter.kind is not Parameter.VAR_KEYWORD for parameter in parameters):
                return names
    return None


def near_names(name: str, known: list[str]) -> str:
    """Returns a question for the known names nearest to `name`, whatever their case; empty if none is near."""
    by_case: dict[str, list[str]] = {}
    for other in sorted(known):
        by_case.setdefault(other.lower(), []).append(other)
    near = [other for key in get_close_matches(name.lower(), by_case, 3, 0.65) for other in by_case[key]][:3]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def registered(registry: Registry) -> list[str]:
    """Returns the names in a registry of MMEngine and in those of the projects below it."""
    return sorted({name for part in (registry, *registry.children.values()) for name in part.module_dict})


def check_norms(model: nn.Module) -> None:
    """Checks that no neck or head normalises feature maps (B, C, H, W) by a LayerNorm, which takes W for C.

    Raises:
        ValueError: a convolution is followed by a `LayerNorm`; names the part of the model.
    """
    for part in ("neck", "decode_head", "auxiliary_head"):
        for name, module in getattr(model, part, nn.Identity()).named_modules(prefix=part):
            children = list(module.children())
            for layer, following in pairwise(children):
                if isinstance(layer, _ConvNd) and isinstance(following, nn.LayerNorm):
                    raise ValueError(
                        f"model.{part}.norm_cfg: LN normalises the last axis, which in a feature map is its width "
                        f"({name}): take dict(type='GN', num_groups=1) or dict(type='BN')"
                    )


def _check_lists(cfg: Config) -> None:
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if isinstance(loader, (list, tuple)):
            raise ValueError(
                f"{split}_dataloader is a list of {len(loader)}: MMEngine reads one loader; join the data sets by "
                "dataset=dict(type='ConcatDataset', datasets=[...]), or test each by a config of its own"
            )
        dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
        # a list of samples is a data set itself
        if isinstance(dataset, (list, tuple)) and any(isinstance(part, Mapping) and "type" in part for part in dataset):
            raise ValueError(
                f"{split}_dataloader.dataset is a list of {len(dataset)}: join the data sets by "
                "dict(type='ConcatDataset', datasets=[...])"
            )


def _find(registry: Registry, name: str, place: str) -> Any:
    with registry.switch_scope_and_registry(None) as current:
        found = current.get(name)
    if found is None:
        raise ValueError(
            f"{place}: {name} is not in the {current.scope}::{current.name} registry"
            f"{near_names(name, registered(registry)) or _some_names(registry, place)}"
        )
    return found


def _some_names(registry: Registry, place: str) -> str:
    """Returns known names for a place where none is near, if they are few."""
    known = next((names for key, names in USUAL.items() if place.endswith(f"{key}.type")), registered(registry))
    return f"; known: {', '.join(known)}" if len(known) <= 20 else ""


def _check_options(component: type, part: Mapping[str, Any], place: str) -> None:
    parameters = options_of(component)
    known = [name for name in parameters or () if name not in ("self", "params", "model", "runner")]
    for key in part if parameters is not None else ():
        if key not in NOT_PASSED and key not in known:
            raise ValueError(
                f"{place}.{key}: {component.__name__} has no option {key}{near_names(key, known)}; known: "
                f"{', '.join(known)} (_delete_=True in its dict leaves out what a base config sets)"
            )
