"""Tests ids on disk, in training and written: reading back what is written gives the class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmseg.datasets import ADE20KDataset

from vil_dense.mm.datasets.label_ids import IGNORED, file_ids, trained_ids


@given(st.data(), st.booleans(), st.integers(1, 40))
def test_what_is_written_is_read_back(data: st.DataObject, reduce_zero_label: bool, classes: int) -> None:
    """Tries any label map that reaches each class, or leaves it as it is."""
    targets = data.draw(
        st.dictionaries(st.integers(0, 253), st.integers(0, classes - 1) | st.just(IGNORED), max_size=20)
    )
    reached = set(targets.values()) | {id_ for id_ in range(classes) if id_ not in targets}
    meta = dict(label_map=targets, reduce_zero_label=reduce_zero_label)
    read = trained_ids(meta)[file_ids(meta, classes)]
    for number in set(range(classes)) & reached:
        assert read[number] == number


@pytest.mark.parametrize("reduced", [False, True])
def test_chosen_classes_keep_the_ids_of_the_files(reduced: bool) -> None:
    """Takes mmseg's own map of a subset: ids that are not chosen are ignored, the others are counted anew."""
    names = ADE20KDataset.METAINFO["classes"]
    chosen = [names[2], names[7], names[11]]
    meta = dict(label_map=ADE20KDataset.get_label_map(chosen), reduce_zero_label=reduced)
    assert file_ids(meta, 3).tolist() == [2 + reduced, 7 + reduced, 11 + reduced]


def test_a_map_of_own_ids() -> None:
    assert file_ids(dict(label_map={127: 1, 255: 2}), 3).tolist() == [0, 127, 255]
    assert file_ids({}, 3).tolist() == [0, 1, 2] and file_ids({}, 3).dtype == np.uint8
