"""Tests mixup and cutmix against values written out by hand; what a batch may become."""

import pytest
import torch
from torch.distributions import Beta

from vil_dense.mm.models import data_preprocessor
from vil_dense.mm.models.data_preprocessor import PicturePreprocessor, cutmix, cutmix_box, mixup


def numbered(count: int, height: int = 4, width: int = 6) -> torch.Tensor:
    """Returns pictures filled with 0, 1, 2, ..."""
    return torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, height, width).contiguous()


def test_mixup_by_hand():
    """Mixes 0 with 3 and 1 with 2; a quarter is the partner's."""
    mixed, targets = mixup(numbered(4), torch.eye(4), 0.75)
    torch.testing.assert_close(mixed[:, 0, 0, 0], torch.tensor([0.75, 1.25, 1.75, 2.25]))
    expected = torch.tensor([[0.75, 0, 0, 0.25], [0, 0.75, 0.25, 0], [0, 0.25, 0.75, 0], [0.25, 0, 0, 0.75]])
    torch.testing.assert_close(targets, expected)


@pytest.mark.parametrize(
    ("share", "centre", "box"),
    [
        # half sides floor(0.5 * sqrt(1 - 0.75) * 8) = 2 and floor(0.5 * 0.5 * 10) = 2
        (0.75, (4, 5), (2, 6, 3, 7)),
        (0.75, (0, 5), (0, 2, 3, 7)),
        (0.75, (7, 9), (5, 8, 7, 10)),
        (0.0, (4, 5), (0, 8, 0, 10)),
        (0.0, (1, 2), (0, 5, 0, 7)),
        (1.0, (4, 5), (4, 4, 5, 5)),
        # floor(0.5 * sqrt(0.5) * 8) = floor(2.83) and floor(0.5 * sqrt(0.5) * 10) = floor(3.54)
        (0.5, (4, 5), (2, 6, 2, 8)),
    ],
)
def test_boxes_by_hand(share: float, centre: tuple[int, int], box: tuple[int, int, int, int]):
    assert cutmix_box(share, centre, (8, 10)) == box


def test_cutmix_by_hand():
    """Cuts a box of 2 x 3 of 4 x 6 px, a quarter: what is left, 0.75, is the picture's own share."""
    pictures = numbered(4)
    mixed, targets = cutmix(pictures, torch.eye(4), (1, 3, 2, 5))
    inside = torch.zeros(4, 6, dtype=torch.bool)
    inside[1:3, 2:5] = True
    for own, partner in ((0, 3), (1, 2), (2, 1), (3, 0)):
        torch.testing.assert_close(mixed[own, 0], torch.where(inside, float(partner), float(own)))
        assert targets[own, own] == 0.75 and targets[own, partner] == 0.25
    torch.testing.assert_close(pictures, numbered(4), rtol=0, atol=0)


def test_normalises_and_leaves_alone_outside_training():
    preprocessor = PicturePreprocessor([10.0, 20.0, 30.0], [2.0, 4.0, 5.0], num_classes=3, mixup=0.8, cutmix=1.0)
    batch = dict(inputs=torch.full((2, 3, 2, 2), 50, dtype=torch.uint8), labels=torch.tensor([0, 2]))
    out = preprocessor(batch, training=False)
    expected = torch.tensor([20.0, 7.5, 4.0]).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    torch.testing.assert_close(out["inputs"], expected)
    assert out["labels"].tolist() == [0, 2] and preprocessor.state_dict() == {}


def test_every_batch_is_mixed_one_way_and_with_one_share(monkeypatch: pytest.MonkeyPatch):
    alphas = []
    monkeypatch.setattr(data_preprocessor, "Beta", lambda *both: alphas.append(both) or Beta(*both))
    torch.manual_seed(0)
    preprocessor = PicturePreprocessor(num_classes=4, mixup=0.8, cutmix=1.0)
    kinds = []
    for _ in range(400):
        out = preprocessor(dict(inputs=numbered(4, 16, 16), labels=torch.arange(4)), training=True)
        pictures, targets = out["inputs"], out["labels"]
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
        own = targets.diagonal()
        torch.testing.assert_close(own, own[:1].expand(4))
        torch.testing.assert_close(targets, own[0] * torch.eye(4) + (1 - own[0]) * torch.eye(4).flip(0))
        whole = [len(picture.unique()) for picture in pictures]
        kind = "mixup" if whole == [1] * 4 and pictures[0, 0, 0, 0] not in (0, 3) else "cutmix"
        if kind == "cutmix":
            inside = pictures[0, 0] == 3
            assert inside.float().mean().item() == pytest.approx(1 - own[0].item(), abs=1e-6)
            assert all(torch.equal(pictures[n, 0] == 3 - n, inside) for n in range(4))
        kinds.append(kind)
    assert 160 < kinds.count("mixup") < 240
    assert alphas == [dict(mixup=(0.8, 0.8), cutmix=(1.0, 1.0))[kind] for kind in kinds]


def test_one_kind_alone():
    torch.manual_seed(0)
    preprocessor = PicturePreprocessor(num_classes=2, mixup=0.8)
    pictures = preprocessor(dict(inputs=numbered(2), labels=torch.arange(2)), training=True)["inputs"]
    assert len(pictures[0].unique()) == 1 and 0 < pictures[0, 0, 0, 0] < 1
