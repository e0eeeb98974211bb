from __future__ import annotations

import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.review.desk import Desk
from culling.cloud.review.place import Box, place_of, to_toml
from culling.cloud.store.frames import StoredFrame
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError
from culling.common.wire.ignored import standing
from culling.edge.regions import IgnoreSettings, places
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import by_number

FRAME = StoredFrame(
    id="0" * 32, camera=CAMERA, captured=0.0, reason="hard", loss=1.0, model_id="gate-1", width=64, height=64,
    sha256="", held_out=False, guard=False, detections=detections(), features=None, labels=None, probability=None,
    classes=CLASSES,
)  # fmt: skip
SIDE = st.floats(0, 60, allow_nan=False)


@pytest.mark.parametrize("width", [2.0, 20.0])
@pytest.mark.parametrize("bottom", [30.0, 48.0, 70.0])
def test_whatever_stands_in_a_box_stands_in_its_place_also_at_the_frames_edge(
    reviewed: tuple[CloudState, Desk], width: float, bottom: float
) -> None:
    frame = by_number(reviewed[0])[1]
    box: Box = (5.0, 10.0, 5.0 + width, min(bottom, frame.height), "person")
    found = detections((*box[:4], 0.9, 0), (*box[:4], 0.9, 2))
    one, every = place_of(frame, box), place_of(frame, (*box[:4], ""))
    assert standing([one], found, frame.classes, frame.width, frame.height).tolist() == [True, False]
    assert standing([every], found, frame.classes, frame.width, frame.height).tolist() == [True, True]


@given(left=SIDE, top=SIDE)
def test_an_edge_reads_the_settings_as_the_same_place(left: float, top: float) -> None:
    one = place_of(FRAME, (left, top, left + 4, top + 4, "person"))
    told = tomllib.loads('[[camera]]\nname = "gate"\n' + to_toml(CAMERA, one))["camera"][0]["ignore"]
    (settings,) = (IgnoreSettings(**row) for row in told)
    (again,) = places([settings])
    assert again.classes == one.classes
    assert np.allclose(again.polygon, one.polygon, atol=2e-4)


def test_a_box_of_nothing_and_a_class_that_nobody_looks_for_are_refused(reviewed: tuple[CloudState, Desk]) -> None:
    frame = by_number(reviewed[0])[1]
    with pytest.raises(InputError, match="covers nothing of its picture"):
        place_of(frame, (5, 5, 5, 9, "person"))
    with pytest.raises(InputError, match="covers nothing of its picture"):
        place_of(frame, (frame.width, 5, frame.width + 9, 9, "person"))
    with pytest.raises(InputError, match="zebra is no class of its camera: person, "):
        place_of(frame, (5, 5, 9, 9, "zebra"))
