"""`[teacher]` and `[labelling]`: who labels, and how many frames a day."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from culling.cloud.teacher.views import parse_view
from culling.common.config import Section

Layout = Literal["torchvision", "yolox", "yolov5", "yolov8", "end-to-end", "detr"]
Colours = Literal["rgb", "bgr"]
Pixels = Literal["0-1", "0-255", "imagenet"]
Fit = Literal["stretch", "corner", "centre"]

KNOWN = ("bundled", "yolox-nano", "torchvision", "detectron2", "transformers", "onnx", "ensemble")
"""The kinds that come along; what another package's reads is for that to say."""

KINDS = f"{', '.join(f'`{kind}`' for kind in KNOWN)}, or one that another package brings"

PAIR = ({"kind": "bundled"}, {"kind": "yolox-nano", "views": ("whole", "tiles 2x2")})
"""The members of an ensemble that names none: the teachers that come with Culling."""

SHARED = ("short_side", "batch")
"""What of an ensemble's own keys those two get: the keys by which a machine that is small or large is fitted."""


ALONE = ("file", "map", "views")
"""Keys of one teacher: without a kind they are of the bundled one, which was the default before the two were."""


READ_BY = {"builder": "torchvision"} | dict.fromkeys(("layout", "colours", "pixels", "fit"), "onnx")
"""Keys that one kind alone reads."""


class TeacherPart(Section):
    """One teacher: of which `kind`, from which `file`, and how it looks (see `cloud/teacher`)."""

    kind: str = Field(default="bundled", description=KINDS)
    file: Path | None = Field(
        default=None,
        description="the teacher's weights, model file or folder; none: what comes with the kind, if anything does",
    )
    builder: str | None = Field(
        default=None, description="`torchvision`: which of its detectors, e.g. `fasterrcnn_resnet50_fpn_v2`"
    )
    names: tuple[str, ...] = Field(
        default=(), description="what the teacher's labels mean, in order; an empty list: what its file says, or COCO's"
    )
    map: dict[str, tuple[str, ...]] = Field(
        default={},
        description='for a class, the teacher\'s names that mean it, e.g. `car = ["car", "van"]`; a class that is not '
        "here is meant by its own name. An open-vocabulary teacher is asked for these words",
    )
    views: tuple[str, ...] = Field(
        default=(),
        description="how it looks at each frame, merged: `whole`, `flip`, `tiles 2x2`, `scale 1.5`; empty: whole",
    )
    short_side: int | None = Field(
        default=None,
        ge=64,
        le=2160,
        description="pixels of the short side of the frames that the teacher sees; none: what it was made for, 480 for "
        "the bundled one, which enlarges small frames 1.5 times at most; `yolox-nano` always sees 416 by 416",
    )
    batch: int = Field(default=4, ge=1, le=64, description="frames per forward pass")
    layout: Layout | None = Field(default=None, description="`onnx`: what the outputs mean; none: it is recognised")
    colours: Colours | None = Field(default=None, description="`onnx`: order of colours; none: as the layout has it")
    pixels: Pixels | None = Field(
        default=None,
        description="`onnx`: range of the input, or `imagenet`, normalised by its mean and deviation; none: as the "
        "layout has it",
    )
    fit: Fit | None = Field(
        default=None,
        description="`onnx`: how a frame comes to the input's size, stretched or with grey beside it; none: as the "
        "layout has it",
    )

    @field_validator("views")
    @classmethod
    def _seen(cls, views: tuple[str, ...]) -> tuple[str, ...]:
        for view in views:
            parse_view(view)
        return views

    @model_validator(mode="after")
    def _read(self) -> Self:
        for key, kind in READ_BY.items():
            if getattr(self, key) is not None and self.kind in KNOWN and self.kind != kind:
                raise ValueError(
                    f'{key}: only kind = "{kind}" reads it, not {self.kind}; leave it out, or name the kind'
                )
        return self


class TeacherSettings(TeacherPart):
    """`[teacher]`: who labels, and which of its boxes are believed (see `cloud/teacher`).

    When a student is compared with the labels, those of `true_score` or more count as true, and those between
    `min_score` and that count neither way; labels below `min_score` are not kept.
    """

    kind: str = Field(
        default="ensemble", description=f"{KINDS}; without it `bundled` where a `file`, `map` or `views` is given"
    )
    member: tuple[TeacherPart, ...] = Field(
        default=(),
        description="`ensemble`: two or more `[[teacher.member]]`, each with the keys above; none: `bundled`, and "
        "`yolox-nano` with the views `whole` and `tiles 2x2`",
    )
    min_score: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="boxes below this score are not kept; those from here to `true_score` count neither as right "
        "nor as wrong",
    )
    true_score: float = Field(default=0.4, ge=0, le=1, description="boxes from this score on are taken as true")

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if isinstance(given, dict) and "weights" in given:
            file = given["weights"]
            raise ValueError(f'write file = "{file}" instead of weights' if file != "bundled" else "leave out weights")
        return given

    @model_validator(mode="before")
    @classmethod
    def _paired(cls, given: Any) -> Any:
        """Write out the members of an ensemble that names none, so that whatever reads settings finds them there."""
        if not isinstance(given, dict):
            return given
        file = given.get("file")
        if not given.keys() & {"kind", "member"} and any(given.get(key) for key in ALONE):
            return given | {"kind": "bundled"}
        if given.get("kind", cls.model_fields["kind"].default) != "ensemble":
            return given
        if file:
            raise ValueError(
                f'file = "{file}": an ensemble has none; write kind = "bundled" for a file of its architecture, or '
                "name it in a [[teacher.member]]"
            )
        if given.get("member"):
            return given
        shared = {key: given[key] for key in SHARED if key in given}
        return given | {"member": [one | shared for one in PAIR]}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.member and self.kind in KNOWN and self.kind != "ensemble":
            raise ValueError(f'member: {self.kind} has none; write kind = "ensemble", or leave them out')
        if self.min_score > self.true_score:
            raise ValueError(
                f"min_score = {self.min_score:g} is above true_score = {self.true_score:g}: boxes that count would not "
                "be kept"
            )
        return self


class LabellingSettings(Section):
    """`[labelling]`: of each camera at most `per_day` frames are labelled in a UTC day, as they come.

    It accrues over the day: half for held-out and audit frames, half for the others, those worth most, and what one of
    them leaves for the other. Forwarding 40 an hour, a camera sends 960 a day: two thirds of them are labelled.
    """

    per_day: int = Field(
        default=640,
        ge=0,
        description="frames of a camera that are labelled in a UTC day at most, 0 for none, as they accrue over the "
        "day: half for held-out and audit frames, half for those worth most, what one leaves for the other",
    )
    verdicts_per_minute: int = Field(
        default=0,
        ge=0,
        le=600,
        description="frames of a camera on which the teacher answers an edge that waits (`[cascade]` of its settings) "
        "within any minute at most; 0: edges are told not to ask. With any, the teacher is loaded at once and stays, "
        "and a batch of labels is one forward pass, since the next question waits for its end",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="threads of the process that labels; 0: half as many as there are cores, so that a round that "
        "trains meanwhile has the others",
    )
