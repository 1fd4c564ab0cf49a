"""Sets the loaders' samplers and the metric that all segmentation sets of pictures share."""

train_dataloader = dict(persistent_workers=True, sampler=dict(type="KeyedInfiniteSampler", shuffle=True))
val_dataloader = dict(batch_size=1, persistent_workers=True, sampler=dict(type="DefaultSampler", shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassIoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
