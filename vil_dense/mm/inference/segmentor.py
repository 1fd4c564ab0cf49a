"""Labels pictures with a trained segmentor, from Python."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from vil_dense.mm.datasets.label_ids import file_ids
from vil_dense.mm.datasets.wrappers import config_parts
from vil_dense.mm.engine.resolve.config import name_outputs, resolve_norm
from vil_dense.mm.engine.resolve.pictures import resolve_from_checkpoint
from vil_dense.mm.inference.image_format import ImageFormat, ImageLike, after_loading, name_of, named_errors
from vil_dense.mm.inference.prediction import Prediction, Prepared, predict_list
from vil_dense.mm.inference.raster.labels import label_raster
from vil_dense.mm.inference.sliding_window import (
    choose_windows,
    classes_of,
    head_logits,
    logit_bands,
    probabilities_of,
)
from vil_dense.mm.publish.hub import download, upload
from vil_dense.mm.publish.onnx_file import OnnxNetwork, read_onnx
from vil_dense.mm.publish.published import is_published, needs_no_config, publish, read_published
from vil_dense.mm.publish.trained_model import TrainedModel, load_trained
from vil_dense.mm.utils.device import choose_device
from vil_dense.mm.utils.heads import last_head
from vil_dense.mm.utils.safe_load import load_exactly, safe_files

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Segmentor:
    """Labels images as the test of its config does. It may be called from several threads.

        segmentor = Segmentor.load("work_dirs/my_pictures")
        prediction = segmentor.predict("street.jpg")
        prediction.mask, prediction.classes

    Attributes:
        classes: names of the K classes.
        ids: the id in a mask of each class, (K,) uint8; those of the data set's own label files.
        palette: colour of each class, K times (R, G, B).
        model: the segmentor of mmseg, in eval mode.
        device: that the model is on.
        batch: how many windows the network sees at one time.
        trained: config, metrics and origin of the model.
    """

    def __init__(
        self,
        trained: TrainedModel,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        own_size: bool = False,
        batch: int = 4,
    ) -> None:
        if batch < 1:
            raise ValueError(f"--window-batch is at least 1, got {batch}")
        if dtype not in (None, *DTYPES):
            raise ValueError(f"dtype is one of {', '.join(map(str, DTYPES))}, got {dtype}")
        if trained.graph and (dtype not in (None, torch.float32) or str(device or "cpu") != "cpu"):
            raise ValueError(f"{trained.name} runs in float32 on the CPU, got device {device} and dtype {dtype}")
        cfg = copy.deepcopy(trained.cfg)
        self.device, self.dtype, self.batch = choose_device("cpu" if trained.graph else device), dtype, batch
        self.trained = replace(trained, weights={})  # the model has them
        resolve_norm(cfg, world_size=1, cuda=False, weights=trained.weights)
        resolve_from_checkpoint(cfg, trained.described)
        self.classes = tuple(trained.described["classes"])
        self.ids = file_ids(trained.described, len(self.classes))
        self.palette: Sequence[Sequence[int]] = trained.described["palette"]
        dataset = next(config_parts(cfg.test_dataloader.dataset))
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmseg")), safe_files():
            self.format = ImageFormat.of(cfg.model, dataset.pipeline[0])
            self._pipeline = after_loading(dataset.pipeline, own_size)
            build: Any = partial(OnnxNetwork, trained) if trained.graph else MODELS.build
            self.model = build(name_outputs(cfg.model))
        count = last_head(self.model.decode_head).num_classes
        if len(self.classes) != count:
            raise ValueError(
                f"{trained.name}: the data set names {len(self.classes)} classes, and the model has {count}"
            )
        if not trained.graph:
            load_exactly(self.model, trained.weights, trained.name)
            self.model.to(self.device).eval()

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        weights: str | Path | None = None,
        config: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        own_size: bool = False,
        batch: int = 4,
        whole: bool = False,
        window: Sequence[int] | int = (),
        stride: Sequence[int] | int = (),
    ) -> "Segmentor":
        """Loads a trained segmentor. No code of a checkpoint runs; a config is a program, so load only trusted ones.

        Args:
            source: a published file or folder; an `.onnx` file of `tools/export_onnx.py`, which onnxruntime runs; or
                the work folder of a run (its config, and its best checkpoint or else the last one), a checkpoint
                beside its config, or a config. Averaged weights (EMA) are taken where the run has them.
            weights: the checkpoint, where `source` is a config, or to take another one of a folder.
            config: the config, where `source` has none beside it.
            device: `cpu`, `cuda`, `cuda:1`, `mps`; None takes `cuda` where there is one, else `cpu`.
            dtype: `torch.bfloat16` or `torch.float16` for mixed precision (autocast); None computes in float32.
            own_size: leave out the scaling of the config's test.
            batch: how many windows the network sees at one time.
            whole, window, stride: other windows than those of the config, (H, W) in px or one number for both; see
                `choose_windows`.

        Raises:
            FileNotFoundError, ValueError: the source cannot be used.
        """
        alone = weights is None and config is None and needs_no_config(Path(source))
        if Path(source).suffix == ".onnx":
            trained = read_onnx(Path(source))
        else:
            trained = read_published(Path(source)) if alone else load_trained(source, weights=weights, config=config)
        test_cfg = trained.cfg.model.get("test_cfg") or dict(mode="whole")
        trained.cfg.model.test_cfg = choose_windows(test_cfg, whole=whole, window=window, stride=stride)
        return cls(trained, device=device, dtype=dtype, own_size=own_size, batch=batch)

    @classmethod
    def from_pretrained(cls, repository: str, *, revision: str | None = None, **options: Any) -> "Segmentor":
        """Loads a published model from the Hugging Face Hub, or from a local folder of the same form.

        Args:
            repository: `OWNER/NAME`, or a folder.
            revision: branch, tag or commit of the repository.
            **options: those of `load`, without `weights` and `config`.

        Raises:
            ImportError: `huggingface_hub` is not installed (the extra `hub`).
            ValueError: the repository cannot be read, or holds no published model.
        """
        folder = Path(repository) if Path(repository).is_dir() else download(repository, revision)
        if not is_published(folder):
            raise ValueError(f"{repository} holds no model that was published by this package")
        return cls.load(folder, **options)

    def save_pretrained(self, folder: str | Path, *, name: str = "", licence: str = "") -> None:
        """Writes the model to a folder, or to a `.safetensors` file, that loads without running code.

        Args:
            folder: gets `model.safetensors`, `config.json` and a model card; or a file.
            name, licence: for the card.

        Raises:
            ValueError, FileExistsError: see `publish`.
        """
        states = {} if self.trained.graph else self.model.state_dict()  # `publish` refuses a graph
        weights = {key: value.detach().cpu().clone() for key, value in states.items()}
        publish(replace(self.trained, weights=weights), folder, name=name, licence=licence)

    def push_to_hub(self, repository: str, *, private: bool = False, name: str = "", licence: str = "") -> str:
        """Uploads the model to the Hugging Face Hub, as `save_pretrained` writes it, and returns the address.

        Args:
            repository: `OWNER/NAME`; it is made where there is none.
            private: whether a new repository is private.
            name, licence: for the card; the name is that of the repository if empty.

        Raises:
            ImportError: `huggingface_hub` is not installed (the extra `hub`).
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            self.save_pretrained(folder, name=name or repository.rpartition("/")[2], licence=licence)
            return upload(folder, repository, private=private)

    @overload
    def predict(self, images: ImageLike, probabilities: bool = False, batch_size: int = 1) -> Prediction:
        """Returns the classes of the pixels of an image."""

    @overload
    def predict(
        self, images: list[Any] | tuple[Any, ...], probabilities: bool = False, batch_size: int = 1
    ) -> list[Prediction]:
        """Returns the classes of the pixels of each image of a list."""

    def predict(
        self, images: ImageLike | list[Any] | tuple[Any, ...], probabilities: bool = False, batch_size: int = 1
    ) -> Prediction | list[Prediction]:
        """Returns the classes of the pixels of an image, or of each image of a list.

        An image is one of
            - a path, or a Pillow image;
            - an RGB array (H, W, 3), uint8, or float in 0..1, which is rounded to 8 bits;
            - an RGB tensor (3, H, W), uint8 or float in 0..1;
            - for a model that was trained on one channel: an array (H, W) or (H, W, 1), a tensor (1, H, W);
            - for a model whose files are read with all their bits: arrays of uint16, with the values of the files.

        Args:
            images: an image, or a list of images of any sizes.
            probabilities: also return those of all classes, which take 4 K bytes for each pixel.
            batch_size: how many images of one size the network sees at one time, if they are not cut into windows.

        Raises:
            ValueError, TypeError: an image of another shape, type or range than the model was trained on.
            OSError: a file that does not exist or is damaged.
        """
        if not isinstance(images, (list, tuple)):
            with named_errors(images):
                prepared = self.prepare(images, name_of(images) or "image")
            return self.run(prepared, probabilities)
        return predict_list(self, images, probabilities, batch_size)

    def prepare(self, image: ImageLike, name: str = "image") -> Prepared:
        """Returns an image as the network sees it, by the test pipeline; raises as `predict` does."""
        array = self.format.array(image)
        packed = self._pipeline(dict(img=array))
        data = self.model.data_preprocessor(pseudo_collate([packed]), False)
        meta = data["data_samples"][0].metainfo
        padding = meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0)))
        size = array.shape[0], array.shape[1]
        return Prepared(data["inputs"], padding, size, self.format.rgb(array), name)

    def run(
        self,
        prepared: Prepared,
        probabilities: bool = False,
        progress: Callable[[int, int], None] = lambda done, count: None,
        logits: Callable[[Tensor], Tensor] | None = None,
    ) -> Prediction:
        """Returns the classes of a prepared image; `progress`: see `logit_bands`; `logits` replaces `self.logits`."""
        indices = np.empty(prepared.size, np.uint8 if len(self.classes) <= 256 else np.uint16)
        shares = np.empty((len(self.classes), *prepared.size), np.float32) if probabilities else None
        bands = logit_bands(
            self.model,
            prepared.inputs,
            prepared.size,
            padding=prepared.padding,
            batch=self.batch,
            progress=progress,
            run=logits or self.logits,
        )
        for start, band in bands:
            rows = slice(start, start + band.shape[1])
            indices[rows] = classes_of(self.model, band).cpu().numpy()
            if shares is not None:
                shares[:, rows] = probabilities_of(band).cpu().numpy()
        return Prediction(
            mask=self.ids[indices],
            ids=self.ids,
            classes=self.classes,
            palette=self.palette,
            image=prepared.image,
            name=prepared.name,
            probabilities=shares,
        )

    def predict_raster(
        self,
        path: str | Path,
        out: str | Path,
        *,
        bands: Sequence[int] = (),
        percentiles: Sequence[float] | None = None,
        blend: str = "taper",
        progress: Callable[[int, int], None] = lambda done, count: None,
    ) -> None:
        """Labels a GeoTIFF of any size and writes a GeoTIFF of the same place; neither is ever whole in memory.

        Args:
            path: a GeoTIFF, BigTIFF or COG.
            out: gets the ids, with colours and names of the classes and with overviews; nodata stays nodata.
            bands: that the network sees, counted from 1, in the order of its channels; by default all.
            percentiles: scale each band so that these two percentiles of the raster become 0 and 255, as in (2, 98).
            blend: `taper` weights windows so that their edges do not show, `mean` averages them as mmseg's test does.
            progress: called with the number of finished windows and of all windows.

        Raises:
            ValueError: the file is damaged, or has other bands or bits than the model was trained on.
            ImportError: `rasterio` is not installed (the extra `raster`).
        """
        label_raster(self, path, out, bands=bands, percentiles=percentiles, blend=blend, progress=progress)

    def logits(self, inputs: Tensor) -> Tensor:
        """Returns the logits (B, K, h, w) of windows (B, C, H, W), in float32 at the resolution of the head."""
        mixed = self.dtype not in (None, torch.float32)
        with torch.autocast(self.device.type, self.dtype) if mixed else nullcontext():
            return head_logits(self.model, inputs).float()
