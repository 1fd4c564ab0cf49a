"""Command lines with the bad inputs of `bad_inputs.py`, and the error that each must report."""

from typing import NamedTuple


class Bad(NamedTuple):
    """A command line, a part of its error message, and its exit code: 1 where a run went on with the sound inputs."""

    command: str
    says: str
    code: int = 2


ONE = "{bad}/sample/images/validation/a.jpg"
BOMB = " (more than the 178,956,970 px that Pillow opens)"
DEEP = ", and 8 bits a channel were expected)"
FIRST = "labels of the train data: 1 of 2 pairs that were read cannot be used: {bad}/labels/"
LABEL = "annotations/training/b.png"
A_FILE = "{bad}/good.pth is a file, and results need a folder"
NO_CASE = "volumes/predict {bad}/volumes.py {bad}/volumes.pth"


def predict(rest: str, says: str, code: int = 2) -> Bad:
    return Bad(f"predict {{bad}}/config.py {{bad}}/good.pth {rest} --out {{out}}", says, code)


def picture(name: str, why: str = "") -> Bad:
    says = f"1 of 1 pictures could not be read: {{bad}}/pictures/{name}{why}"
    return predict(f"{{bad}}/pictures/{name}", says, code=1)


def train(options: str, says: str, code: int = 2) -> Bad:
    return Bad(f"train {{bad}}/config.py --work-dir {{out}} --cfg-options {options}", says, code)


def run_test(options: str, says: str) -> Bad:
    return Bad(f"test {{bad}}/config.py {{bad}}/good.pth --work-dir {{out}} {options}", says)


def labels(name: str, says: str, more: str = "") -> Bad:
    roots = " ".join(f"{part}_dataloader.dataset.data_root={{bad}}/labels/{name}" for part in ("train", "val"))
    return train(f"{roots} {more}", says)


def volume(name: str, why: str) -> Bad:
    says = f"1 of 1 volumes were not: {{bad}}/volumes/{name} {why}"
    return Bad(f"{NO_CASE} {{bad}}/volumes/{name} --out {{out}}", says, 1)


def plan(name: str, says: str) -> Bad:
    return Bad(f"{NO_CASE} {{bad}}/case.nii.gz --out {{out}} --cfg-options plan={{bad}}/plans/{name}.json", says)


def datalist(name: str, says: str) -> Bad:
    return Bad(f"volumes/plan {{bad}}/lists --datalist {name}.json --out {{out}}/plan.json", says)


def checkpoint(name: str, says: str, tool: str = "test") -> Bad:
    rest = dict(test="--work-dir {out}", predict="{bad}/sample/images/validation --out {out}")[tool]
    return Bad(f"{tool} {{bad}}/config.py {{bad}}/checkpoints/{name} {rest}", says)


def config(name: str, says: str) -> Bad:
    return Bad(f"train {{bad}}/configs/{name} --work-dir {{out}}", says)


CASES = {
    # pictures
    "picture: cut PNG": picture("cut.png"),
    "picture: cut JPEG": picture("cut.jpg"),
    "picture: cut WebP": picture("cut.webp"),
    "picture: cut TIFF": picture("cut.tif"),
    "picture: no bytes": picture("empty.png"),
    "picture: text": picture("text.jpg"),
    "picture: a list of files": picture("list.txt"),
    "picture: 16 bits": picture("16bit.png", " (its pixels are of Pillow's mode I;16" + DEEP),
    "picture: 32 bits": picture("32bit.tif", " (its pixels are of Pillow's mode I" + DEEP),
    "picture: floats": picture("float.tif", " (its pixels are of Pillow's mode F" + DEEP),
    "picture: a bomb": picture("bomb.ppm", BOMB),
    "picture: a PNG bomb": picture("bomb.png", BOMB),
    "picture: no extent": picture("zero.png"),
    "picture: no extent, PPM": picture("zero.ppm"),
    "picture: dangling link": predict("{bad}/pictures/link.png", "no picture or folder at {bad}/pictures/link.png"),
    "picture: wrong path": predict("nowhere.jpg", "no picture or folder at nowhere.jpg"),
    "picture: empty folder": predict("{bad}/pictures/none", "no pictures in {bad}/pictures/none (looked for .bmp"),
    "picture: a folder named so": predict("{bad}/pictures/folders", "no pictures in {bad}/pictures/folders"),
    "picture: two of one name": predict("{bad}/pictures/twins", "would both be written as a.png"),
    # labels
    "label: colours": labels("colours", FIRST + f"colours/{LABEL} has 3 channels: a label has one"),
    "label: with alpha": labels("with_alpha", FIRST + f"with_alpha/{LABEL} has 2 channels: a label has one"),
    "label: smaller": labels("smaller", "images/training/b.jpg is 64 x 64 px and its label {bad}/labels/smaller/"),
    "label: larger": labels("larger", f"{LABEL} 80 x 64"),
    "label: EXIF turns the picture": labels(
        "exif_turned", f"b.jpg is 48 x 64 px and its label {{bad}}/labels/exif_turned/{LABEL} 64 x 48"
    ),
    "label: id 200": labels(
        "id_200",
        "0 to 11, and not void, 255: id 199 once reduce_zero_label took 1 off, the first in {bad}",
    ),
    "label: id 300": labels("id_300", f"{LABEL} holds the id 300: ids are 0 to 255"),
    "label: negative": labels("negative", f"{LABEL} holds the id -1: ids are 0 to 255"),
    "label: floats": labels("float", f"{LABEL} holds float32 numbers: ids of classes are integers"),
    "label: text": labels("text", f"{LABEL} is not a complete label: unknown file format"),
    "label: no bytes": labels("empty", f"{LABEL} is not a complete label: "),
    "label: a bomb": labels("bomb", f"{LABEL} is not a complete label: "),
    "label: cut": labels("cut", f"{LABEL} is not a complete label: "),
    "label: missing": labels(
        "missing", f"found no label of {{bad}}/labels/missing/images/training/b.jpg at {{bad}}/labels/missing/{LABEL}"
    ),
    "label: all void": labels(
        "all_void", "every pixel is void, 255: the files hold id 0 and reduce_zero_label=True makes 0 void"
    ),
    "label: one class": labels("one_class", "class 2 is the only one, so nothing can be learned: the files hold id 3"),
    "label: masks of 0 and 255": labels(
        "masks_0_255",
        "the files hold ids 0, 255, and 255 is void: write 1 in its place",
        "train_dataloader.dataset.reduce_zero_label=False val_dataloader.dataset.reduce_zero_label=False",
    ),
    "label: reduce_zero_label left out": train(
        "train_dataloader.dataset.reduce_zero_label=False", "id 12, the first in {bad}/sample/annotations/training/"
    ),
    "label: void that is a class": train(
        "model.decode_head.ignore_index=3 model.auxiliary_head.ignore_index=3",
        "mmseg writes 255 for void: set ignore_index=255 in the heads",
    ),
    "label: of validation": labels("val_id_200", "labels of the val data: "),
    "label: of a test": run_test(
        "--cfg-options test_dataloader.dataset.data_root={bad}/labels/val_id_200", "labels of the test data: "
    ),
    "label: another number of classes": train(
        "model.decode_head.num_classes=11",
        "a head of the model has num_classes=11 and the train data, SampleDataset, have 12 classes",
    ),
    "training picture: cut": labels(
        "picture_cut", FIRST + "picture_cut/images/training/b.jpg is not a complete picture: "
    ),
    "training picture: none": labels(
        "no_pictures", "found no *.jpg picture at {bad}/labels/no_pictures/images/training"
    ),
    "training picture: listed and missing": train(
        "train_dataloader.dataset.ann_file={bad}/labels/no_list.txt",
        "found no picture at {bad}/sample/images/training/missing.jpg",
    ),
    "training data: nowhere": train(
        "train_dataloader.dataset.data_root=nowhere", "found no data root at nowhere: make it"
    ),
    # volumes
    "volume: NaN": volume("nan.nii", "216 voxels"),
    "volume: infinite": volume("inf.nii", "216 voxels"),
    "volume: 4D": volume("4d.nii", "is 4D, 6 x 6 x 6 x 5 voxels: an image of 1 channel was expected"),
    "volume: 2D": volume("2d.nii", "is 2D, 6 x 6 voxels: a volume with three axes was expected"),
    "volume: complex": volume("complex.nii", "holds complex64 voxels: real numbers were expected"),
    "volume: colours": volume("colours.nii", "holds "),
    "volume: singular affine": volume("singular.nii", "has a singular affine"),
    "volume: claims more": volume("claims_more.nii", "is cut off: its header claims 512 x 512 x 600 voxels"),
    "volume: no extent": volume("no_extent.nii", "is "),
    "volume: wrong magic": volume("wrong_magic.nii", "is damaged or not a NIfTI file"),
    "volume: cut gzip": volume("cut.nii.gz", "is cut off or damaged"),
    "volume: cut": volume("cut.nii", "is cut off: its header claims 30 x 30 x 30 voxels"),
    "volume: no bytes": volume("empty.nii.gz", "is damaged or not a NIfTI file"),
    "volume: text": volume("text.nii.gz", "is damaged or not a NIfTI file"),
    "volume: a folder named so": Bad(
        NO_CASE + " {bad}/volumes/folder.nii.gz --out {out}", "no volumes in {bad}/volumes/folder.nii.gz"
    ),
    "volume: wrong path": Bad(NO_CASE + " nowhere.nii --out {out}", "no volume, folder or data list at nowhere.nii"),
    # JSON
    "list: broken": datalist("broken", "{bad}/lists/broken.json is not valid JSON"),
    "list: bytes": datalist("bytes", "{bad}/lists/bytes.json is not valid JSON"),
    "list: a list": datalist("a_list", "{bad}/lists/a_list.json holds a list, and a data list is an object"),
    "list: no training": datalist("no_training", "no_training.json has no list 'training' of images and labels"),
    "list: training is text": datalist(
        "training_is_text", "training_is_text.json: 'training' is a list of cases, got a str"
    ),
    "list: no cases": datalist("no_cases", "{bad}/lists/no_cases.json lists no cases"),
    "list: no image": datalist("no_image", "no_image.json: an entry needs image and label, as paths"),
    "list: no label": datalist("no_label", "no_label.json: an entry needs image and label, as paths"),
    "list: image is a number": datalist("image_is_a_number", "got {'image': 3, 'label': 'a.nii'}"),
    "list: fold is text": datalist("fold_is_text", "and fold, if any, as a number; got"),
    "list: no NIfTI": datalist("no_nifti", "a.npy is not a NIfTI file"),
    "list: twice": datalist("twice", "the case a is listed 2 times"),
    "list: file missing": datalist("file_missing", "no volume at {bad}/lists/gone.nii"),
    "list: wrong fold": Bad(
        NO_CASE + " {bad}/lists/twice.json --fold 7 --out {out}", "twice.json has no cases of fold 7 in training"
    ),
    "list: wrong section": Bad(
        NO_CASE + " {bad}/lists/twice.json --section test --out {out}",
        "twice.json has no cases in test; its lists: training",
    ),
    "list: nowhere": datalist("nowhere", "no data list at {bad}/lists/nowhere.json"),
    "plan: nowhere": plan("nowhere", "no plan at {bad}/plans/nowhere.json; make one: "),
    "plan: broken": plan("broken", "{bad}/plans/broken.json is not valid JSON"),
    "plan: a list": plan("a_list", "{bad}/plans/a_list.json: a plan is an object with names and values, got a list"),
    "plan: no patch": plan("no_patch", "no_patch.json: a plan needs channels, labels, "),
    "plan: unknown key": plan("unknown_key", "unknown_key.json: a plan has no patch_size; known: "),
    "plan: labels with a gap": plan("labels_with_a_gap", "a plan's labels are 0, 1, ... without a gap, got"),
    "plan: labels are a list": plan("labels_are_a_list", "a plan's labels cannot be ['background', 'organ']"),
    "plan: two spacings": plan("two_spacings", "a plan's spacing_mm has three positive numbers, got [1.0, 1.0]"),
    "plan: spacing is text": plan(
        "spacing_is_text", "a plan's spacing_mm has three positive numbers, got ['1', '1', '1']"
    ),
    "plan: patch of fractions": plan("patch_of_fractions", "a plan's patch_vox has three positive whole numbers"),
    "plan: orientation": plan(
        "orientation_XYZ", "a plan's orientation has one letter each of L R, P A and I S, got 'XYZ'"
    ),
    "plan: unknown rule": plan("rule_unknown", "unknown intensity rule 'hist'; known: zscore, ct, range"),
    "plan: no rule": plan("rule_missing", "a plan's intensity cannot be [{}]"),
    "plan: rule without numbers": plan("rule_without_numbers", "missing a required argument: 'high'"),
    # checkpoints
    "checkpoint: nowhere": checkpoint("nowhere.pth", "no checkpoint at {bad}/checkpoints/nowhere.pth"),
    "checkpoint: an address": Bad(
        "test {bad}/config.py https://example.org/a.pth --work-dir {out}", "no checkpoint at https://example.org/a.pth"
    ),
    "checkpoint: no bytes": checkpoint("cut_0.pth", "cut_0.pth is truncated, damaged or no checkpoint"),
    "checkpoint: cut": checkpoint("cut_5000.pth", "cut_5000.pth is truncated, damaged or no checkpoint"),
    "checkpoint: text": checkpoint("text.pth", "text.pth is truncated, damaged or no checkpoint"),
    "checkpoint: a folder": checkpoint("folder.pth", "no checkpoint at {bad}/checkpoints/folder.pth"),
    "checkpoint: a list": checkpoint("no_dict.pth", "no_dict.pth holds a list, a checkpoint is a dict"),
    "checkpoint: state is a number": checkpoint(
        "state_is_a_number.pth", "holds no weights by name: its state_dict is a int"
    ),
    "checkpoint: state is text": checkpoint("state_is_text.pth", "state_is_text.pth is a checkpoint of another model"),
    "checkpoint: nothing": checkpoint("without_tensors.pth", "without_tensors.pth is a checkpoint of another model"),
    "checkpoint: another model": checkpoint(
        "other_model.pth", "other_model.pth is a checkpoint of another model, tensors: "
    ),
    "checkpoint: another width": checkpoint("other_width.pth", "of another shape ("),
    "checkpoint: NaN": checkpoint(
        "nan.pth",
        "nan.pth holds NaN or infinite numbers in 1 tensors (backbone.net.blocks.0.layer.proj_up.weight)",
        "predict",
    ),
    "checkpoint: cut safetensors": checkpoint("cut.safetensors", "cut.safetensors is not a complete checkpoint"),
    "checkpoint: renamed to safetensors": checkpoint(
        "renamed.safetensors", "renamed.safetensors is not a complete checkpoint"
    ),
    "checkpoint: an array": checkpoint("array.npy", "array.npy is truncated, damaged or no checkpoint", "predict"),
    "load_from: another model": train(
        "load_from={bad}/checkpoints/other_model.pth", "other_model.pth is a checkpoint of another model: 0 of "
    ),
    "load_from: NaN": train("load_from={bad}/checkpoints/nan.pth", "nan.pth holds NaN or infinite numbers"),
    "load_from: a folder": train(
        "load_from={bad}/checkpoints/folder.pth", "no checkpoint at {bad}/checkpoints/folder.pth"
    ),
    "init_cfg: another model": train(
        "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint={bad}/checkpoints/other_model.pth",
        "{bad}/checkpoints/other_model.pth: not the weights of a ViL",
    ),
    "init_cfg: NaN": train(
        "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint={bad}/checkpoints/nan.pth",
        "nan.pth holds NaN or infinite numbers",
    ),
    "convert: cut safetensors": Bad(
        "model_converters/convert_checkpoint {bad}/checkpoints/cut.safetensors {out}/a.pth",
        "cut.safetensors is not a complete checkpoint",
    ),
    "convert: another model": Bad(
        "model_converters/convert_checkpoint {bad}/checkpoints/other_model.pth {out}/a.pth", "not the weights of a ViL"
    ),
    "convert: to another kind": Bad(
        "model_converters/convert_checkpoint {bad}/good.pth {out}/a.onnx", "DST must end in .pth or .safetensors"
    ),
    "volumes: another model": Bad(
        "volumes/predict {bad}/volumes.py {bad}/good.pth {bad}/case.nii.gz --out {out}",
        "good.pth is a checkpoint of another model",
    ),
    # configs
    "config: nowhere": config("nowhere.py", "no config at {bad}/configs/nowhere.py"),
    "config: syntax": config("syntax.py", "syntax.py is no usable config, SyntaxError: "),
    "config: no base": config("no_base.py", "no_base.py is no usable config, "),
    "config: unknown name": config(
        "name_error.py", "name_error.py is no usable config, NameError: name 'EncoderDecoder'"
    ),
    "config: fails": config("division.py", "division.py is no usable config, ZeroDivisionError: "),
    "config: import": config("import.py", "import.py is no usable config, ImportError: "),
    "config: reserved name": config("reserved.py", "reserved.py is no usable config, KeyError: "),
    "config: empty": config("empty.py", "empty.py is no config of a run: it has no model"),
    "config: no data": config("no_data.py", "error: the config has no "),
    "config: text": config("config.txt", "config.txt is no usable config, OSError: Only py/yml/yaml/json"),
    "config: broken JSON": config("broken.json", "broken.json is no usable config, "),
    "config: a folder": config("folder.py", "no config at {bad}/configs/folder.py"),
    "config: unknown model": config("unknown_model.py", "error: EncodeDecode is not in the mmseg::model registry."),
    "config: unknown option": config("unknown_option.py", "hidden"),
    "config: unknown data set": config("unknown_data.py", "error: NoDataset is not in the mmseg::dataset registry."),
    "config: unknown step": config("unknown_step.py", "error: NoStep is not in the mmseg::transform registry."),
    "config: classes": config(
        "classes.py", "a head of the model has num_classes=7 and the train data, SampleDataset, have 12"
    ),
    "config: of pictures for volumes": Bad(
        "volumes/predict {bad}/config.py {bad}/good.pth {bad}/case.nii.gz --out {out}", "segments no volumes"
    ),
    "config: of volumes for pictures": Bad(
        "predict {bad}/volumes.py {bad}/volumes.pth " + ONE + " --out {out}", "error: the config has no "
    ),
    "config: of a segmentor for probe": Bad(
        "studies/probe {bad}/config.py none --work-dir {out}", "takes a classifier's config"
    ),
    # command lines
    "option: no =": train(
        "model.neck", "argument --cfg-options: expected key=value with dots in the key, got 'model.neck'"
    ),
    "option: no key": train("=3", "expected key=value with dots in the key, got '=3'"),
    "option: two dots": train("model..neck=None", "expected key=value with dots in the key, got 'model..neck=None'"),
    "option: brackets": train("model.neck=(1,[2)", "Imbalanced brackets"),
    "option: unknown": train("modle.neck=None", "unknown option modle.neck: {bad}/config.py has no modle"),
    "option: unknown below": train("model.backbone.dpeth=2", "dpeth"),
    "option: no such entry": train(
        "train_dataloader.dataset.pipeline.9.type=X", "--cfg-options do not fit {bad}/config.py: "
    ),
    "option: below a number": train("model.decode_head.channels.x=3", "--cfg-options do not fit {bad}/config.py: "),
    "option: unknown variant": train("model.backbone.variant=vil9", "unknown variant 'vil9'; known: "),
    "option: unknown neck": train("model.neck.type=Pyramid", "Pyramid is not in the "),
    "option: depth 0": train("model.backbone.depth=0", "there is no block 0: the network has 0 blocks"),
    "option: dim -8": train("model.backbone.dim=-8", "dim"),
    "option: batch of 0": train(
        "train_dataloader.batch_size=0", "train_dataloader.batch_size is a whole number from 1 on, got 0"
    ),
    "option: batch is text": train(
        "train_dataloader.batch_size=many", "batch_size is a whole number from 1 on, got 'many'"
    ),
    "option: -1 workers": train("train_dataloader.num_workers=-1", "num_workers is a whole number from 0 on, got -1"),
    "option: -1 steps": train("train_cfg.max_iters=-1", "train_cfg.max_iters is a whole number from 1 on, got -1"),
    "option: rate is text": train(
        "optim_wrapper.optimizer.lr=fast", "optim_wrapper.optimizer.lr is a number from 0 on, got 'fast'"
    ),
    "option: label check": train("label_check.hours=3", "label_check takes seconds"),
    "window: 0": predict(ONE + " --window 0", "--window takes H W, or one number for both, in px; got 0"),
    "window: negative": predict(
        ONE + " --window -5 32", "--window takes H W, or one number for both, in px; got -5 32"
    ),
    "window: three": predict(ONE + " --window 1 2 3", "--window takes H W, or one number for both, in px; got 1 2 3"),
    "window: text": predict(ONE + " --window wide", "argument --window: invalid int value: 'wide'"),
    "window: and whole": predict(ONE + " --whole --window 32", "--whole runs the picture as one window"),
    "stride: without window": predict(ONE + " --stride 8", "--stride needs windows"),
    "stride: larger": predict(
        ONE + " --window 32 --stride 40", "windows of 32 x 32 px every 40 x 40 px would leave gaps"
    ),
    "stride: negative": predict(
        ONE + " --window 32 --stride -8", "--stride takes H W, or one number for both, in px; got -8"
    ),
    "window batch: 0": predict(ONE + " --window-batch 0", "--window-batch is at least 1, got 0"),
    "protocol: unknown": run_test("--protocol best", "argument --protocol: invalid choice: 'best'"),
    "protocol: and --tta": run_test("--protocol squash --tta", "so it cannot be squash"),
    "out: a file": Bad("predict {bad}/config.py {bad}/good.pth " + ONE + " --out {bad}/good.pth", A_FILE),
    "out: below a file": run_test("--out {bad}/good.pth/x", A_FILE),
    "out: not writable": Bad(
        "predict {bad}/config.py {bad}/good.pth " + ONE + " --out /proc/none",
        "/proc/none cannot be written to: /proc: ",
    ),
    "out: volumes into a file": Bad(NO_CASE + " {bad}/case.nii.gz --out {bad}/good.pth", A_FILE),
    "out: a plan into a folder": Bad(
        "volumes/plan {bad}/lists --datalist file_missing.json --out {bad}/lists", "{bad}/lists is a folder"
    ),
    "show dir: of a classifier": Bad(
        "test configs/vil_imagenet.py {bad}/good.pth --show-dir {out}",
        "--show-dir: only for segmentors of pictures, and configs/vil_imagenet.py is of type ImageClassifier",
    ),
    "out, show dir: of volumes": Bad(
        "test {bad}/volumes.py {bad}/volumes.pth --work-dir {out} --out {out} --show-dir {out}",
        "--out and --show-dir: only for segmentors of pictures, and {bad}/volumes.py is of type VolumeSegmentor",
    ),
    "work dir: a file": Bad("train {bad}/config.py --work-dir {bad}/good.pth", A_FILE),
    "argument: unknown": Bad("train {bad}/config.py --resumee", "unrecognized arguments: --resumee"),
    "argument: no config": Bad("train", "the following arguments are required: config"),
    "launcher: none there": Bad("train {bad}/config.py --launcher pytorch", "and RANK is not set"),
    "flops: shape 0": Bad("analysis/get_flops {bad}/config.py --shape 0", "H W, or one number for both, in px; got 0"),
    "sample: -1 pictures": Bad(
        "dataset_converters/make_sample --out {out} --train -1", "at least one picture in each split, got -1 and 50"
    ),
    "phantom: 0 volumes": Bad(
        "dataset_converters/make_phantom --out {out} --val 0", "at least one volume in each split, got 24 and 0"
    ),
    "tolerance: negative": Bad(
        "volumes/evaluate {bad}/volumes.py {bad}/case.nii.gz {bad}/case.nii.gz --out {out} --tolerance-mm -1",
        "--tolerance-mm is 0 or more, got -1.0",
    ),
    "export: no run": Bad("volumes/export_bundle nowhere --out {out}", "no run at nowhere"),
    "export: no config in it": Bad(
        "volumes/export_bundle {bad}/sample --out {out}",
        "is no work folder of a training: one config is expected in it, got 0",
    ),
    "plot: no run": Bad("analysis/plot_runs --group a nowhere --out {out}", "no work folder at nowhere"),
    "compare: no run": Bad("volumes/compare nowhere there --out {out}/a.csv", "no metrics.csv at nowhere"),
    "compare: a broken table": Bad(
        "volumes/compare {bad}/runs/table {bad}/runs/table", "runs/table/metrics.csv is no table of cases: "
    ),
    "compare: text for numbers": Bad(
        "volumes/compare {bad}/runs/text {bad}/runs/text", "runs/text/metrics.csv is no table of cases: could not"
    ),
    "compare: bytes": Bad(
        "volumes/compare {bad}/runs/bytes {bad}/runs/bytes", "runs/bytes/metrics.csv is no table of cases: "
    ),
    "plot: a broken log": Bad(
        "analysis/plot_runs --group a {bad}/runs/log --out {out}", "scalars.json, line 1, is no line of a run's log"
    ),
    "export: broken scores": Bad(
        "volumes/export_bundle {bad}/runs/scores --out {out} --checkpoint {bad}/volumes.pth",
        "runs/scores/validation/metrics.json is not valid JSON",
    ),
    "out: of other settings": Bad(
        NO_CASE + " {bad}/case.nii.gz --out {bad}/runs/settings", "runs/settings/settings.json is not valid JSON"
    ),
    "crops: a label in colours": Bad(
        "dataset_converters/make_crops --source {bad}/runs/camvid --out {out}",
        "annotations/train/b.png has 3 channels: a label has one",
    ),
    "crops: no data": Bad(
        "dataset_converters/make_crops --source nowhere --out {out}", "no *.jpg picture in nowhere/images/train"
    ),
}
