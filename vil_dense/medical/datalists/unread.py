"""Finds files of a data set that no case reads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vil_dense.files import describe_skipped
from vil_dense.medical.io.volumes import source_files

if TYPE_CHECKING:
    from vil_dense.medical.datalists.datalist import Case


def unread_files(cases: "Sequence[Case]") -> tuple[str, ...]:
    """Returns a sentence for each folder of images or labels with files that are neither image nor label of a case."""
    used = [file for case in cases for image in case.images for file in source_files(image)]
    used += [case.label for case in cases if case.label]
    folders = sorted({path.parent for case in cases for path in (*case.images, case.label) if path})
    return tuple(filter(None, (describe_skipped(folder, used) for folder in folders)))
