"""Segments a CT of 512 x 512 x 600 voxels: python -m pytest -m slow tests/mm/volumes/test_large_volume.py"""

import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from mmengine.config import Config
from nifti_files import affine, write_nifti
from volume_segmentors import write_segmentor, write_weights

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_fourteen_classes_within_8_gib(tmp_path: Path) -> None:
    """Tests the peak of memory; MONAI's Spacing alone would take 12.8 GiB for the scores on the image's grid."""
    config, image = tmp_path / "large.py", tmp_path / "ct.nii"
    cfg = Config.fromfile(write_segmentor(tmp_path))
    cfg.plan.labels = {f"class {n}" if n else "background": n for n in range(14)}
    intensity = [dict(rule="range", low=-175.0, high=250.0)]
    cfg.plan.update(spacing_mm=(1.5,) * 3, patch_vox=(96,) * 3, intensity=intensity)
    cfg.model.network.update(channels=(8, 16, 32), depths=(0, 0, 1))
    cfg.dump(config)
    checkpoint = write_weights(config)
    slab = np.random.default_rng(0).integers(-1000, 1000, (512, 512, 6)).astype(np.int16)
    write_nifti(image, np.tile(slab, (1, 1, 100)), affine("LPS", (0.78, 0.78, 0.8)))
    command = [sys.executable, ROOT / "tools/volumes/predict.py", config, checkpoint, image, "--out", tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    expected, peak = (float(re.search(rf"{said}([\d.]+) GiB", done.stdout)[1]) for said in ("about ", "peak memory: "))
    assert peak < 8 and abs(peak - expected) < 1
    source, mask = nibabel.load(image), nibabel.load(tmp_path / "out/masks/ct.nii.gz")
    assert mask.shape == source.shape and (mask.affine == source.affine).all()
