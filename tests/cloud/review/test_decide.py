from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.review.decide import Decided, Taken, decide, ignoring, listed, read_decisions
from culling.cloud.review.desk import Desk
from culling.cloud.store.people.reviews import DecidedError
from culling.common.errors import InputError
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import CAR, PERSON, by_number, rows

Reviewed = tuple[CloudState, Desk]


def say(desk: Desk, *decided: Decided) -> Taken:
    return decide(desk, CAMERA, decided, "ann@desk", lambda _: None)


def labels(cloud: CloudState, seq: int) -> list[tuple[float, ...]]:
    return rows(by_number(cloud)[seq].labels)


def sure(*found: tuple[float, ...]) -> list[tuple[float, ...]]:
    return rows(detections(*((*row[:4], 1.0, int(row[5])) for row in found)))


def test_what_is_listed_are_both_sides_boxes_and_how_many_are_left(reviewed: Reviewed) -> None:
    _, desk = reviewed
    found = listed(desk, CAMERA, 2)
    assert found["left"] == 5
    assert len(found["frames"]) == 2
    row = found["frames"][0]
    assert (row["why"], row["mass"], row["model"]) == ("1 car the student has not", 0.8, "gate-1")
    assert row["teacher"] == [[1.0, 1.0, 20.0, 20.0, 0.9, "person"], [30.0, 10.0, 60.0, 40.0, 0.8, "car"]]
    assert row["student"] == [[1.0, 1.0, 20.0, 20.0, 0.9, "person"]]
    json.dumps(found)


def test_one_side_may_be_right_or_both_wrong_and_what_is_decided_does_not_come_again(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    frames = by_number(cloud)
    own = Decided(frames[5].id, "corrected", [(-5, 2, 30, 40, "bus")])
    taken = say(
        desk, Decided(frames[1].id, "teacher"), Decided(frames[3].id, "student"), own, Decided(frames[7].id, "skip")
    )
    assert taken == Taken(new=4, same=0)
    assert labels(cloud, 1) == sure(PERSON, CAR), "the doubtful one is none of it"
    assert labels(cloud, 3) == sure(PERSON)
    assert labels(cloud, 5) == sure((0, 2, 30, 40, 1.0, 4)), "cut at the edge"
    assert labels(cloud, 7) == rows(detections(PERSON, CAR, (40, 30, 50, 40, 0.2, 0)))
    left = listed(desk, CAMERA, 10)
    assert (left["left"], [row["id"] for row in left["frames"]]) == (1, [frames[9].id])
    assert {one.decision for one in desk.reviews.of(CAMERA, [frame.id for frame in frames.values()]).values()} == {
        "teacher",
        "student",
        "corrected",
        "skipped",
    }


def test_a_person_may_change_their_mind(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    name = by_number(cloud)[1].id
    assert say(desk, Decided(name, "student")) == Taken(1, 0)
    assert say(desk, Decided(name, "student")) == Taken(0, 1)
    assert say(desk, Decided(name, "teacher")) == Taken(1, 0), "what that had said is still known"
    assert labels(cloud, 1) == sure(PERSON, CAR)


def test_a_frame_that_somebody_decided_since_it_was_shown_is_refused(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    name = by_number(cloud)[1].id
    say(desk, Decided(name, "teacher", seen=None))
    at = desk.reviews.of(CAMERA, [name])[name].at
    for seen in (None, at - 60):
        with pytest.raises(DecidedError, match=r"somebody decided this frame at \d\d:\d\d: look again"):
            say(desk, Decided(name, "student", seen=seen))
    assert labels(cloud, 1) == sure(PERSON, CAR), "what was decided stays"
    assert say(desk, Decided(name, "student", seen=at)) == Taken(1, 0), "whoever saw it may change their mind"
    assert say(desk, Decided(name, "teacher")) == Taken(1, 0), "a program that does not say is not asked"


def test_boxes_that_nobody_has_seen_are_not_accepted(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    name = by_number(cloud)[1].id
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    live = cloud.publisher.publish(CAMERA, cloud.artefact(turns=1), "manual").model_id
    cloud.lifecycle.score(live, {name: detections(CAR)})
    with pytest.raises(InputError, match=f"{live} has looked at it since, not gate-1: look again"):
        say(desk, Decided(name, "student", model="gate-1"))
    say(desk, Decided(name, "student", model=live))
    assert labels(cloud, 1) == sure(CAR)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"decision": "corrected"}, "boxes belong to a decision `corrected`"),
        ({"decision": "student", "boxes": []}, "boxes belong to a decision `corrected`"),
        ({"decision": "corrected", "boxes": [(1, 2, 3, 4, "van")]}, "unknown class 'van'"),
        ({"decision": "corrected", "boxes": [(9, 2, 3, 4, "car")]}, "box 9, 2, 3, 4 has no area"),
    ],
)
def test_what_cannot_be_decided_names_the_frame_and_changes_nothing(
    reviewed: Reviewed, told: dict[str, Any], complaint: str
) -> None:
    cloud, desk = reviewed
    frames = by_number(cloud)
    with pytest.raises(InputError, match=f"frame {frames[1].id}: {complaint}"):
        say(desk, Decided(frames[3].id, "student"), Decided(frames[1].id, **told))
    assert listed(desk, CAMERA, 1)["left"] == 5


def test_frames_that_are_not_there_or_named_twice_are_named(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    name = by_number(cloud)[1].id
    with pytest.raises(InputError, match=f"has no stored frame {'0' * 32}: nothing is decided"):
        say(desk, Decided(name, "student"), Decided("0" * 32, "student"))
    with pytest.raises(InputError, match=f"{name} is named 2 times"):
        say(desk, Decided(name, "student"), Decided(name, "teacher"))
    with pytest.raises(InputError, match="there is no camera yard"):
        decide(desk, "yard", [Decided(name, "student")], "ann", lambda _: None)
    assert listed(desk, CAMERA, 1)["left"] == 5


def test_a_frame_that_the_teacher_has_not_seen_cannot_be_the_teachers(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    with cloud.index.write() as connection:
        connection.exec_driver_sql("UPDATE frames SET labels = NULL")
    with pytest.raises(InputError, match="the teacher has not looked at it yet"):
        say(desk, Decided(by_number(cloud)[1].id, "teacher"))


def test_decisions_are_read_from_a_list_or_an_object(tmp_path: Path) -> None:
    one = {"id": "0" * 32, "decision": "skip"}
    (tmp_path / "a.json").write_text(json.dumps([one]))
    (tmp_path / "b.json").write_text(json.dumps({"decisions": [one]}))
    assert read_decisions(tmp_path / "a.json") == read_decisions(tmp_path / "b.json") == [Decided("0" * 32, "skip")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "truncated"),
        ('[{"id": "x", "decision": "skip"}]', r"\$\[0\]\.id"),
        ('[{"id": "' + "0" * 32 + '", "decision": "maybe"}]', r"'maybe'.*\$\[0\]\.decision"),
        ('[{"id": "' + "0" * 32 + '", "decision": "skip", "why": ""}]', "why"),
    ],
)
def test_a_file_that_holds_no_decisions_names_the_field(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=rf"a\.json: no decisions: .*{complaint}"):
        read_decisions(tmp_path / "a.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_decisions(tmp_path / "none.json")


def test_what_stands_in_an_ignored_place_counts_no_more_and_that_can_be_taken_back(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    frame, before = by_number(cloud)[1], listed(desk, CAMERA, 10)["left"]
    ignore = Decided(frame.id, "ignore", [(*CAR[:4], "car")])
    assert say(desk, ignore) == Taken(new=1, same=0)
    assert say(desk, ignore) == Taken(new=0, same=1)
    (told,) = ignoring(desk, CAMERA, [ignore])
    assert told["why"] == "nothing of it is in dispute any more"
    assert [box[5] for box in told["teacher"]] == ["person"]
    assert [(one["classes"], one["who"]) for one in told["ignored"]] == [(["car"], "ann@desk")]
    assert told["toml"].endswith('classes = ["car"]\n')
    assert listed(desk, CAMERA, 10)["left"] == before - 1
    (settled,) = desk.settled(CAMERA, [by_number(cloud)[1]])
    assert settled.labels is not None
    assert len(desk.true(settled.labels)) == 1, "a label there is neither learnt nor an object"
    assert labels(cloud, 1)[1][:4] == CAR[:4], "and not lost"
    assert say(desk, Decided(frame.id, "unignore")) == Taken(new=1, same=0)
    assert by_number(cloud)[1].ignored == ()
    assert listed(desk, CAMERA, 10)["left"] == before


def test_a_place_takes_one_box_and_what_nobody_had_ignored_cannot_be_taken_back(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    name = by_number(cloud)[1].id
    with pytest.raises(InputError, match="`ignore` takes one box"):
        say(desk, Decided(name, "ignore"))
    with pytest.raises(InputError, match="takes the last place back, and no boxes"):
        say(desk, Decided(name, "unignore", []))
    with pytest.raises(InputError, match="nobody had a place of it ignored"):
        say(desk, Decided(by_number(cloud)[3].id, "teacher"), Decided(name, "unignore"))
    assert desk.reviews.of(CAMERA, [by_number(cloud)[3].id]) == {}, "all or nothing"
