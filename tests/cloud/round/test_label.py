from __future__ import annotations

from typing import Any

import msgspec
import pytest

from culling.cloud.round import label as stage
from culling.cloud.round.label import label
from culling.cloud.store.frames import frame_id
from culling.common.errors import StorageError
from culling.common.wire.codec import encode_jpeg
from support.cloud import CAMERA, CloudState, hard_frame, held_out
from support.detectors import picture
from support.rounds import EDGE, FAKE, ROUND, context_of, only, run, start, with_features
from support.scores import ranker


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
    ran = only(monkeypatch, **{**FAKE, "label": label})
    run(cloud, round_id)
    assert ran[0] == "label"
    labelled = cloud.rounds.get(round_id).stages["label"]
    assert labelled["labelled"] == len(labelled["candidates"]) + len(labelled["held_out"]) - asked[0]


def test_pictures_that_cannot_be_used_are_left_out(cloud: CloudState) -> None:
    torn = encode_jpeg(picture(96, 128, 99))
    frame, jpeg = hard_frame(50, jpeg=torn[: len(torn) // 3], width=128, height=96, loss=99.0)
    cloud.frames.add(EDGE, frame, jpeg)
    path = next((cloud.data_dir / "frames" / CAMERA).glob(f"{frame_id(EDGE, 'boot-1', 3)}.jpg"))
    path.write_bytes(b"flipped" + path.read_bytes()[7:])
    turn = cloud.rounds.get(start(cloud))
    result = label(context_of(cloud), turn, {})
    lost = {frame_id(EDGE, "boot-1", seq) for seq in (3, 50)}
    assert not lost & {*result["candidates"], *result["held_out"]}
    assert result["candidates"]


def test_a_round_without_frames_is_refused(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, **{**FAKE, "label": label})
    first, second = start(cloud), start(cloud)
    assert run(cloud, first) == "ready"
    assert run(cloud, second) == "refused"
    assert "no frame to learn from" in cloud.rounds.get(second).reason


def test_too_few_held_out_frames_end_a_round_before_it_trains(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.settings = cloud.settings.model_copy(update={"gate": cloud.settings.gate.model_copy(update={"least": 99})})
    ran = only(monkeypatch, **{**FAKE, "label": label})
    round_id = start(cloud)
    assert run(cloud, round_id) == "refused"
    assert ran == ["label"]
    assert "the gate needs 99" in cloud.rounds.get(round_id).reason
    assert cloud.frames.counts()[CAMERA].waiting, "none is used up that nobody learnt from"
    assert not any(frame.labels for frame in cloud.lifecycle.newest_held_out(CAMERA, 99))


def test_the_frames_that_the_ranker_in_use_holds_for_the_hardest_are_labelled(cloud: CloudState) -> None:
    rule = ranker(bias=1.0, loss=-0.02)
    cloud.publisher.publish(
        CAMERA, msgspec.structs.replace(cloud.registry.live()[CAMERA].artefact, ranker=rule), "round"
    )
    with_features(cloud, range(40, 80), float)
    result = label(context_of(cloud), cloud.rounds.get(start(cloud)), {})
    losses = [frame.loss for frame in cloud.frames.get(result["candidates"])]
    assert len(losses) == ROUND["kept"] * ROUND["factor"]
    assert losses == sorted(losses)
    assert losses[0] == min(seq for seq in range(40, 80) if not held_out(seq))
