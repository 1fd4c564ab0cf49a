"""Evaluates a frozen backbone by nearest neighbours and a linear classifier on its pooled features."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader

L2S = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@torch.no_grad()
def features(
    model: BaseModel, loader: DataLoader, report: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Tensor, Tensor]:
    """Returns what `pooled` of a model gives for all pictures, (N, C) float32 on the CPU, and the labels (N,).

    The model is an `ImageClassifier` or a `MaskedImageModel`; it is put into evaluation mode.
    """
    model.eval()
    vectors, labels = [], []
    for done, data in enumerate(loader, 1):
        batch = model.data_preprocessor(data, training=False)
        vectors.append(model.pooled(batch["inputs"]).float().cpu())
        labels.append(batch["labels"].cpu())
        report(done, len(loader))
    return torch.cat(vectors), torch.cat(labels)


def knn_scores(
    train: Tensor, labels: Tensor, test: Tensor, classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Returns (N, classes) votes of the k training vectors nearest by cosine, weighted by exp(cosine / temperature).

    This is the rule of arXiv 1805.01978 and 2104.14294. With fewer than k training vectors all of them vote.
    """
    bank, k = F.normalize(train), min(k, len(train))
    scores = []
    for part in F.normalize(test).split(1024):
        cosine, nearest = (part @ bank.mT).topk(k)
        votes = F.one_hot(labels[nearest], classes) * ((cosine - 1) / temperature).exp()[..., None]
        scores.append(votes.sum(1))
    return torch.cat(scores)


def linear_scores(
    train: Tensor, labels: Tensor, test: Tensor, classes: int, l2s: Sequence[float] = L2S, seed: int = 0
) -> tuple[Tensor, float]:
    """Fits a linear classifier on frozen features; returns its logits (N, classes) and its L2 penalty.

    Features are standardised by mean and deviation of the training set. The penalty is the one of `l2s` with the best
    accuracy on a fifth of each training class, held out by `seed` (of equals the larger one); the final classifier is
    fitted to the whole training set.
    """
    mean, deviation = train.mean(0), train.std(0, correction=0).clamp_min(1e-6)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    held = _held_out(labels, seed)
    if not held.any() or len(l2s) == 1:
        best = max(l2s)
    else:
        right = {
            l2: top_accuracy(_fit(train[~held], labels[~held], classes, l2)(train[held]), labels[held], 1)
            for l2 in sorted(l2s)
        }
        best = max(right, key=lambda l2: (right[l2], l2))
    with torch.no_grad():
        return _fit(train, labels, classes, best)(test), best


def top_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Returns the percentage of rows whose label is among the k highest scores."""
    return 100 * (scores.topk(k).indices == labels[:, None]).any(1).double().mean().item()


def _held_out(labels: Tensor, seed: int) -> Tensor:
    """Marks a random fifth of the members of each class; returns a boolean mask (N,)."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = torch.nonzero(labels == label).flatten()
        held[members[torch.randperm(len(members), generator=generator)[: len(members) // 5]]] = True
    return held


def _fit(x: Tensor, labels: Tensor, classes: int, l2: float) -> nn.Linear:
    """Fits a logistic regression by L-BFGS: mean cross-entropy plus l2 / 2 times the squared weights."""
    layer = nn.Linear(x.shape[1], classes, device=x.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), labels) + l2 / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer.requires_grad_(False)
