"""Refuses what a config cannot be, before anything is built: each sentence names the place and what is known."""

import copy

import pytest
from config_files import BY_NAME
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.models import FCNHead
from mmseg.models.necks import Feature2Pyramid
from refusals import raises_one_line

from vil_dense.mm.engine.checks.components import check_components, check_norms, near_names
from vil_dense.mm.engine.checks.numbers import check_numbers

SAMPLE = Config.fromfile(BY_NAME["vil_upernet_sample"])
STEP, HEAD = "train_dataloader.dataset.pipeline.3", "model.decode_head"


@pytest.fixture(autouse=True)
def scope() -> None:
    DefaultScope._instance_dict.clear()
    init_default_scope("mmseg")


def config(**options: object) -> Config:
    """Returns the sample's config with options, whose dots are written as two underscores."""
    cfg = copy.deepcopy(SAMPLE)
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    return cfg


@pytest.mark.parametrize(
    ("place", "name", "near"),
    [
        ("optim_wrapper.type", "OptimWraper", "OptimWrapper"),
        ("optim_wrapper.optimizer.type", "AdamWW", "AdamW"),
        ("optim_wrapper.constructor", "ViLayerDecay", "ViLLayerDecay"),
        ("param_scheduler.0.type", "LinearR", "LinearLR"),
        ("model.backbone.type", "ViLL", "ViL"),
        ("model.neck.type", "FeaturePyramid", "Feature2Pyramid"),
        ("model.neck.norm_cfg.type", "BNN", "BN"),
        ("model.neck.norm_cfg.type", "Batch", "SyncBN"),
        (f"{HEAD}.type", "UperHead", "UPerHead"),
        (f"{HEAD}.act_cfg.type", "RELU", "ReLU"),
        (f"{HEAD}.loss_decode.type", "CrossEntropy", "CrossEntropyLoss"),
        (f"{HEAD}.sampler.type", "OHEM", "OHEMPixelSampler"),
        (f"{HEAD}.init_cfg.type", "Norml", "Normal"),
        (f"{STEP}.type", "RandomCrp", "RandomCrop"),
        ("train_dataloader.dataset.type", "SampelDataset", "SampleDataset"),
        ("val_dataloader.sampler.type", "DefaultSampeler", "DefaultSampler"),
        ("val_evaluator.type", "IoU", "IoUMetric"),
        ("custom_hooks.0.type", "StepSeed", "StepSeedHook"),
        ("default_hooks.ema.type", "EMA", ""),
        ("train_cfg.type", "IterBasedLoop", "IterBasedTrainLoop"),
    ],
)
def test_an_unknown_name_is_told_with_its_place(place: str, name: str, near: str) -> None:
    with raises_one_line(ValueError, place, f"{name} is not in", near):
        check_components(config(**{place: name}))


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("optim_wrapper.optimizer.beta", ("AdamW", "betas")),
        (f"{HEAD}.channel", ("UPerHead", "channels", "num_classes")),
        (f"{STEP}.crop", ("RandomCrop", "crop_size", "_delete_")),
        (f"{HEAD}.loss_decode.class_weights", ("CrossEntropyLoss", "class_weight")),
        ("default_hooks.checkpoint.safe_best", ()),
    ],
)
def test_an_unknown_option_is_told_with_its_place(place: str, named: tuple[str, ...]) -> None:
    cfg = config(**{place: 3})
    if not named:  # a hook that takes all options: MMEngine refuses it when it is built
        check_components(cfg)
        return
    with raises_one_line(ValueError, place, *named):
        check_components(cfg)


def test_a_loss_that_inherits_the_options_of_another() -> None:
    with raises_one_line(ValueError, f"{HEAD}.loss_decode.avg_non_ignore", "DiceLoss", "_delete_=True"):
        check_components(config(model__decode_head__loss_decode__type="DiceLoss"))


@pytest.mark.parametrize("place", ["val_dataloader", "test_dataloader.dataset"])
def test_a_list_of_data_sets(place: str) -> None:
    with raises_one_line(ValueError, place, "2", "ConcatDataset"):
        check_components(config(**{place: [dict(type="SampleDataset")] * 2}))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({f"{STEP}.crop_size": (0, 0)}, ("crop_size", "step 3", "(0, 0)")),
        ({f"{STEP}.crop_size": "large"}, ("crop_size", "'large'")),
        ({"model.data_preprocessor.size": (32, 128)}, ("size is (32, 128)", "(128, 128)")),
        ({"optim_wrapper.clip_grad.max_norm": 0}, ("optim_wrapper.clip_grad.max_norm", "greater than 0")),
        ({"optim_wrapper.clip_grad.max_norm": -1}, ("optim_wrapper.clip_grad.max_norm", "got -1")),
        ({"optim_wrapper.paramwise_cfg.layer_decay_rate": -1}, ("layer_decay_rate", "got -1")),
        ({f"{HEAD}.loss_decode.loss_weight": -0.5}, (f"{HEAD}.loss_decode.loss_weight", "-0.5")),
        ({f"{HEAD}.channels": 0}, (f"{HEAD}.channels", "got 0")),
        ({f"{HEAD}.in_index": [0, 1, 2, 4]}, (f"{HEAD}.in_index", "map 4", "there are 4")),
        ({"model.data_preprocessor.size": (0, 64)}, ("model.data_preprocessor.size", "(0, 64)")),
        ({"model.test_cfg.mode": "slid"}, ("model.test_cfg.mode", "'slid'")),
        ({"model.test_cfg.mode": "slide"}, ("model.test_cfg.crop_size",)),
        ({"model.test_cfg": dict(mode="slide", crop_size=(64, 64), stride=(0, 0))}, ("stride", "(0, 0)")),
        ({"model.test_cfg": dict(mode="slide", crop_size=(64, 64), stride=(80, 64))}, ("(80, 64)", "(64, 64)")),
        ({"default_hooks.watch.max_skipped": -1}, ("default_hooks.watch.max_skipped", "got -1")),
        ({"train_cfg.max_iters": 0}, ("train_cfg.max_iters", "got 0")),
        ({"train_dataloader.batch_size": 0}, ("train_dataloader.batch_size", "got 0")),
        ({"optim_wrapper.optimizer.lr": -1e-3}, ("optim_wrapper.optimizer.lr", "-0.001")),
    ],
    ids=str,
)
def test_a_number_that_cannot_be(options: dict[str, object], named: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *named):
        check_numbers(config(**options))


def test_numbers_that_can_be() -> None:
    check_numbers(config(**{f"{STEP}.crop_size": 128, "optim_wrapper.clip_grad": None, "model.neck": None}))
    check_numbers(config(**{"model.test_cfg": dict(mode="slide", crop_size=(64, 64), stride=(64, 32))}))


def test_one_number_of_px_becomes_a_pair_which_mmseg_reads() -> None:
    cfg = config(**{"model.test_cfg": dict(mode="slide", crop_size=64, stride=48), "model.data_preprocessor.size": 128})
    cfg.merge_from_dict({f"{STEP}.crop_size": 128})
    check_numbers(cfg)
    assert (cfg.model.test_cfg.crop_size, cfg.model.test_cfg.stride) == ((64, 64), (48, 48))
    assert cfg.model.data_preprocessor.size == cfg.train_dataloader.dataset.pipeline[3].crop_size == (128, 128)


@pytest.mark.parametrize(
    "names",
    [
        ["vil_imagenet", "vil_unet3d_sample", "vil_upernet_ade20k", "dynunet_2k_hippocampus-equal"],
        pytest.param(list(BY_NAME), marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_configs_pass(names: list[str]) -> None:
    for name in names:
        cfg = Config.fromfile(BY_NAME[name])
        DefaultScope._instance_dict.clear()
        init_default_scope(cfg.default_scope)
        check_components(cfg)
        check_numbers(cfg)


def test_a_layer_norm_over_the_width() -> None:
    class Segmentor(BaseModule):
        def __init__(self, **options: object) -> None:
            super().__init__()
            self.decode_head = FCNHead(in_channels=4, channels=4, num_classes=3, **options)

    with raises_one_line(ValueError, "model.decode_head.norm_cfg", "GN"):
        check_norms(Segmentor(norm_cfg=dict(type="LN")))
    check_norms(Segmentor(norm_cfg=dict(type="GN", num_groups=1)))
    model = Segmentor(norm_cfg=dict(type="BN"))
    model.neck = Feature2Pyramid(embed_dim=4, norm_cfg=dict(type="LN"))
    with raises_one_line(ValueError, "model.neck.norm_cfg", "GN"):
        check_norms(model)


def test_near_names_do_not_depend_on_case() -> None:
    assert near_names("RELU", ["ELU", "ReLU", "Tanh"]).index("ReLU") < near_names("RELU", ["ELU", "ReLU"]).index("ELU")
    assert near_names("x", ["ReLU"]) == ""
