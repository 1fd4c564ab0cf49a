"""Sets `runtime.py` for classifiers: counts epochs in place of steps, writes their report."""

_base_ = ["runtime.py"]

default_scope = "mmengine"
log_processor = dict(by_epoch=True)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=5, save_best="top1"))
custom_hooks = [dict(type="StepSeedHook"), dict(type="ClassReportHook")]
visualizer = dict(type="Visualizer")
