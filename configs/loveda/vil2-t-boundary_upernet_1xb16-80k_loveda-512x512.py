"""Trains ViL-T (v2) with UperNet on LoveDA by cross entropy and a boundary loss; the inherited config is its control.

Command:  python tools/train.py configs/loveda/vil2-t-boundary_upernet_1xb16-80k_loveda-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   Kervadec et al., Boundary loss for highly unbalanced segmentation (Med. Image Anal. 67:101851, 2021); the weight
          of the loss is ours and not tuned. Compare mBIoU: tools/compare_runs.py.
Result:   Not run yet.
"""

_base_ = "./vil2-t_upernet_1xb16-80k_loveda-512x512.py"

model = dict(
    decode_head=dict(
        loss_decode=[
            dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
            dict(type="KervadecBoundaryLoss", max_distance_px=16, loss_weight=1.0),
        ]
    )
)
