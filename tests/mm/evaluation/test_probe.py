"""Tests nearest neighbours and the linear classifier on hand-computed and separable cases; the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_command import run_command

from vil_dense.mm.evaluation import probe
from vil_dense.mm.models.classifier import ImageClassifier


def test_neighbours_vote_by_cosine_and_temperature() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 5.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 2])
    test = torch.tensor([[2.0, 2.0], [3.0, 4.0]])
    scores = probe.knn_scores(train, labels, test, classes=3, k=3, temperature=0.5)
    # relative to a cosine of 1: class 0 votes exp((c - 1) / 0.5) once, class 1 twice, class 2 is the fourth nearest
    c = torch.tensor([[2**-0.5, 2**-0.5], [0.6, 0.8]])
    votes = ((c - 1) / 0.5).exp() * torch.tensor([1.0, 2.0])
    torch.testing.assert_close(scores, torch.cat([votes, torch.zeros(2, 1)], 1))
    nearest = probe.knn_scores(train, labels, torch.tensor([[-2.0, 0.1]]), classes=3, k=9)
    assert nearest.argmax() == 2, "with fewer training vectors than k all vote"


def test_the_length_of_a_vector_does_not_vote() -> None:
    torch.manual_seed(0)
    train, labels, test = torch.randn(40, 6), torch.arange(40) % 4, torch.randn(9, 6)
    scores = probe.knn_scores(train, labels, test, 4)
    torch.testing.assert_close(probe.knn_scores(train * torch.rand(40, 1) * 9, labels, 7 * test, 4), scores)


def noisy(per_class: int, noise: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws three classes around (1, 0, 0), (0, 1, 0), (0, 0, 1), and twenty channels that say nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat(per_class)
    x = torch.cat([torch.eye(3)[labels], torch.zeros(len(labels), 20)], 1)
    return x + noise * torch.randn(x.shape, generator=generator), labels


def test_linear_classifier_separates_what_is_separable() -> None:
    train, labels = noisy(20, 0.05, 0)
    test, truth = noisy(30, 0.05, 1)
    scores, l2 = probe.linear_scores(train * 1e3 + 5, labels, test * 1e3 + 5, 3)
    assert probe.top_accuracy(scores, truth, 1) == 100 and l2 in probe.L2S
    wrong, _ = probe.linear_scores(train, labels.roll(1), test, 3)
    assert probe.top_accuracy(wrong, truth, 1) < 50


def test_the_penalty_is_chosen_on_the_training_set_alone() -> None:
    """Takes little data and much noise, which a penalty of 1e-6 remembers; this must show without `test`."""
    train, labels = noisy(10, 0.6, 0)
    test, truth = noisy(200, 0.6, 1)
    scores, l2 = probe.linear_scores(train, labels, test, 3)
    assert l2 >= 1e-2
    torch.testing.assert_close(probe.linear_scores(train, labels, -9 * test, 3)[1], l2)
    overfit, _ = probe.linear_scores(train, labels, test, 3, l2s=[1e-6])
    assert probe.top_accuracy(scores, truth, 1) > probe.top_accuracy(overfit, truth, 1)


def test_linear_classifier_is_the_optimum() -> None:
    train, labels = noisy(10, 0.6, 0)
    layer = probe._fit(train, labels, 3, 0.1).requires_grad_(True)
    (torch.nn.functional.cross_entropy(layer(train), labels) + 0.05 * layer.weight.square().sum()).backward()
    torch.testing.assert_close(layer.weight.grad, torch.zeros_like(layer.weight), rtol=0, atol=1e-4)


def test_held_out_takes_a_fifth_of_each_class() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] * 4)
    held = probe._held_out(labels, 0)
    assert [int(held[labels == k].sum()) for k in range(3)] == [2, 1, 0]
    assert not torch.equal(held, probe._held_out(labels, 1))


def test_features_are_what_the_head_reads() -> None:
    torch.manual_seed(0)
    model = ImageClassifier("vil2-tiny", dim=32, depth=2, grid=(2, 2), num_classes=3, drop_path=0.5).train()
    torch.nn.init.normal_(model.net.head.weight)
    batch = dict(inputs=torch.randn(4, 3, 32, 32), labels=torch.tensor([0, 1, 2, 0]))
    vectors, labels = probe.features(model, [batch, batch])
    assert vectors.shape == (8, 64) and labels.tolist() == [0, 1, 2, 0] * 2
    torch.testing.assert_close(model.net.head(vectors[:4]), model.eval()(batch["inputs"]))


def test_top() -> None:
    scores = torch.tensor([[3.0, 2, 1], [1, 2, 3], [1, 3, 2]])
    assert probe.top_accuracy(scores, torch.tensor([0, 0, 2]), 1) == pytest.approx(100 / 3)
    assert probe.top_accuracy(scores, torch.tensor([0, 0, 2]), 2) == pytest.approx(200 / 3)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for shade, name in enumerate(("dark", "light")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(150 * shade, 150 * shade + 60, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{index}.png")
    torch.manual_seed(0)
    weights = ImageClassifier("vil2-tiny", dim=32, depth=2, grid=(3, 3), num_classes=7).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / "run.pth")
    line = f"studies/probe configs/camvid/vil2-6x64_8e_camvid-crops-96.py {tmp_path}/run.pth --k 3"
    line += f" --data-root {tmp_path}/data --work-dir {tmp_path}/out --cfg-options model.dim=32 model.depth=2"
    line += " model.grid=3,3 val_dataloader.num_workers=0 val_dataloader.persistent_workers=False"
    assert run_command(line, monkeypatch) == 0
    content = json.loads((tmp_path / "out/probe.json").read_text())
    assert content["pictures"] == dict(train=12, val=4) and content["channels"] == 64
    assert {row["check"]: row["top1"] for row in content["checks"]} == dict(knn=100.0, linear=100.0)
    assert "k = 3" in content["checks"][0]["rule"]
    with (tmp_path / "out/probe.csv").open() as file:
        assert [(row["check"], row["top1"]) for row in csv.DictReader(file)] == [
            ("knn", "100.00"),
            ("linear", "100.00"),
        ]
    assert "knn: top1 100.00 (cosine, k = 3, votes weighted by exp(cosine / 0.07))" in capsys.readouterr().out
