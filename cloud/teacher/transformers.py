"""Kind `transformers`: DETR, RT-DETR, D-FINE, RF-DETR and their like from a folder, and open-vocabulary detectors.

    [teacher]
    kind = "transformers"
    file = "dfine-x-coco"     # a folder: config.json, model.safetensors, preprocessor_config.json

Grounding DINO and OWL are asked for each class by its name, or by what `[teacher.map]` lists for it. Nothing is
downloaded, no code of the folder runs, and weights are safetensors alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from culling.cloud.model.coco import by_position
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.cost import torch_gflops
from culling.cloud.teacher.fusion import suppress_classes
from culling.cloud.teacher.interface import Picture
from culling.cloud.teacher.layouts import OVERLAP
from culling.common.errors import MissingExtraError, ModelError, SettingsError
from culling.common.frame import Detections

FLOOR = 0.02
"""Boxes below this score are left out: these models give hundreds of queries for every frame."""

GROUNDING = ("grounding-dino", "mm-grounding-dino")
OWL = ("owlvit", "owlv2")

LOCAL = {"local_files_only": True, "trust_remote_code": False}


class Reader(Protocol):
    """Turns pictures of one size into the model's inputs, and its outputs into boxes in their pixels."""

    def inputs(self, frames: Sequence[Picture]) -> dict[str, Tensor]:
        """Return what the model takes for `frames` `(H, W, 3)` RGB."""
        ...

    def read(self, outputs: Any, fed: dict[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        """Return the boxes of each frame, whose `(height, width)` is `size`, best first."""
        ...


class TransformersTeacher:
    """Labels frames with a detector of transformers; `reader` is what differs between their families."""

    def __init__(self, model: Any, reader: Reader, names: tuple[str, ...], batch: int) -> None:
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)
        self._reader = reader
        self.names = names
        self.batch = batch

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(next(self._model.parameters()).device)

    @torch.inference_mode()
    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what the model sees in each frame, in that order, boxes in the frame's pixels."""
        labels = [Detections.empty()] * len(frames)
        for indices in self._batches(frames):
            fed = self._fed([frames[index] for index in indices])
            size = frames[indices[0]].shape[:2]
            found = self._reader.read(self._model(**fed), fed, (size[0], size[1]))
            for index, one in zip(indices, found, strict=True):
                labels[index] = one
        return labels

    def gflops(self, height: int, width: int) -> float | None:
        """Return what a frame of that size costs."""
        fed = self._fed([np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)])
        return torch_gflops(lambda: self._model(**fed))

    def _fed(self, frames: Sequence[Picture]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in self._reader.inputs(frames).items()}

    def _batches(self, frames: Sequence[Picture]) -> Iterator[list[int]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, frame in enumerate(frames):
            groups.setdefault(frame.shape, []).append(index)
        for indices in groups.values():
            for start in range(0, len(indices), self.batch):
                yield indices[start : start + self.batch]


class Closed:
    """A detector of the classes that it was trained on."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def inputs(self, frames: Sequence[Picture]) -> dict[str, Tensor]:
        """Return the pictures as the folder's own processor makes them."""
        return dict(self._processor(images=list(frames), return_tensors="pt"))

    def read(self, outputs: Any, fed: dict[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        """Return the boxes as the folder's own processor reads them."""
        sizes = [size] * len(outputs.logits)
        found = self._processor.post_process_object_detection(outputs, threshold=FLOOR, target_sizes=sizes)
        return [_detections(one["boxes"], one["scores"], one["labels"], size) for one in found]


class Owl:
    """OWL-ViT and OWLv2: every prompt is a query of its own."""

    def __init__(self, processor: Any, prompts: Sequence[str]) -> None:
        self._processor = processor
        self._prompts = list(prompts)

    def inputs(self, frames: Sequence[Picture]) -> dict[str, Tensor]:
        """Return pictures and prompts."""
        text = [self._prompts] * len(frames)
        return dict(self._processor(text=text, images=list(frames), return_tensors="pt"))

    def read(self, outputs: Any, fed: dict[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        """Return the boxes; the label is the prompt's index."""
        sizes = [size] * len(outputs.logits)
        found = self._processor.post_process_grounded_object_detection(outputs, threshold=FLOOR, target_sizes=sizes)
        each = (_detections(one["boxes"], one["scores"], one["labels"], size) for one in found)
        return [suppress_classes(one, OVERLAP) for one in each]


class Grounding:
    """Grounding DINO: one sentence holds all prompts, and a box's score of a prompt is the best of its words'."""

    def __init__(self, processor: Any, prompts: Sequence[str]) -> None:
        self._processor = processor
        self._text = " ".join(f"{prompt.casefold().strip().rstrip('.')}." for prompt in prompts)
        self._count = len(prompts)

    def inputs(self, frames: Sequence[Picture]) -> dict[str, Tensor]:
        """Return pictures and the sentence."""
        return dict(self._processor(text=[self._text] * len(frames), images=list(frames), return_tensors="pt"))

    def read(self, outputs: Any, fed: dict[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        """Return the boxes; the label is the prompt's index."""
        spans = self._spans(fed["input_ids"][0].tolist())
        chances = outputs.logits.sigmoid()
        found = []
        for boxes, one in zip(outputs.pred_boxes, chances, strict=True):
            scores, labels = torch.stack([one[:, span].amax(1) for span in spans], dim=1).max(1)
            found.append(suppress_classes(_detections(_corners(boxes, size), scores, labels, size), OVERLAP))
        return found

    def _spans(self, ids: Sequence[int]) -> list[list[int]]:
        """Return the places of each prompt's words in the sentence. Raises `ModelError` where one has none."""
        tokenizer = self._processor.tokenizer
        stop, special = tokenizer.convert_tokens_to_ids("."), set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        spans: list[list[int]] = [[]]
        for place, token in enumerate(ids):
            if token == stop:
                spans.append([])
            elif token not in special:
                spans[-1].append(place)
        if len(spans) != self._count + 1 or not all(spans[:-1]):
            raise ModelError("teacher.map: a prompt has no word, or a full stop inside; write plain words")
        return spans[:-1]


def open_transformers(part: TeacherPart, classes: tuple[str, ...]) -> TransformersTeacher:
    """Return the detector in the folder `file`; an open-vocabulary one is asked for `classes`, as `map` says it.

    Raises `ModelError` for a folder that cannot be used, `MissingExtraError` where transformers is not installed.
    """
    if part.file is None:
        raise SettingsError("teacher.file: name the model's folder, with config.json and model.safetensors")
    if part.short_side is not None:
        raise SettingsError(
            "teacher.short_side: the size is that of the folder's preprocessor_config.json; leave it out"
        )
    if not (part.file / "config.json").is_file():
        raise ModelError(f"{part.file}: is no model's folder: it has no config.json")
    hub = _transformers()
    try:
        return _open(hub, part.file, part, classes)
    except (OSError, ValueError, KeyError, ImportError, AttributeError, RuntimeError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(f"{part.file}: transformers cannot open it: {line}") from None


def _open(hub: Any, folder: Path, part: TeacherPart, classes: tuple[str, ...]) -> TransformersTeacher:
    config = hub.AutoConfig.from_pretrained(folder, **LOCAL)
    if config.model_type in (*GROUNDING, *OWL):
        prompts = tuple(one for name in classes for one in part.map.get(name, (name,)))
        processor = hub.AutoProcessor.from_pretrained(folder, **LOCAL)
        model = hub.AutoModelForZeroShotObjectDetection.from_pretrained(folder, use_safetensors=True, **LOCAL)
        reader: Reader = Owl(processor, prompts) if config.model_type in OWL else Grounding(processor, prompts)
        return TransformersTeacher(model, reader, prompts, part.batch)
    model = hub.AutoModelForObjectDetection.from_pretrained(folder, use_safetensors=True, **LOCAL)
    processor = hub.AutoImageProcessor.from_pretrained(folder, **LOCAL)
    return TransformersTeacher(model, Closed(processor), _names(part, config), part.batch)


def _transformers() -> Any:
    try:
        hub = import_module("transformers")
        hub.utils.logging.disable_progress_bar()
        return hub
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the teacher `transformers` needs {error.name}; install it with: pip install 'culling[transformers]'"
        ) from None


def _names(part: TeacherPart, config: Any) -> tuple[str, ...]:
    own = {int(label): str(name) for label, name in config.id2label.items()}
    names = tuple(own.get(label, "N/A") for label in range(max(own, default=-1) + 1))
    if part.names and len(part.names) != len(names):
        raise ModelError(f"{part.file}: finds {len(names)} classes, but teacher.names lists {len(part.names)}")
    return part.names or by_position(names)


def _corners(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return centre and size in shares of the frame as xyxy in its pixels."""
    height, width = size
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1) * torch.tensor([width, height] * 2, device=boxes.device)


def _detections(boxes: Tensor, scores: Tensor, labels: Tensor, size: tuple[int, int]) -> Detections:
    """Return the boxes that lie in the frame, cut at its sides, best first."""
    height, width = size
    held: NDArray[np.float32] = boxes.float().cpu().numpy()
    held = np.clip(held, 0, np.array([width, height] * 2, np.float32))
    found = Detections(held, scores.float().cpu().numpy(), labels.cpu().numpy().astype(np.int64))
    found = found.where((held[:, 2] > held[:, 0]) & (held[:, 3] > held[:, 1]) & (found.scores >= FLOOR))
    order = np.argsort(-found.scores, kind="stable")
    return Detections(found.boxes[order], found.scores[order], found.labels[order])
