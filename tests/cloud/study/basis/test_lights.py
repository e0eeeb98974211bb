from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.lights import Light, fed, lights, measured
from culling.common.errors import CameraError
from culling.common.wire.codec import decode_jpeg
from support.studied import Yard, use_teacher, yellow_box


def fading(path: Path, levels: list[int]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for level in levels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_clip_whose_light_falls_has_its_own_night(tmp_path: Path) -> None:
    found = lights(fading(tmp_path / "dusk.mp4", [140] * 10 + [90] * 10))
    assert found == {"day": Light(0.0, 0.4), "night": Light(0.6, 1.0)}
    assert lights(fading(tmp_path / "dawn.mp4", [90] * 10 + [140] * 10)) == {
        "day": Light(0.6, 1.0),
        "night": Light(0.0, 0.4),
    }


def test_any_other_is_darkened(tmp_path: Path) -> None:
    found = lights(fading(tmp_path / "noon.mp4", [140] * 10 + [130] * 10))
    assert found["day"].darkness == 0.0
    assert found["night"].darkness == 1.0
    assert (found["night"].first, found["night"].last) == (0.0, 1.0)


def test_frames_of_the_night_are_dark_and_labelled_as_by_day(corpus: Corpus) -> None:
    day, night = (fed(corpus, light, 3, 0, 2) for light in lights(corpus.video).values())
    assert [frame.number for frame in day] == [frame.number for frame in night]
    for bright, dark in zip(day, night, strict=True):
        assert decode_jpeg(dark.jpeg).mean() < 0.6 * decode_jpeg(bright.jpeg).mean()
        assert dark.labels == bright.labels
        assert np.allclose(bright.labels.boxes, yellow_box(decode_jpeg(bright.jpeg)).boxes)


def test_each_round_of_a_light_has_frames_of_its_own_and_none_that_is_measured(corpus: Corpus) -> None:
    light = Light(0.0, 1.0)
    turns = [{frame.number for frame in fed(corpus, light, 4, turn, 3)} for turn in range(3)]
    assert [len(numbers) for numbers in turns] == [4, 4, 4]
    assert len(set.union(*turns)) == 12
    assert max(set.union(*turns)) < 15


def test_too_short_a_light_is_one_line(corpus: Corpus) -> None:
    with pytest.raises(CameraError, match="16 frames of one light are needed, it has 15: take a longer clip"):
        fed(corpus, Light(0.0, 1.0), 8, 0, 2)


def test_both_lights_are_measured_by_the_same_labels(
    yard: Yard, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_teacher(monkeypatch)
    day, night = (measured(corpus, light) for light in lights(corpus.video).values())
    assert len(day) == len(night) == 3
    by_day, by_night = (held_out.score(corpus.base, 1.0) for held_out in (day, night))
    assert by_day.teacher is not None
    assert by_night.teacher is not None
    assert by_day.teacher.per_class["car"].objects == by_night.teacher.per_class["car"].objects
    assert by_day.labels is not None
