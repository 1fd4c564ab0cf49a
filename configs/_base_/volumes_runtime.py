"""Sets what `runtime.py` sets, for volumes: random numbers depend only on sample and step; tables per case.

One more hook averages the weights of late steps and validates the average: dict(type="EMAHook", momentum=2e-3).
"""

_base_ = ["runtime.py"]

default_scope = "mmengine"
custom_imports = dict(imports=["vil_dense.mm.volumes"])
default_hooks = dict(checkpoint=dict(interval=250, save_best="Dice"), sampler_seed=None)
custom_hooks = [dict(type="StepSeedHook"), dict(type="VolumeReportHook"), dict(type="VolumeClassPriorHook")]
visualizer = dict(type="Visualizer")
