"""Makes plans of small volumes for the tests."""

from typing import Any


def small_plan(*structures: str, **changes: Any) -> dict[str, Any]:
    """Returns a plan with one MR channel, voxels of 1 mm and patches of 8 x 8 x 8 voxels.

    Args:
        structures: names of the classes 1, 2, ...; class 0 is the background.
        changes: keys of the plan with other values.
    """
    return dict(
        channels=["MR"],
        labels={name: index for index, name in enumerate(("background", *structures))},
        orientation="RAS",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_vox=(8, 8, 8),
        intensity=[dict(rule="zscore")],
    ) | dict(changes)
