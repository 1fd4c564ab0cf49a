"""Lists bad pictures, labels, volumes, data lists and plans, and what the line of error must name."""

from command_lines import NO_CASE, bad, datalist, labels, picture, plan, predict, run_test, train, volume

LABEL = "annotations/training/b.png"
PICTURES = {
    "picture: cut PNG": picture("cut.png"),
    "picture: cut JPEG": picture("cut.jpg"),
    "picture: cut WebP": picture("cut.webp"),
    "picture: cut TIFF": picture("cut.tif"),
    "picture: no bytes": picture("empty.png"),
    "picture: text": picture("text.jpg"),
    "picture: a list of files": picture("list.txt"),
    "picture: 16 bits": picture("16bit.png", "mode I;16", "8 bits"),
    "picture: 32 bits": picture("32bit.tif", "mode I", "8 bits"),
    "picture: floats": picture("float.tif", "mode F", "8 bits"),
    "picture: a bomb": picture("bomb.ppm", "178,956,970 px"),
    "picture: a PNG bomb": picture("bomb.png", "178,956,970 px"),
    "picture: no extent": picture("zero.png"),
    "picture: no extent, PPM": picture("zero.ppm"),
    "picture: dangling link": predict("{bad}/pictures/link.png", "{bad}/pictures/link.png"),
    "picture: wrong path": predict("nowhere.jpg", "nowhere.jpg"),
    "picture: empty folder": predict(
        "{bad}/pictures/none", "{bad}/pictures/none", ".bmp .jpeg .jpg .png .ppm .tif .tiff .webp"
    ),
    "picture: a folder named so": predict("{bad}/pictures/folders", "{bad}/pictures/folders"),
    "picture: two of one name": predict("{bad}/pictures/twins", "a.jpg", "a.png"),
}
LABELS = {
    "label: colours": labels("colours", "1 of 2", f"{{bad}}/labels/colours/{LABEL}", "3 channels"),
    "label: with alpha": labels("with_alpha", "1 of 2", f"{{bad}}/labels/with_alpha/{LABEL}", "2 channels"),
    "label: smaller": labels("smaller", "images/training/b.jpg", "64 x 64", f"{{bad}}/labels/smaller/{LABEL}"),
    "label: larger": labels("larger", f"{LABEL} 80 x 64"),
    "label: EXIF turns the picture": labels("exif_turned", "b.jpg", "48 x 64", f"exif_turned/{LABEL} 64 x 48"),
    "label: id 200": labels("id_200", "0 to 11", "255", "id 199", "reduce_zero_label", "{bad}/labels/id_200"),
    "label: id 300": labels("id_300", LABEL, "id 300", "0 to 255"),
    "label: negative": labels("negative", LABEL, "id -1", "0 to 255"),
    "label: floats": labels("float", LABEL, "float32"),
    "label: text": labels("text", LABEL),
    "label: no bytes": labels("empty", LABEL),
    "label: a bomb": labels("bomb", LABEL),
    "label: cut": labels("cut", LABEL),
    "label: missing": labels(
        "missing", "{bad}/labels/missing/images/training/b.jpg", f"{{bad}}/labels/missing/{LABEL}"
    ),
    "label: all ignored": labels("all_void", "ignored, 255", "id 0", "reduce_zero_label=True"),
    "label: one class": labels("one_class", "class 2", "id 3"),
    "label: masks of 0 and 255": labels(
        "masks_0_255",
        "ids 0, 255",
        "ignored",
        more="train_dataloader.dataset.reduce_zero_label=False val_dataloader.dataset.reduce_zero_label=False",
    ),
    "label: reduce_zero_label left out": train(
        "train_dataloader.dataset.reduce_zero_label=False", "id 12", "{bad}/sample/annotations/training/"
    ),
    "label: ignored that is a class": train(
        "model.decode_head.ignore_index=3 model.auxiliary_head.ignore_index=3", "ignore_index", "255"
    ),
    "label: of validation": labels("val_id_200", "val data", "{bad}/labels/val_id_200"),
    "label: of a test": run_test(
        "--cfg-options test_dataloader.dataset.data_root={bad}/labels/val_id_200", "test data", "val_id_200"
    ),
    "label: another number of classes": train(
        "model.decode_head.num_classes=11", "num_classes=11", "SampleDataset", "12"
    ),
    "training picture: cut": labels("picture_cut", "1 of 2", "{bad}/labels/picture_cut/images/training/b.jpg"),
    "training picture: none": labels("no_pictures", ".jpg", "{bad}/labels/no_pictures/images/training"),
    "training picture: listed and missing": train(
        "train_dataloader.dataset.ann_file={bad}/labels/no_list.txt", "{bad}/sample/images/training/missing.jpg"
    ),
    "training data: nowhere": train(
        "train_dataloader.dataset.data_root=nowhere", "SampleDataset", "nowhere", "make_sample.py", "data_root"
    ),
}
VOLUMES = {
    "volume: NaN": volume("nan.nii", "216 voxels of NaN"),
    "volume: infinite": volume("inf.nii", "216 voxels"),
    "volume: 4D": volume("4d.nii", "4D", "6 x 6 x 6 x 5", "1 channel"),
    "volume: 2D": volume("2d.nii", "2D", "6 x 6"),
    "volume: complex": volume("complex.nii", "complex64"),
    "volume: colours": volume("colours.nii"),
    "volume: singular affine": volume("singular.nii", "affine"),
    "volume: claims more": volume("claims_more.nii", "512 x 512 x 600"),
    "volume: no extent": volume("no_extent.nii"),
    "volume: wrong magic": volume("wrong_magic.nii", "NIfTI"),
    "volume: cut gzip": volume("cut.nii.gz", "cut off"),
    "volume: cut": volume("cut.nii", "cut off", "30 x 30 x 30"),
    "volume: no bytes": volume("empty.nii.gz", "NIfTI"),
    "volume: text": volume("text.nii.gz", "NIfTI"),
    "volume: a folder named so": bad(
        NO_CASE + " {bad}/volumes/folder.nii.gz --out {out}", "{bad}/volumes/folder.nii.gz"
    ),
    "volume: empty folder": bad(NO_CASE + " {bad}/pictures/none --out {out}", "{bad}/pictures/none", ".nii.gz"),
    "volume: frame is text": bad(NO_CASE + " {bad}/case.nii.gz --out {out} --frame first", "--frame", "'first'"),
    "volume: series of NIfTI": bad(NO_CASE + " {bad}/case.nii.gz --out {out} --series 1.2", "--series", "case.nii.gz"),
    "volume: unknown class": bad(
        NO_CASE + " {bad}/case.nii.gz --out {out} --probabilities lung", "'lung'", "background, "
    ),
    "volume: no DICOM series": bad(
        NO_CASE + " {bad}/case.nii.gz --out {out} --dicom-seg", "1 of 1", "case.nii.gz", "DICOM", code=1
    ),
    "volume: wrong path": bad(NO_CASE + " nowhere.nii --out {out}", "nowhere.nii"),
}
LISTS = {
    "list: broken": datalist("broken", "{bad}/lists/broken.json"),
    "list: bytes": datalist("bytes", "{bad}/lists/bytes.json"),
    "list: a list": datalist("a_list", "{bad}/lists/a_list.json", "list"),
    "list: no training": datalist("no_training", "no_training.json", "'training'"),
    "list: training is text": datalist("training_is_text", "training_is_text.json", "'training'", "str"),
    "list: no cases": datalist("no_cases", "{bad}/lists/no_cases.json"),
    "list: no image": datalist("no_image", "no_image.json", "image", "{'label': 'a.nii'}"),
    "list: no label": datalist("no_label", "no_label.json", "label", "{'image': 'a.nii'}"),
    "list: image is a number": datalist("image_is_a_number", "{'image': 3, 'label': 'a.nii'}"),
    "list: fold is text": datalist("fold_is_text", "fold", "'first'"),
    "list: no NIfTI": datalist("no_nifti", "a.npy"),
    "list: twice": datalist("twice", "case a ", "2 times"),
    "list: file missing": datalist("file_missing", "{bad}/lists/gone.nii"),
    "list: wrong fold": bad(NO_CASE + " {bad}/lists/one.json --fold 7 --out {out}", "one.json", "fold 7", "training"),
    "list: wrong section": bad(
        NO_CASE + " {bad}/lists/one.json --section test --out {out}", "one.json", "test", "lists: training"
    ),
    "list: nowhere": datalist("nowhere", "{bad}/lists/nowhere.json"),
}
PLANS = {
    "plan: nowhere": plan("nowhere", "{bad}/plans/nowhere.json"),
    "plan: broken": plan("broken", "{bad}/plans/broken.json"),
    "plan: a list": plan("a_list", "{bad}/plans/a_list.json", "a list"),
    "plan: no patch": plan("no_patch", "no_patch.json", "patch_vox"),
    "plan: unknown key": plan("unknown_key", "unknown_key.json", "patch_size", "known: "),
    "plan: labels without background": plan("labels_without_background", "labels", "background"),
    "plan: labels are a list": plan("labels_are_a_list", "labels", "['background', 'organ']"),
    "plan: two spacings": plan("two_spacings", "spacing_mm", "[1.0, 1.0]"),
    "plan: spacing is text": plan("spacing_is_text", "spacing_mm", "['1', '1', '1']"),
    "plan: patch of fractions": plan("patch_of_fractions", "patch_vox", "8.5"),
    "plan: orientation": plan("orientation_XYZ", "orientation", "'XYZ'"),
    "plan: unknown rule": plan("rule_unknown", "'hist'", "zscore, ct, range"),
    "plan: no rule": plan("rule_missing", "intensity", "[{}]"),
    "plan: rule without numbers": plan("rule_without_numbers", "'high'"),
}
DATA = PICTURES | LABELS | VOLUMES | LISTS | PLANS
