from __future__ import annotations

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import open_graph
from culling.edge.model.student import Student, agree, iou
from support import tiny

KEY = Ed25519PrivateKey.generate()


def student_of(shipped: tiny.Shipped) -> Student:
    return Student(shipped.manifest, open_graph(shipped.model, provider="cpu", threads=1))


def found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64)
    )


class TestInfer:
    def test_boxes_are_in_pixels_of_the_full_frame(self) -> None:
        student = student_of(tiny.ship(tiny.student(), KEY, scale=0.5))

        (seen,) = student.infer([tiny.Still(tiny.picture(1280, 720))])

        assert student.input_size(1280, 720) == (192, 320)
        assert seen.boxes[0] == pytest.approx([960, 540, 1280, 720])

    def test_frames_of_mixed_sizes_keep_their_order(self) -> None:
        student = student_of(tiny.ship(tiny.student(), KEY))
        sizes = [(320, 192), (128, 128), (320, 192), (64, 96)]

        seen = student.infer([tiny.Still(tiny.picture(*size)) for size in sizes])

        assert [tuple(one.boxes[0, 2:]) for one in seen] == sizes

    def test_frames_that_share_an_input_size_share_a_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        student = student_of(tiny.ship(tiny.student(), KEY))
        shapes: list[tuple[int, ...]] = []
        run = student.graph.run
        monkeypatch.setattr(student.graph, "run", lambda frames: shapes.append(frames.shape) or run(frames))

        student.infer([tiny.Still(tiny.picture(*size)) for size in [(320, 192), (128, 128), (320, 192)]])

        assert shapes == [(2, 192, 320, 3), (1, 128, 128, 3)]

    def test_no_frames_give_no_results(self) -> None:
        assert student_of(tiny.ship(tiny.student(), KEY)).infer([]) == []

    def test_a_dark_frame_holds_nothing(self) -> None:
        student = student_of(tiny.ship(tiny.student(), KEY))

        assert len(student.infer([tiny.Still(np.zeros((128, 128, 3), np.uint8))])[0]) == 0

    def test_every_shape_to_come_is_warmed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        student = student_of(tiny.ship(tiny.student(), KEY))
        shapes: list[tuple[int, int, int]] = []
        monkeypatch.setattr(student.graph, "warm", lambda *shape: shapes.append(shape))

        student.warm((192, 320), max_batch=5)

        assert shapes == [(1, 192, 320), (2, 192, 320), (4, 192, 320)]

    @pytest.mark.parametrize("cameras", range(1, 10))
    def test_no_batch_has_a_shape_that_was_not_warmed(self, cameras: int, monkeypatch: pytest.MonkeyPatch) -> None:
        student = student_of(tiny.ship(tiny.student(), KEY))
        run, ran = student.graph.run, list[int]()
        monkeypatch.setattr(student.graph, "run", lambda frames: ran.append(len(frames)) or run(frames))
        student.warm((128, 128), max_batch=cameras)
        warmed = set(ran)
        assert sum(warmed) < 2 * cameras, "warming costs no more than two frames a camera"

        for count in range(1, cameras + 1):
            ran.clear()
            still = tiny.Still(tiny.picture(128, 128))
            assert len(student.infer([still] * count)) == count
            assert sum(ran) == count
            assert set(ran) <= warmed


class TestProof:
    def test_the_maker_s_own_model_passes(self) -> None:
        student_of(tiny.ship(tiny.student(), KEY, scale=0.8)).prove()

    @pytest.mark.parametrize("wishes", [{"shift": 1}, {"floor": 2.0}, {"floor": 0.7}])
    def test_a_model_that_sees_other_things_fails(self, wishes: dict[str, float]) -> None:
        shipped = tiny.ship(tiny.student(**wishes), KEY, golden_from=tiny.student())  # type: ignore[arg-type]

        with pytest.raises(ModelError, match="gate-1 disagrees with its manifest on golden frame 0"):
            student_of(shipped).prove()

    def test_a_model_that_gives_no_numbers_fails(self) -> None:
        shipped = tiny.ship(tiny.student(nan_above=0.5), KEY, golden_from=tiny.student())

        with pytest.raises(ModelError, match="not numbers"):
            student_of(shipped).prove()

    def test_a_model_at_a_scale_it_was_not_made_for_fails(self) -> None:
        other = tiny.golden(tiny.student(), scale=1.0)
        shipped = tiny.ship(tiny.student(), KEY)
        boxes = np.frombuffer(other.detections.boxes, "<f4") * np.float32(0.8)
        moved = msgspec.structs.replace(other.detections, boxes=boxes.tobytes())
        manifest = msgspec.structs.replace(shipped.manifest, golden=(msgspec.structs.replace(other, detections=moved),))

        with pytest.raises(ModelError, match="disagrees with its manifest"):
            Student(manifest, open_graph(shipped.model, provider="cpu", threads=1)).prove()

    def test_a_golden_frame_that_is_no_picture_proves_nothing(self) -> None:
        shipped = tiny.ship(tiny.student(), KEY)
        torn = msgspec.structs.replace(shipped.manifest.golden[0], jpeg=b"not a picture")
        manifest = msgspec.structs.replace(shipped.manifest, golden=(torn,))

        with pytest.raises(ModelError, match="golden frame 0 of model gate-1 cannot be used"):
            Student(manifest, open_graph(shipped.model, provider="cpu", threads=1)).prove()

    def test_without_golden_frames_there_is_nothing_to_prove(self) -> None:
        shipped = tiny.ship(tiny.student(), KEY)
        manifest = msgspec.structs.replace(shipped.manifest, golden=())

        Student(manifest, open_graph(shipped.model, provider="cpu", threads=1)).prove()

    def test_a_graph_of_other_classes_than_the_manifest_says_is_refused(self) -> None:
        with pytest.raises(ModelError, match=r"gate-1 finds cat, dog, its manifest says person, "):
            student_of(tiny.ship(tiny.student(classes=("cat", "dog")), KEY))


BOX = [0.0, 0.0, 100.0, 100.0]
NEAR = [0.0, 0.0, 100.0, 91.0]
FAR = [0.0, 0.0, 100.0, 89.0]


class TestAgreement:
    def test_close_boxes_and_scores_agree(self) -> None:
        assert agree(found((BOX, 0.8, 1)), found((NEAR, 0.84, 1)))

    @pytest.mark.parametrize(
        "other",
        [
            found((FAR, 0.8, 1)),
            found((BOX, 0.7, 1)),
            found((BOX, 0.8, 2)),
            found(),
            found((BOX, 0.8, 1), (FAR, 0.6, 1)),
        ],
        ids=["box", "score", "label", "missing", "extra"],
    )
    def test_one_difference_is_enough(self, other: Detections) -> None:
        assert not agree(found((BOX, 0.8, 1)), other)
        assert not agree(other, found((BOX, 0.8, 1)))

    def test_unsure_detections_do_not_count(self) -> None:
        assert agree(found((BOX, 0.8, 1), (FAR, 0.3, 1)), found((BOX, 0.8, 1)))

    def test_a_score_on_the_border_may_fall_on_either_side(self) -> None:
        assert agree(found((BOX, 0.51, 1)), found((BOX, 0.49, 1)))

    def test_nothing_agrees_with_nothing(self) -> None:
        assert agree(Detections.empty(), Detections.empty())

    def test_iou_by_hand(self) -> None:
        one = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], np.float32)
        other = np.array([[1, 1, 3, 3], [0, 0, 2, 2]], np.float32)

        assert iou(one, other) == pytest.approx(np.array([[1 / 7, 1], [0, 0]]))
