"""`runtime.py` for classifiers: epochs in place of steps, draws keyed by sample and step, their report."""

_base_ = ["runtime.py"]

default_scope = "mmengine"
compile_blocks = False  # torch.compile of the blocks, as the authors pretrain; --cfg-options compile_blocks=True
log_processor = dict(by_epoch=True)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=5))
custom_hooks = [dict(type="StepSeedHook"), dict(type="ClassReportHook")]
visualizer = dict(type="Visualizer")
