"""Volumes with MONAI: networks, preprocessing, metrics, NIfTI to NIfTI. Knows nothing of OpenMMLab."""

try:
    import monai  # noqa: F401
    import nibabel  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"vil_dense.medical needs monai and nibabel: pip install 'vil_dense[medical]' ({error})"
    ) from error
