"""Tests that every segmentor of pictures builds whole, has one crop size, and shrunk takes a training step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from config_files import BY_NAME
from config_files import SEGMENTORS as CONFIGS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from necks import NECKS, neck
from PIL import Image

from vil_dense.mm.engine.resolve.config import resolve_norm
from vil_dense.mm.evaluation.protocols import describe

ROOT = Path(__file__).parents[2]
# Official counts (backbone for 512 px, pyramid, UperNet, auxiliary head), reference of the ViL paper's code.
PARAMETERS = {
    "vil_upernet_ade20k": 6_164_352 + 443_328 + 4_272_918 + 361_110,
    "vil2-s_upernet_1xb16-160k_ade20k-512x512": 22_945_344 + 1_771_392 + 17_024_406 + 1_385_622,
    "vil2-b_upernet_1xb16-160k_ade20k-512x512": 88_357_824 + 7_081_728 + 19_383_702 + 2_712_726,
}

each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def read(path: Path) -> Config:
    init_default_scope("mmseg")
    return Config.fromfile(path)


def shrink(cfg: Config, dim: int = 32, classes: int = 5) -> None:
    """Returns the config with the same kinds of parts, few channels, two blocks and pictures of 64 px."""
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.decode_head.update(in_channels=[dim] * 4, channels=16, num_classes=classes)
    if cfg.model.auxiliary_head:
        cfg.model.auxiliary_head.update(in_channels=dim, channels=16, num_classes=classes)
    for head in filter(None, (cfg.model.decode_head, cfg.model.auxiliary_head)):
        for loss in head.loss_decode if isinstance(head.get("loss_decode"), list) else ():
            if loss.get("class_weight"):
                loss.class_weight = loss.class_weight[:classes]
    if "num_points" in cfg.model.decode_head:
        cfg.model.decode_head.num_points = 64
    if cfg.model.backbone.type == "HierViL":
        cfg.model.backbone.update(dims=(dim,) * 4, depths=(1, 1, 1, 1), drop_path=0.0)
        return
    cfg.model.backbone.update(dim=dim, depth=2, out_indices=(0, 0, 1, 1), grid=(4, 4))
    if cfg.model.backbone.variant.startswith("deit3"):
        cfg.model.backbone.num_heads = 2
    if cfg.model.neck:
        cfg.model.neck.embed_dim = dim


def batch(size: int, classes: int = 5, side: int = 64) -> dict:
    """Returns random pictures with random labels, as a data loader gives them."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(size):
        sample = SegDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side)))
        sample.gt_sem_seg = PixelData(data=torch.randint(classes, (1, side, side), generator=generator))
        samples.append(sample)
    pictures = [torch.randint(256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(size)]
    return dict(inputs=pictures, data_samples=samples)


def train_step(cfg: Config, batch_size: int) -> dict[str, torch.Tensor]:
    cfg.train_dataloader.batch_size = batch_size
    resolve_norm(cfg, world_size=1, cuda=False)
    model = MODELS.build(cfg.model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = model.train().train_step(batch(batch_size), build_optim_wrapper(model, cfg.optim_wrapper))
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert not still, f"not trained: {still}"
    return losses


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_the_official_ones(name: str):
    cfg = read(BY_NAME[name])
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@each_config
def test_pipelines_build(path: Path):
    cfg = read(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            TRANSFORMS.build(step)


@each_config
def test_one_crop_size(path: Path):
    """Tests that pipeline, preprocessor, position embedding and windows agree, which MMEngine does not derive."""
    cfg = read(path)
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    patch = cfg.model.backbone.get("patch_size", 16)
    assert cfg.crop_size == steps["RandomCrop"].crop_size == cfg.model.data_preprocessor.size
    if cfg.model.backbone.type == "ViL":
        assert cfg.crop_size == tuple(patch * cells for cells in cfg.model.backbone.grid)
    assert cfg.model.test_cfg.mode == "whole" or cfg.model.test_cfg.crop_size == cfg.crop_size


@each_config
def test_shrunk_takes_a_step(path: Path):
    cfg = read(path)
    shrink(cfg)
    losses = train_step(cfg, batch_size=2)
    assert torch.isfinite(losses["loss"])


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("name", NECKS)
def test_every_neck_trains_at_every_batch(name: str, batch_size: int):
    cfg = read(ROOT / "configs/vil_upernet_ade20k.py")
    shrink(cfg)
    cfg.model.neck = neck(name, 32, dict(type="SyncBN"))
    assert torch.isfinite(train_step(cfg, batch_size)["loss"])


def test_the_control_differs_in_the_blocks_alone():
    """Compares the two CamVid configs: only blocks, feature maps, layers and LayerScale may differ."""
    ours, control = (read(BY_NAME[f"{name}_upernet_1xb4-1200_camvid-256x256"]) for name in ("vil2-t", "deit3-t"))
    for cfg in (ours, control):
        for key in ("variant", "out_indices", "layerscale"):
            cfg.model.backbone.pop(key, None)
        cfg.optim_wrapper.paramwise_cfg.pop("blocks_per_layer")
    assert ours.to_dict() == control.to_dict()


@pytest.mark.parametrize("control", ["attention", "dwconv", "identity"])
def test_controls_of_the_pyramid_differ_in_the_sequence_block_alone(control: str):
    run = "_upernet_1xb4-1200_camvid-256x256"
    ours, other = read(BY_NAME[f"hiervil-t{run}"]), read(BY_NAME[f"hiervil-t-{control}{run}"])
    assert other.model.backbone.pop("sequence") == control
    assert ours.to_dict() == other.to_dict()
    plain = read(BY_NAME[f"vil2-t{run}"])
    for key in ("train_dataloader", "val_dataloader", "optim_wrapper", "param_scheduler", "train_cfg"):
        assert ours[key] == plain[key], key


def test_1024_doubles_every_size():
    cfg = read(ROOT / "configs/ade20k/vil2-t_upernet_1xb16-160k_ade20k-1024x1024.py")
    resize, crop = cfg.train_dataloader.dataset.pipeline[3:5]
    assert (resize.scale, crop.crop_size) == ((4096, 1024), (1024, 1024))
    assert cfg.val_dataloader == cfg.test_dataloader and cfg.test_dataloader.dataset.pipeline[1].scale == (4096, 1024)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vil_upernet_ade20k", "short side 512, windows of 512 every 341"),
        ("vil2-t_upernet_1xb16-160k_ade20k-1024x1024", "short side 1024, windows of 1024 every 682"),
        ("vil2-t_upernet_1xb4-1200_camvid-256x256", "own size, whole picture"),
        ("vil_upernet_sample", "own size, whole picture"),
    ],
)
def test_protocol_in_words(name: str, words: str):
    assert describe(read(BY_NAME[name]), "val") == words


@pytest.mark.parametrize("name", ["ade20k", "ade20k_1024x1024"])
def test_ade20k_is_scaled_with_antialiasing_as_by_the_authors(name: str):
    """Compares with PIL, by which the authors scale: its bicubic filter covers all pixels of a smaller one."""
    cfg = Config.fromfile(ROOT / f"configs/_base_/datasets/{name}.py")
    step = next(step for step in cfg.train_pipeline if step.type == "RandomResize")
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    resize = TRANSFORMS.build({**step, "scale": (400, 100), "ratio_range": (1.0, 1.0)})
    scaled = resize(dict(img=image, img_shape=image.shape[:2]))["img"]
    np.testing.assert_array_equal(
        scaled, np.asarray(Image.fromarray(image).resize((150, 100), Image.Resampling.BICUBIC))
    )
