"""`runtime.py` for volumes: draws keyed by sample and step, tables per case."""

_base_ = ["runtime.py"]

default_scope = "mmengine"
custom_imports = dict(imports=["vil_dense.mm.medical"])
default_hooks = dict(checkpoint=dict(interval=250), sampler_seed=None)
custom_hooks = [dict(type="StepSeedHook"), dict(type="VolumeReportHook")]
visualizer = dict(type="Visualizer")
