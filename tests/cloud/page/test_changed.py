from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.page.changed import changed, gone_told, told_of
from support.cloud import CAMERA, CloudState
from support.showcase import Showcase

PERSON, CAR = [0, 0, 10, 10, 0.9, "person"], [40, 0, 60, 30, 0.8, "car"]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    found = CloudState(tmp_path)
    fleet, now = Showcase(found, [CAMERA]), time.time()
    fleet.add_frames(CAMERA, 6, now)
    fleet.add_rounds(CAMERA, 2, now)
    fleet.add_changes(CAMERA, 2, 3)
    yield found
    found.close()


def test_both_students_stand_beside_the_labels_and_what_changed_is_told(cloud: CloudState) -> None:
    found = changed(cloud.index, cloud.settings, 2)
    assert found is not None
    assert (found["before"], found["after"], found["gone"], found["gone_told"]) == ("gate-1", "gate-3", 0, "")
    assert [frame["difference"] for frame in found["frames"]] == [2.0, 1.9, 1.8]
    frame = found["frames"][0]
    assert [box[4:] for box in frame["after"]] == [[0.93, "person"], [0.77, "car"]]
    assert [box[5] for box in frame["teacher"]] == ["person", "car"]
    assert frame["told"] == (
        "of 2 labelled objects the student before found 1, the new one 2; "
        "boxes where nothing is labelled: 1 before, 0 now"
    )


def test_frames_that_were_removed_are_counted_and_a_round_of_an_earlier_version_has_nothing(cloud: CloudState) -> None:
    found = changed(cloud.index, cloud.settings, 2)
    assert found is not None
    cloud.frames.remove(CAMERA, [frame["id"] for frame in found["frames"][:2]])
    left = changed(cloud.index, cloud.settings, 2)
    assert left is not None
    assert [frame["id"] for frame in left["frames"]] == [found["frames"][2]["id"]]
    assert left["gone_told"].startswith("2 of the 3 frames are no longer stored")
    assert changed(cloud.index, cloud.settings, 1) is None
    assert changed(cloud.index, cloud.settings, 99) is None


def test_words_follow_what_there_is_to_tell() -> None:
    frame = {"before": [PERSON], "after": [PERSON, CAR], "teacher": None}
    assert told_of(frame) == "the student before found 1 box, the new one 2"
    assert told_of({**frame, "teacher": [PERSON, CAR]}) == (
        "of 2 labelled objects the student before found 1, the new one 2"
    )
    assert told_of({**frame, "teacher": []}) == "boxes where nothing is labelled: 1 before, 2 now"
    assert gone_told(1, 1).startswith("the frame is no longer stored")
    assert gone_told(3, 3).startswith("all 3 frames are no longer stored")
