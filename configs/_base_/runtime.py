"""Sets what every experiment shares: scope, seed, log, checkpoints, report."""

default_scope = "mmseg"
runner_type = "ViLRunner"
custom_imports = dict(imports=["vil_dense.mm"], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)
log_level = "INFO"
log_processor = dict(by_epoch=False)
label_check = dict(seconds=60)  # before the first step of a segmentor; None leaves it out
load_from = None
resume = False

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=8000, max_keep_ckpts=2, save_best="mIoU"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    watch=dict(type="NaNGuardHook", max_skipped=0),
    accuracy=dict(type="LabelledAccuracyHook"),
    stop=dict(type="PreemptionHook"),
)
custom_hooks = [dict(type="StepSeedHook"), dict(type="ReportHook")]
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="SegLocalVisualizer", vis_backends=vis_backends, name="visualizer")
