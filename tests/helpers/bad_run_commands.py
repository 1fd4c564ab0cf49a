"""Lists bad checkpoints, configs and results of runs, and what the line of error must name."""

from command_lines import NO_CASE, ONE, bad, checkpoint, config, train

NAN = "backbone.net.blocks.0.layer.proj_up.weight"
CONVERT = "model_converters/convert_checkpoint"
CHECKPOINTS = {
    "checkpoint: nowhere": checkpoint("nowhere.pth"),
    "checkpoint: an address": bad(
        "test {bad}/config.py https://example.org/a.pth --work-dir {out}", "https://example.org/a.pth"
    ),
    "checkpoint: no bytes": checkpoint("cut_0.pth"),
    "checkpoint: cut": checkpoint("cut_5000.pth"),
    "checkpoint: text": checkpoint("text.pth"),
    "checkpoint: a folder": checkpoint("folder.pth"),
    "checkpoint: a list": checkpoint("no_dict.pth", "list"),
    "checkpoint: state is a number": checkpoint("state_is_a_number.pth", "state_dict", "int"),
    "checkpoint: state is text": checkpoint("state_is_text.pth", "another model"),
    "checkpoint: nothing": checkpoint("without_tensors.pth", "another model"),
    "checkpoint: another model": checkpoint("other_model.pth", "another model", "tensors"),
    "checkpoint: another width": checkpoint("other_width.pth", "another shape"),
    "checkpoint: NaN": checkpoint("nan.pth", "NaN", "1 tensors", NAN, tool="predict"),
    "checkpoint: cut safetensors": checkpoint("cut.safetensors"),
    "checkpoint: renamed to safetensors": checkpoint("renamed.safetensors"),
    "checkpoint: an array": checkpoint("array.npy", tool="predict"),
    "load_from: another model": train("load_from={bad}/checkpoints/other_model.pth", "other_model.pth", "0 of "),
    "load_from: NaN": train("load_from={bad}/checkpoints/nan.pth", "nan.pth", "NaN"),
    "load_from: a folder": train("load_from={bad}/checkpoints/folder.pth", "{bad}/checkpoints/folder.pth"),
    "init_cfg: another model": train(
        "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint={bad}/checkpoints/other_model.pth",
        "{bad}/checkpoints/other_model.pth",
        "ViL",
    ),
    "init_cfg: NaN": train(
        "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint={bad}/checkpoints/nan.pth",
        "nan.pth",
        "NaN",
    ),
    "convert: cut safetensors": bad(CONVERT + " {bad}/checkpoints/cut.safetensors {out}/a.pth", "cut.safetensors"),
    "convert: another model": bad(CONVERT + " {bad}/checkpoints/other_model.pth {out}/a.pth", "ViL"),
    "convert: to another kind": bad(CONVERT + " {bad}/good.pth {out}/a.onnx", ".pth", ".safetensors"),
    "volumes: no checkpoint": bad(
        "volumes/predict {bad}/volumes.py none.pth {bad}/case.nii.gz --out {out}", "none.pth"
    ),
    "predict: cut": checkpoint("cut_5000.pth", tool="predict"),
    "volumes: another model": bad(
        "volumes/predict {bad}/volumes.py {bad}/good.pth {bad}/case.nii.gz --out {out}", "{bad}/good.pth"
    ),
}
CONFIGS = {
    "config: nowhere": config("nowhere.py", "{bad}/configs/nowhere.py"),
    "config: syntax": config("syntax.py", "syntax.py", "SyntaxError"),
    "config: no base": config("no_base.py", "no_base.py"),
    "config: unknown name": config("name_error.py", "name_error.py", "NameError", "'EncoderDecoder'", "line 1"),
    "config: fails": config("division.py", "division.py", "ZeroDivisionError"),
    "config: import": config("import.py", "import.py", "ImportError", "No module named 'no_such_package'"),
    "config: reserved name": config("reserved.py", "reserved.py", "KeyError"),
    "config: empty": config("empty.py", "empty.py", "model"),
    "config: no data": config("no_data.py", "config"),
    "config: text": config("config.txt", "config.txt", "OSError"),
    "config: broken JSON": config("broken.json", "broken.json"),
    "config: a folder": config("folder.py", "{bad}/configs/folder.py"),
    "config: unknown model": config("unknown_model.py", "EncodeDecode ", "mmseg::model"),
    "config: unknown option": config("unknown_option.py", "hidden"),
    "config: unknown data set": config("unknown_data.py", "NoDataset", "mmseg::dataset"),
    "config: unknown step": config("unknown_step.py", "NoStep", "mmseg::transform"),
    "config: classes": config("classes.py", "num_classes=7", "SampleDataset", "12"),
    "config: none for test": bad("test none.py {bad}/good.pth --work-dir {out}", "none.py"),
    "config: none for predict": bad("predict none.py {bad}/good.pth " + ONE + " --out {out}", "none.py"),
    "config: none for volumes": bad(
        "volumes/predict none.py {bad}/volumes.pth {bad}/case.nii.gz --out {out}", "none.py"
    ),
    "run: none for volumes": bad("volumes/predict {bad}/no_run {bad}/case.nii.gz --out {out}", "{bad}/no_run"),
    "config: of pictures for volumes": bad(
        "volumes/predict {bad}/config.py {bad}/good.pth {bad}/case.nii.gz --out {out}",
        "{bad}/config.py",
        "VolumeSegmentor",
    ),
    "config: of volumes for pictures": bad(
        "predict {bad}/volumes.py {bad}/volumes.pth " + ONE + " --out {out}", "volumes.py", "VolumeSegmentor"
    ),
    "config: of a segmentor for probe": bad("studies/probe {bad}/config.py none --work-dir {out}", "classifier"),
}
RESULTS = {
    "export: no run": bad("volumes/export_bundle nowhere --out {out}", "nowhere"),
    "export: no config in it": bad("volumes/export_bundle {bad}/sample --out {out}", "{bad}/sample", "0"),
    "plot: no run": bad("analysis/plot_runs --group a nowhere --out {out}", "nowhere"),
    "plot: a broken log": bad("analysis/plot_runs --group a {bad}/runs/log --out {out}", "scalars.json", "line 1"),
    "compare: no run": bad("volumes/compare nowhere there --out {out}/a.csv", "metrics.csv", "nowhere"),
    "compare: a broken table": bad("volumes/compare {bad}/runs/table {bad}/runs/table", "runs/table/metrics.csv"),
    "compare: text for numbers": bad("volumes/compare {bad}/runs/text {bad}/runs/text", "runs/text/metrics.csv"),
    "compare: bytes": bad("volumes/compare {bad}/runs/bytes {bad}/runs/bytes", "runs/bytes/metrics.csv"),
    "out: of other settings": bad(
        NO_CASE + " {bad}/case.nii.gz --out {bad}/runs/settings", "runs/settings/settings.json"
    ),
}
RUNS = CHECKPOINTS | CONFIGS | RESULTS
