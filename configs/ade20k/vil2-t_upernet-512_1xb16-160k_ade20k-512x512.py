"""ViL-T with the 512-channel UperNet that most published tables use: vil_upernet_ade20k.py with a wider head.

Command:  python tools/train.py configs/ade20k/vil2-t_upernet-512_1xb16-160k_ade20k-512x512.py --amp (and init_cfg as there)
Why:      the paper's ViL-T and Vim-T have a 192-channel head, 7 times cheaper than the one they are compared with.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

channels = 512
model = dict(
    decode_head=dict(channels=channels),
    auxiliary_head=dict(channels=256),
)
