"""Trains ViL-T (v2) without labels: predicts the pixels of masked patches of ImageNet-1K, 800 epochs at 192 px.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/pretrain/vil2-t_mae_800e_in1k-192.py --launcher pytorch
Other pictures: --cfg-options train_dataloader.dataset.data_root=FOLDER (any sizes and subfolders).
Probe:    --cfg-options custom_hooks.1.data_root=LABELLED, with LABELLED/train/CLASS and LABELLED/val/CLASS: nearest
          neighbours and a linear classifier on the features, every 25000 steps.
Then:     model.backbone.init_cfg of a segmentor, or model.init_cfg of a classifier, takes the checkpoint as it takes
          weights of ImageNet: dict(type="Pretrained", checkpoint=FILE).
Source:   loss and schedule of MAE (arXiv 2111.06377); mask ratio and depth of the decoder of MAP (arXiv 2410.00871);
          mask tokens on the full grid, since the grid convolution needs its neighbours: our own choice.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/masked_vil.py",
    "../_base_/datasets/pictures.py",
    "../_base_/schedules/masked_pretraining.py",
    "../_base_/pretraining_runtime.py",
]

log_processor = dict(by_epoch=True)
train_dataloader = dict(batch_size=128, dataset=dict(data_root="data/imagenet/train"))
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=20))
custom_hooks = [
    dict(type="StepSeedHook"),
    dict(type="ProbeHook", interval=25000),
    dict(type="ReconstructionHook", interval=25000),
]
