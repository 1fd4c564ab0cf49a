"""Lists command lines that cannot be, and what the line of error must name."""

from command_lines import NO_CASE, ONE, bad, predict, run_test, train

OPTIMIZER = "optim_wrapper.optimizer"
A_FILE = "{bad}/good.pth is a file"
BATCH, WORKERS = "train_dataloader.batch_size", "train_dataloader.num_workers"
CFG_OPTIONS = {
    "option: no =": train("model.neck", "--cfg-options", "'model.neck'"),
    "option: no key": train("=3", "--cfg-options", "'=3'"),
    "option: two dots": train("model..neck=None", "--cfg-options", "'model..neck=None'"),
    "option: brackets": train("model.neck=(1,[2)", "brackets"),
    "option: unknown": train("modle.neck=None", "modle.neck", "{bad}/config.py"),
    "option: unknown below": train("model.backbone.dpeth=2", "dpeth"),
    "option: no such entry": train("train_dataloader.dataset.pipeline.9.type=X", "--cfg-options", "{bad}/config.py"),
    "option: below a number": train("model.decode_head.channels.x=3", "--cfg-options", "{bad}/config.py"),
    "option: unknown variant": train("model.backbone.variant=vil9", "'vil9'", "vil-tiny", "vil2-base", "deit3-base"),
    "option: unknown neck": train("model.neck.type=Pyramid", "Pyramid", "mmseg::model"),
    "option: depth 0": train("model.backbone.depth=0", "block 0", "0 blocks"),
    "option: dim -8": train("model.backbone.dim=-8", "dim"),
    "option: batch of 0": train(f"{BATCH}=0", BATCH, "got 0"),
    "option: batch is text": train(f"{BATCH}=many", BATCH, "'many'"),
    "option: -1 workers": train(f"{WORKERS}=-1", WORKERS, "got -1"),
    "option: -1 steps": train("train_cfg.max_iters=-1", "train_cfg.max_iters", "got -1"),
    "option: rate is text": train("optim_wrapper.optimizer.lr=fast", "optim_wrapper.optimizer.lr", "'fast'"),
    "option: optimizer": train(f"{OPTIMIZER}.type=AdamWW", f"{OPTIMIZER}.type", "AdamWW", "AdamW "),
    "option: of an optimizer": train(f"{OPTIMIZER}.beta=3", f"{OPTIMIZER}.beta", "AdamW", "betas"),
    "option: LN after a convolution": train("model.decode_head.norm_cfg.type=LN", "model.decode_head.norm_cfg", "GN"),
    "option: two loaders": train("val_dataloader=[1,2]", "val_dataloader", "ConcatDataset"),
    "option: crop of 0": train(
        "'train_dataloader.dataset.pipeline.3.crop_size=(0,0)'", "crop_size of step 3", "(0, 0)"
    ),
    "option: no such map": train("model.decode_head.in_index=[0,1,2,9]", "model.decode_head.in_index", "map 9"),
    "option: label check": train("label_check.hours=3", "label_check", "seconds"),
}
ARGUMENTS = {
    "window: 0": predict(ONE + " --window 0", "--window", "got 0"),
    "window: negative": predict(ONE + " --window -5 32", "--window", "got -5 32"),
    "window: three": predict(ONE + " --window 1 2 3", "--window", "got 1 2 3"),
    "window: text": predict(ONE + " --window wide", "--window", "'wide'"),
    "window: and whole": predict(ONE + " --whole --window 32", "--whole", "--window"),
    "stride: without window": predict(ONE + " --stride 8", "--stride", "--window"),
    "stride: larger": predict(ONE + " --window 32 --stride 40", "32 x 32", "40 x 40"),
    "stride: negative": predict(ONE + " --window 32 --stride -8", "--stride", "got -8"),
    "window batch: 0": predict(ONE + " --window-batch 0", "--window-batch", "got 0"),
    "protocol: unknown": run_test("--protocol best", "--protocol", "'best'"),
    "protocol: and --tta": run_test("--protocol squash --tta", "--tta", "squash"),
    "argument: unknown": bad("train {bad}/config.py --resumee", "--resumee"),
    "argument: no config": bad("train", "config"),
    "launcher: none there": bad("train {bad}/config.py --launcher pytorch", "--launcher pytorch", "torchrun", "RANK"),
    "flops: shape 0": bad("analysis/get_flops {bad}/config.py --shape 0", "--shape", "got 0"),
    "flops: too small": bad("analysis/get_flops {bad}/config.py --shape 1 1", "1 x 1 px", "too small"),
    "flops: too large": bad("analysis/get_flops {bad}/config.py --shape 100000", "--shape", "8192", "got 100000"),
    "flops: volumes": bad("analysis/get_flops {bad}/volumes.py", "volumes.py", "VolumeSegmentor", "pictures"),
    "sample: -1 pictures": bad("dataset_converters/make_sample --out {out} --train -1", "-1 and 50"),
    "phantom: 0 volumes": bad("dataset_converters/make_phantom --out {out} --val 0", "24 and 0"),
    "tolerance: negative": bad(
        "volumes/evaluate {bad}/volumes.py {bad}/case.nii.gz {bad}/case.nii.gz --out {out} --tolerance-mm -1",
        "--tolerance-mm",
        "got -1",
    ),
    "crops: a label in colours": bad(
        "dataset_converters/make_crops --source {bad}/runs/camvid --out {out}",
        "annotations/train/b.png",
        "3 channels",
    ),
    "crops: no data": bad(
        "dataset_converters/make_crops --source nowhere --out {out}", "*.jpg", "nowhere/images/train"
    ),
}
FOLDERS = {
    "out: a file": bad("predict {bad}/config.py {bad}/good.pth " + ONE + " --out {bad}/good.pth", A_FILE),
    "out: below a file": run_test("--out {bad}/good.pth/x", A_FILE),
    "out: not writable": bad("predict {bad}/config.py {bad}/good.pth " + ONE + " --out /proc/none", "/proc/none"),
    "out: volumes into a file": bad(NO_CASE + " {bad}/case.nii.gz --out {bad}/good.pth", A_FILE),
    "out: a plan into a folder": bad(
        "volumes/plan {bad}/lists --datalist file_missing.json --out {bad}/lists", "{bad}/lists is a folder"
    ),
    "show dir: of a classifier": bad(
        "test configs/vil_imagenet.py {bad}/good.pth --show-dir {out}",
        "--show-dir",
        "configs/vil_imagenet.py",
        "ImageClassifier",
    ),
    "out, show dir: of volumes": bad(
        "test {bad}/volumes.py {bad}/volumes.pth --work-dir {out} --out {out} --show-dir {out}",
        "--out",
        "--show-dir",
        "{bad}/volumes.py",
        "VolumeSegmentor",
    ),
    "work dir: a file": bad("train {bad}/config.py --work-dir {bad}/good.pth", A_FILE),
}
OPTIONS = CFG_OPTIONS | ARGUMENTS | FOLDERS
