from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from culling.cloud.bench import gate as bench
from culling.cloud.bench.recording import SCALES, Recording, Seen, _rows
from culling.common.cli import main
from culling.common.wire.codec import encode_jpeg
from support import stored, tiny
from support.cloud import CAMERA, CloudState, detections
from support.judged import seen
from support.stored import split

STUDENTS = (0.9, 0.8, 0.6)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """What three students of those recalls did on sixty frames."""
    rng, frames = np.random.default_rng(2), []
    for _ in range(60):
        objects = [int(rng.poisson(5)), 0, int(rng.poisson(2)), 0, 0, 0]
        frames.append(Seen(objects, [_rows(seen(rng, objects, recall)) for recall in STUDENTS]))
    path = tmp_path / "yard.json"
    path.write_bytes(msgspec.json.encode(Recording("yard.mp4", [f"student {one:g}" for one in STUDENTS], frames)))
    return path


def test_the_shares_of_three_kinds_of_pairs_are_told(
    record: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "CALIBRATION", 10)
    words = ["bench", "gate", "--record", str(record), "--trials", "4", "--judges", "40", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["equal", "better", "night"]
    for one in told.values():
        assert 0 <= one["published"] <= 1
        assert (one["trials"], one["judges"], one["source"], one["seed"]) == (4, 40, "yard.mp4", 0)
    assert told["better"]["gain"]["day"] == pytest.approx(0.05, abs=0.02)
    assert told["night"]["gain"]["night"] == pytest.approx(-0.1, abs=0.02)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == told, "a seed gives the same trials"


def test_a_record_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "yard.json").write_text("{torn")
    assert main(["bench", "gate", "--record", str(tmp_path / "yard.json")]) == 3
    assert "remove it to record again" in capsys.readouterr().err


def test_students_of_a_camera_are_recorded_on_its_labelled_held_out_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = CloudState(tmp_path)
    cloud.enroll()
    _, held = split(250)
    stored.add(cloud, *held[:46], jpeg=encode_jpeg(tiny.picture(64, 48)))
    words = [
        "bench",
        "gate",
        "--config",
        str(cloud.toml),
        CAMERA,
        "--record",
        str(tmp_path / "record.json"),
    ]
    assert main(words) == 3
    assert "no model in use" in capsys.readouterr().err
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="other"), "round")
    labels = detections((1, 1, 20, 20, 0.9, 0), (30, 30, 60, 60, 0.8, 0))
    cloud.lifecycle.label({frame.id: labels for frame in stored.everything(cloud)[:39]})
    assert main(words) == 3
    assert "39 labelled held-out frames, 40 are needed" in capsys.readouterr().err
    cloud.lifecycle.label({frame.id: labels for frame in stored.everything(cloud)[39:]})
    monkeypatch.setattr(bench, "CALIBRATION", 2)
    main([*words, "--trials", "1"])  # these students differ by nothing
    told = msgspec.json.decode((tmp_path / "record.json").read_bytes(), type=Recording)
    assert (told.source, len(told.frames)) == (CAMERA, 46)
    assert told.students == [*(f"gate's student at scale {scale:g}" for scale in SCALES), "gate-1"]
    assert {tuple(frame.objects) for frame in told.frames} == {(2, 0, 0, 0, 0, 0)}
    assert any(one.scores for frame in told.frames for one in frame.students[0])
    cloud.close()
