"""Tests the classifier on the Runner: official losses step by step, weights in and out, resumed runs, commands."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from golden_cases import assert_near, build, names, part, read
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from refusals import raises_one_line
from torch.utils.data import Dataset

from vil_dense.backbones.checkpoint import to_own
from vil_dense.mm import ImageClassifier
from vil_dense.mm.evaluation.metrics import TopAccuracy

TINY = dict(variant="vil-tiny", dim=32, depth=2, grid=(2, 2))


class Batch(Dataset):
    """Gives one batch again and again, sample by sample."""

    metainfo: ClassVar[dict] = dict(classes=())

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor, times: int) -> None:
        self.inputs, self.labels, self.times = inputs, labels, times

    def __len__(self) -> int:
        return self.times * len(self.inputs)

    def __getitem__(self, index: int) -> dict:
        index %= len(self.inputs)
        return dict(inputs=self.inputs[index], labels=self.labels[index])


class Losses(Hook):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append(outputs["loss"].item())


def train(model: ImageClassifier, data: Dataset, batch_size: int, work_dir: Path, **optimizer) -> list[float]:
    """Returns the loss of each step of one pass over `data`, by the Runner."""
    init_default_scope("mmengine")
    hook = Losses()
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=dict(
            dataset=data,
            batch_size=batch_size,
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="default_collate"),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=ConfigDict(
            type="OptimWrapper",
            constructor="ViLLayerDecay",
            optimizer=dict(type="AdamW", **optimizer),
            clip_grad=dict(max_norm=1.0),
        ),
        default_hooks=dict(checkpoint=None, logger=None),
        custom_hooks=[hook],
        log_level="ERROR",
        experiment_name=work_dir.name,
    )
    runner.train()
    return hook.losses


@names("dyn_")
def test_training_dynamics_by_the_runner(name: str, tmp_path: Path):
    """Tests that Runner, groups, clipping, loss and preprocessor give the official losses over AdamW steps."""
    meta, tensors = read(name)
    net, layout, direction = build(meta, part(tensors, "state."))
    model = ImageClassifier(
        **TINY, num_classes=net.head.out_features, data_preprocessor=dict(type="PicturePreprocessor")
    )
    model.net = net
    model = model.double()
    expected = tensors["losses"].double().tolist()
    data = Batch(tensors["input"].double(), tensors["target"].double(), len(expected))
    losses = train(model, data, len(tensors["input"]), tmp_path, lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05)
    assert len(losses) == len(expected)
    for step, (loss, theirs) in enumerate(zip(losses, expected, strict=True)):
        assert loss == pytest.approx(theirs, abs=1e-8 if step < 10 else 1e-6), f"step {step}"
    for key, value in to_own(part(tensors, "final."), direction=direction, layout=layout).items():
        assert_near(model.net.get_parameter(key).detach(), value, 1e-6, key)


def test_loss_of_indices_is_that_of_one_hot_shares():
    torch.manual_seed(0)
    model = ImageClassifier(**TINY, num_classes=5)
    torch.nn.init.normal_(model.net.head.weight)
    pictures, labels = torch.randn(3, 3, 32, 32), torch.tensor([4, 0, 2])
    shares = torch.nn.functional.one_hot(labels, 5).float()
    losses = [model(pictures, target, mode="loss")["loss"] for target in (labels, shares)]
    expected = -model(pictures).log_softmax(-1)[range(3), labels].mean()
    torch.testing.assert_close(losses, [expected, expected])


def test_a_loss_without_labels_is_refused():
    with pytest.raises(ValueError, match="needs labels"):
        ImageClassifier(**TINY, num_classes=5)(torch.randn(1, 3, 32, 32), mode="loss")


def test_predictions_are_probabilities_in_the_order_of_the_batch():
    model = ImageClassifier(**TINY, num_classes=5).eval()
    torch.nn.init.normal_(model.net.head.weight)
    batch = dict(inputs=torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8).float(), labels=torch.tensor([4, 0, 2]))
    with torch.no_grad():
        found = model.val_step(batch)
        torch.testing.assert_close(torch.stack([row["scores"] for row in found]), model(batch["inputs"]).softmax(-1))
    assert [row["label"] for row in found] == [4, 0, 2]


def test_top_accuracy_by_hand():
    metric = TopAccuracy()
    metric.dataset_meta = dict(classes=tuple("abcdefg"))
    ranking = torch.tensor([0.3, 0.2, 0.15, 0.13, 0.12, 0.06, 0.04])  # classes 0, 1, ... 6 by score
    metric.process(None, [dict(scores=ranking, label=label) for label in (0, 0, 1, 4, 5)])
    assert metric.evaluate(5) == dict(top1=40.0, top5=80.0)
    assert metric.per_class[:2] == [("a", 100.0, 2), ("b", 0.0, 1)] and np.isnan(metric.per_class[2][1])
    metric.dataset_meta = dict(classes=tuple("abc"))
    metric.process(None, [dict(scores=ranking[:3], label=1)])
    assert metric.evaluate(1) == dict(top1=0.0)


@pytest.mark.parametrize("classes", [10, 4])
@pytest.mark.parametrize("name", ["ckpt_raw_v1_d64_64", "ckpt_raw_v2_d64_64"])
def test_published_weights(name: str, classes: int, tmp_path: Path):
    """Loads a file in the authors' layout: the same logits; a head for other classes is new, all else is theirs."""
    try:
        meta, tensors = read(name)
    except FileNotFoundError:
        pytest.skip(f"no golden case {name}: set VIL_DENSE_GOLDEN to the folder that holds it")
    raw = part(tensors, "raw.")
    path = tmp_path / "published.th"
    torch.save(dict(state_dict=raw, ctor_kwargs=dict(kind="x")), path)
    variant, depth = ("vil-tiny", 1) if "_v1_" in name else ("vil2-tiny", 2)
    options = dict(variant=variant, dim=64, depth=depth * meta["kwargs"]["depth"], grid=(4, 4))
    model = ImageClassifier(**options, num_classes=classes, init_cfg=dict(type="Pretrained", checkpoint=str(path)))
    model.init_weights()
    own = to_own(raw)
    for key, value in model.net.state_dict().items():
        if not key.startswith("head.") or classes == 10:
            torch.testing.assert_close(value, own[key], rtol=0, atol=0)
    if classes == 10:
        torch.testing.assert_close(model.weights_as_ours(raw), model.state_dict(), rtol=0, atol=0)
        logits = model.double().eval()(tensors["input"].double())
        assert_near(logits, tensors.get("output_training_code", tensors["output"]), 2e-5, "output")


def test_positions_are_resized_and_wrong_weights_refused(tmp_path: Path):
    trained = ImageClassifier(**TINY, num_classes=5)
    path = tmp_path / "run.pth"
    torch.save(dict(state_dict=trained.state_dict()), path)
    init = dict(type="Pretrained", checkpoint=str(path))
    model = ImageClassifier(**{**TINY, "grid": (3, 3)}, num_classes=5, init_cfg=init)
    model.init_weights()
    assert model.net.pos_embed.embed.shape == (1, 3, 3, 32)
    torch.testing.assert_close(model.net.head.weight, trained.net.head.weight, rtol=0, atol=0)
    deeper = ImageClassifier(**{**TINY, "depth": 3}, num_classes=5, init_cfg=init)
    with raises_one_line(ValueError, "run.pth", "2 blocks"):
        deeper.init_weights()


def test_config_names_what_is_unknown():
    init_default_scope("mmengine")
    with raises_one_line(ValueError, "'vil9'"):
        MODELS.build(dict(type="ImageClassifier", variant="vil9"))
    with raises_one_line(ValueError, "num_classes"):
        MODELS.build(dict(type="PicturePreprocessor", mixup=0.8))
