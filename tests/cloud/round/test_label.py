from __future__ import annotations

from typing import Any

import msgspec
import pytest

from culling.cloud.round import label as stage
from culling.cloud.round.context import RefusedError
from culling.cloud.round.label import label
from culling.cloud.store.frames import StoredFrame, frame_id
from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.wire.codec import encode_jpeg
from support.cloud import CAMERA, CloudState, detections, hard_frame, held_out
from support.detectors import picture
from support.rounds import EDGE, FAKE, ROUND, add, context_of, only, run, start, with_features
from support.scores import ranker
from support.stored import everything

PERSON = detections((1, 1, 20, 20, 0.9, 0))


def teach(monkeypatch: pytest.MonkeyPatch, found: Detections = PERSON) -> list[str]:
    """Have a teacher see this in every frame; return the list that fills with the names of the frames it was shown."""
    shown: list[str] = []

    def seen(context: Any, teacher: Any, frames: list[StoredFrame]) -> None:
        shown.extend(frame.id for frame in frames)
        context.lifecycle.label({frame.id: found for frame in frames})

    monkeypatch.setattr(stage, "load_teacher", lambda settings: object())
    monkeypatch.setattr(stage, "_label", seen)
    return shown


def limit(cloud: CloudState, section: str, **changes: Any) -> None:
    """Change settings of a section."""
    changed = getattr(cloud.settings, section).model_copy(update=changes)
    cloud.settings = cloud.settings.model_copy(update={section: changed})


def labelled(cloud: CloudState, trained: bool = True) -> list[StoredFrame]:
    return [frame for frame in everything(cloud) if frame.labels is not None and frame.held_out != trained]


def test_labels_are_asked_for_once(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    label_batch = stage._label

    def counting(context: Any, teacher: Any, frames: Any) -> None:
        if asked:
            raise StorageError("the disk is full")
        asked.append(len(frames))
        label_batch(context, teacher, frames)

    round_id = start(cloud)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_label", counting)
        with pytest.raises(StorageError):
            run(cloud, round_id)
    assert cloud.rounds.get(round_id).state == "running", "a full disk ends no round"
    shown = teach(monkeypatch)
    ran = only(monkeypatch, **{**FAKE, "label": label})
    run(cloud, round_id)
    assert ran[0] == "label"
    assert cloud.rounds.get(round_id).stages["label"]["labelled"] == asked[0] + len(shown)
    assert len(set(shown)) == len(shown)
    assert len(labelled(cloud)) == ROUND["kept"] * ROUND["factor"], "a second try labels no more than the first would"


def test_pictures_that_cannot_be_used_are_left_out(cloud: CloudState) -> None:
    torn = encode_jpeg(picture(96, 128, 99))
    frame, jpeg = hard_frame(50, jpeg=torn[: len(torn) // 3], width=128, height=96, loss=99.0)
    cloud.frames.add(EDGE, frame, jpeg)
    path = next((cloud.data_dir / "frames" / CAMERA).glob(f"{frame_id(EDGE, 'boot-1', 3)}.jpg"))
    path.write_bytes(b"flipped" + path.read_bytes()[7:])
    result = label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    lost = {frame_id(EDGE, "boot-1", seq) for seq in (3, 50)}
    assert not lost & {*(frame.id for frame in labelled(cloud)), *result["held_out"]}
    assert labelled(cloud)


def test_held_out_frames_come_first_then_audits_then_those_of_the_highest_loss(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cloud, range(20, 24), reason="audit", loss=0.0)
    shown = teach(monkeypatch)
    label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    frames = {frame.id: frame for frame in everything(cloud)}
    order = [frames[name] for name in shown]
    ranks = [0 if frame.held_out else 1 if frame.reason == "audit" else 2 for frame in order]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}
    losses = [frame.loss for frame, rank in zip(order, ranks, strict=True) if rank == 2]
    assert losses == sorted(losses, reverse=True)


def test_a_cameras_day_has_a_budget_that_earlier_rounds_used_too(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = teach(monkeypatch)
    limit(cloud, "labelling", per_day=7)
    label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    assert len(shown) == 7
    add(cloud, range(20, 40))
    label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    frames = {frame.id: frame for frame in everything(cloud)}
    assert all(frames[name].held_out for name in shown[7:]), "those that judge are labelled all the same"


def test_frames_that_a_refused_round_left_unlabelled_are_labelled_by_the_next(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = teach(monkeypatch)
    limit(cloud, "round", kept=2)
    first = start(cloud)
    label(context_of(cloud), cloud.rounds.get(first), {})
    cloud.rounds.end(first, "refused", {}, "no better", 1.0)
    assert len(labelled(cloud)) == 4
    label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    assert len(labelled(cloud)) == 8
    assert len(set(shown)) == len(shown)


def test_a_round_without_frames_is_refused(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    for frame in everything(cloud):
        if not frame.held_out:
            cloud.frames.remove(CAMERA, [frame.id])
    shown = teach(monkeypatch)
    with pytest.raises(RefusedError, match="no frame to learn from"):
        label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    assert shown == []


def test_a_round_without_new_frames_culls_from_the_pool(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(monkeypatch)
    limit(cloud, "round", kept=64)
    label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    again = label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    assert (again["claimed"], again["labelled"]) == (0, 0)


def test_too_few_held_out_frames_end_a_round_before_it_trains(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(cloud, "gate", least=99)
    ran = only(monkeypatch, **{**FAKE, "label": label})
    round_id = start(cloud)
    assert run(cloud, round_id) == "refused"
    assert ran == ["label"]
    assert "the gate needs 99" in cloud.rounds.get(round_id).reason
    assert cloud.frames.counts()[CAMERA].waiting, "none is used up that nobody learnt from"
    assert not any(frame.labels for frame in cloud.lifecycle.newest_held_out(CAMERA, 99))


def test_held_out_frames_that_show_nothing_end_a_round_before_the_others_are_labelled(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = teach(monkeypatch, detections((1, 1, 20, 20, 0.05, 0)))
    with pytest.raises(RefusedError, match="sure of no object in any of the 2 held-out frames"):
        label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    assert len(shown) == 2
    assert not cloud.frames.counts()[CAMERA].waiting, "a night must not start one round after the other"


def test_the_frames_that_the_ranker_in_use_holds_for_the_hardest_are_labelled(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = ranker(bias=1.0, loss=-0.02)
    cloud.publisher.publish(
        CAMERA, msgspec.structs.replace(cloud.registry.live()[CAMERA].artefact, ranker=rule), "round"
    )
    with_features(cloud, range(40, 80), float)
    shown = teach(monkeypatch)
    label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    frames = {frame.id: frame for frame in everything(cloud)}
    losses = [frames[name].loss for name in shown if not frames[name].held_out]
    assert len(losses) == ROUND["kept"] * ROUND["factor"]
    assert losses == sorted(losses)
    assert losses[0] == min(seq for seq in range(40, 80) if not held_out(seq))
