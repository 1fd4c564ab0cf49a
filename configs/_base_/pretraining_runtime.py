"""Sets `runtime.py` for pretraining without labels: no validation; the report has reconstructions of masked inputs."""

_base_ = ["runtime.py"]

default_scope = "mmengine"
default_hooks = dict(checkpoint=dict(save_best=None))
custom_hooks = [dict(type="StepSeedHook"), dict(type="ProbeHook"), dict(type="ReconstructionHook")]
visualizer = dict(type="Visualizer")
