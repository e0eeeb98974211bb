"""COCO's classes, in both orders in which models number them, for those that say theirs otherwise or not at all."""

from __future__ import annotations

from collections.abc import Sequence

COCO_80 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""Without gaps, from 0: YOLO, RT-DETR, detectron2."""

BACKGROUND, NOTHING = "__background__", "N/A"
_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


def _with_gaps() -> tuple[str, ...]:
    names = iter(COCO_80)
    return (BACKGROUND, *(NOTHING if number in _GAPS else next(names) for number in range(1, 91)))


COCO_91 = _with_gaps()
"""By COCO's own numbers, 0 being the background: torchvision, DETR."""

OTHERWISE = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "tvmonitor": "tv",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
}
"""Six of COCO's classes as Pascal VOC, and whoever copied its words (Darknet, D-FINE), names them."""

AGREE = 0.75
"""Lists that agree with COCO's at so large a share of their places are COCO's, in COCO's order."""


def plain(name: str) -> str:
    """Return a name without what names of the same thing differ by: case, `_`, `-`, and VOC's six other words."""
    word = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return OTHERWISE.get(word, word)


def by_position(names: Sequence[str]) -> tuple[str, ...]:
    """Return COCO's own names where `names` is COCO's list, told by its length and most of its places, else `names`.

    A list without names (`LABEL_0`, `LABEL_1`, or numbers) of COCO's length is COCO's too.
    """
    known = {len(COCO_80): COCO_80, len(COCO_91): COCO_91}.get(len(names))
    if known is None:
        return tuple(names)
    if all(name.removeprefix("LABEL_").isdecimal() for name in names):
        return known
    real = [(one, other) for one, other in zip(names, known, strict=True) if other not in (BACKGROUND, NOTHING)]
    same = sum(one.casefold() == other for one, other in real)
    return known if same >= AGREE * len(real) else tuple(names)
