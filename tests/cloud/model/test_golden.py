from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from culling.cloud.model.golden import golden_frame, newest_picture
from culling.common.graph import open_graph
from culling.common.wire.codec import decode_jpeg, encode_jpeg
from culling.common.wire.messages import from_wire
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, hard_frame, held_out
from support.detectors import picture

EDGE = "e" * 40
HELD_OUT = [seq for seq in range(1, 40) if held_out(seq)]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def add(cloud: CloudState, seq: int, jpeg: bytes | None = None) -> bytes:
    jpeg = jpeg or encode_jpeg(picture(96, 128, seq))
    cloud.frames.add(EDGE, *hard_frame(seq, jpeg=jpeg, width=128, height=96))
    return jpeg


def test_the_golden_frame_is_small_and_what_the_graph_finds_in_it(narrow: Path) -> None:
    graph = open_graph(max((narrow / "models").glob("*.onnx")).read_bytes(), provider="cpu", threads=1)
    golden = golden_frame(graph, picture(960, 1280), 1.0, 128)
    assert len(golden.jpeg) < 300_000
    found = from_wire(golden.detections, len(graph.info.classes))
    assert found.boxes.max() <= 640


def test_the_newest_held_out_picture_is_taken_before_any_round_has_seen_it(cloud: CloudState) -> None:
    for seq in range(1, HELD_OUT[2]):
        jpeg = add(cloud, seq)
        if seq == HELD_OUT[1]:
            newest = jpeg
    found = newest_picture(cloud.frames, cloud.lifecycle, CAMERA)
    assert found is not None
    assert np.array_equal(found, decode_jpeg(newest))


def test_a_picture_that_cannot_be_used_makes_way_for_the_one_before(cloud: CloudState) -> None:
    jpeg = add(cloud, HELD_OUT[0])
    add(cloud, HELD_OUT[1], encode_jpeg(picture(96, 128, 99))[:-900])
    add(cloud, HELD_OUT[2])
    (cloud.data_dir / "frames" / CAMERA / f"{frame_id(EDGE, 'boot-1', HELD_OUT[2])}.jpg").write_bytes(b"flipped")
    found = newest_picture(cloud.frames, cloud.lifecycle, CAMERA)
    assert found is not None
    assert np.array_equal(found, decode_jpeg(jpeg))


def test_a_camera_without_held_out_frames_has_no_picture(cloud: CloudState) -> None:
    add(cloud, next(seq for seq in range(1, 40) if seq not in HELD_OUT))
    assert newest_picture(cloud.frames, cloud.lifecycle, CAMERA) is None
