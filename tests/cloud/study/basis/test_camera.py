from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from culling.cloud.store.index import Index, frames
from culling.cloud.study.basis.camera import CAMERA, StudiedCamera
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.lights import Light, fed
from culling.common.errors import TrainingError
from support.rounds import FAKE, only


@pytest.fixture
def camera(corpus: Corpus, tmp_path: Path) -> Iterator[StudiedCamera]:
    service = corpus.settings.service.model_copy(update={"data_dir": tmp_path / "camera"})
    settings = corpus.settings.model_copy(update={"service": service})
    with StudiedCamera(settings, corpus.artefact, corpus.files) as made:
        yield made


def test_it_starts_with_the_base_at_the_size_of_the_study(camera: StudiedCamera, corpus: Corpus) -> None:
    assert camera.live.artefact.sha256 == corpus.artefact.sha256
    assert camera.live.artefact.long_side == corpus.settings.student.long_side
    assert camera.live_file.exists()


def test_frames_come_labelled_with_what_the_student_in_use_found_and_only_once(
    camera: StudiedCamera, corpus: Corpus
) -> None:
    lot = fed(corpus, Light(0.0, 1.0), 3, 0, 1)
    for _ in range(2):
        camera.feed("turn-1", lot, [1e9, 1e9 + 60, 1e9 + 120])
    index = Index(camera.settings.store_url)
    with index.read() as connection:
        rows = connection.execute(sa.select(frames)).all()
    index.close()
    assert [(row.camera, row.frame, row.model_id) for row in rows] == [
        (CAMERA, frame.number, camera.live.model_id) for frame in lot
    ]
    assert all(row.labels is not None and row.probability == 1.0 for row in rows)


def test_a_round_that_was_cut_short_goes_on_in_that_stage(
    camera: StudiedCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    only(monkeypatch, **{**FAKE, "train": interrupted})
    with pytest.raises(KeyboardInterrupt):
        camera.turn(1)
    refusing = {**FAKE, "gate": lambda *_: {**FAKE["gate"](), "outcome": "refused", "reason": "no better"}}
    monkeypatch.undo()
    ran = only(monkeypatch, **refusing)
    done = camera.turn(1)
    assert ran == ["train", "export", "gate"]
    assert (done.id, done.state, done.reason) == (1, "refused", "no better")
    assert camera.turn(1) == done


def test_a_round_that_failed_is_an_error_that_names_it(camera: StudiedCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise TrainingError("loss is nan")

    only(monkeypatch, **{**FAKE, "train": broken})
    with pytest.raises(TrainingError, match=r"round 1 in .*camera failed: TrainingError: loss is nan"):
        camera.turn(1)
