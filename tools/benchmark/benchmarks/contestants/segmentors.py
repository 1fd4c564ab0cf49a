"""Runs the segmentor of a config, uint8 pictures to class maps, with our backbone or with a transformer."""

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants.case import Case, Check, Contestant, compile_each, refuse_uncompiled
from benchmarks.contestants.networks import EXACT_PX, check_network, pictures, seeded, vit_options


def variant_of(config: str) -> str:
    """Returns the variant of a config's backbone.

    Raises:
        ValueError: it has none of ours.
    """
    from vil_dense.mm.cli.arguments import load_config

    backbone = load_config(config).model.backbone
    if backbone.type != "ViL" or backbone.variant.startswith("deit3"):
        raise ValueError(f"--config: {config} has no ViL backbone, it has {backbone.get('variant', backbone.type)}")
    return backbone.variant


def build_segmentor(case: Case, attention: bool, **options: Any) -> Any:
    """Builds the config's network, shrunk by --dim and --depth; `attention` takes the transformer's blocks."""
    from mmengine.registry import MODELS, init_default_scope

    from vil_dense.mm.cli.arguments import load_config
    from vil_dense.mm.engine.resolve.config import resolve_norm

    init_default_scope("mmseg")
    assert case.config is not None
    cfg = load_config(case.config)
    backbone = cfg.model.backbone
    backbone.pop("init_cfg", None)
    feature_maps = backbone.out_indices
    if case.depth:
        feature_maps = [max(0, (n + 1) * case.depth // len(feature_maps) - 1) for n in range(len(feature_maps))]
    if case.dim:
        cfg.model.decode_head.in_channels = [case.dim] * len(feature_maps)
        if cfg.model.get("neck"):
            cfg.model.neck.embed_dim = case.dim
        cfg.model.auxiliary_head.in_channels = case.dim
    shape = {key: value for key, value in (("dim", case.dim), ("depth", case.depth)) if value}
    backbone.update(out_indices=feature_maps, **shape, **options)
    if attention:
        shape = {key: vit_options(case)[key] for key in ("dim", "depth", "num_heads")}
        backbone.update(variant="deit3-tiny", out_indices=[feature_map // 2 for feature_map in feature_maps], **shape)
    if case.whole:
        cfg.model.test_cfg = dict(mode="whole")
    resolve_norm(cfg, world_size=1, cuda=case.device.type == "cuda")
    return MODELS.build(cfg.model)


def segmentor(case: Case, attention: bool = False, compiled: bool = False) -> Contestant:
    """Runs a test's preprocessing, windows and best class, as mmseg does."""
    model = seeded(partial(build_segmentor, case, attention), case)
    if not compiled:
        return Contestant(
            "vit" if attention else "ours", partial(predict, model, case), (check_exact(model, case, attention),)
        )
    eager, blocks = copy.deepcopy(model), model.backbone.net
    if attention:
        compile_each(blocks.blocks, case)
    else:
        refuse_uncompiled(case)
        blocks.compile_blocks()
    check = check_network(case, "eager", lambda: logits(model, case), lambda: logits(eager, case))
    return Contestant("vit" if attention else "ours", partial(predict, model, case), (check,))


def samples(case: Case) -> dict[str, list]:
    """Makes the input of mmseg's preprocessor: pictures (3, H, W) of uint8, each at its own size."""
    from mmseg.structures import SegDataSample

    images = [(picture * 64 + 128).clamp(0, 255).to(torch.uint8) for picture in pictures(case).cpu()]
    shape = (case.size, case.size)
    return dict(
        inputs=images,
        data_samples=[SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape)) for _ in images],
    )


def predict(model: Any, case: Case) -> list:
    """Runs mmseg's `test_step` on the pictures of the case."""
    with torch.no_grad(), case.autocast():
        return model.test_step(samples(case))


def logits(model: Any, case: Case) -> dict[str, Tensor]:
    """Returns the logits of `predict`, stacked."""
    return {"output": torch.stack([sample.seg_logits.data for sample in predict(model, case)])}


def check_exact(model: Any, case: Case, attention: bool) -> Check:
    """Compares logits of one picture with float64 and the parallel form of the mLSTM."""
    side = min(case.size, EXACT_PX["parallel"])

    def measured(model: Any, case: Case) -> dict[str, Tensor]:
        with torch.no_grad(), case.autocast():
            return {"output": model(case.random(1, 3, side, side, dtype=case.input_dtype), mode="tensor")}

    def expected() -> dict[str, Tensor]:
        exact = build_segmentor(case, attention, **({} if attention else dict(backend="parallel")))
        exact.load_state_dict(model.state_dict())
        return measured(exact.double().to(case.device).eval(), replace(case, dtype=torch.float64))

    against = f"float64, {side} px" if attention else f"parallel, float64, {side} px"
    return check_network(case, against, lambda: measured(model, case), expected)
