"""Tests that validation on what is trained on is refused by name."""

from pathlib import Path

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from torch.utils.data import Dataset

from vil_dense.mm.datasets.checks.overlap import check_overlap, files_of


class Pictures(BaseDataset):
    def __init__(self, *paths: object) -> None:
        self.paths = paths
        super().__init__()

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=str(path)) for path in self.paths]


class Volumes(Dataset):
    def __init__(self, *paths: object) -> None:
        self.image_files = list(map(str, paths))

    def __len__(self) -> int:
        return len(self.image_files)


@pytest.mark.parametrize("kind", [Pictures, Volumes])
def test_files_in_both_are_named(kind: type, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    check_overlap(kind(tmp_path / "a", tmp_path / "b"), kind(tmp_path / "c"))
    for other in (tmp_path / "a", tmp_path / "link", tmp_path / "d/../a"):
        with pytest.raises(ValueError, match=r"^1 files .*/a: .*allow_overlap=True$"):
            check_overlap(kind(tmp_path / "a", tmp_path / "b"), kind(tmp_path / "c", other))


def test_wrapped_data_sets_are_compared(tmp_path: Path) -> None:
    train = RepeatDataset(Pictures(tmp_path / "a"), 3)
    val = ConcatDataset([Pictures(tmp_path / "b"), Pictures(tmp_path / "a")])
    assert list(files_of(train)) == [str(tmp_path / "a")]
    with pytest.raises(ValueError, match="/a"):
        check_overlap(train, val)
