from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

import numpy as np
import pytest

from culling.cloud.annotations.lines import Label, read_labels, write_labels
from culling.common.errors import InputError

GOOD = (
    '{"source": "cameras/a.mp4", "frame": 120, "width": 768, "height": 576,'
    ' "detections": [["person", 0.93, 12.0, 40.5, 40.0, 98.0], ["car", 1.0, 0, 0, 768, 576]]}'
)


def with_detection(row: str) -> str:
    return f'{{"source": "a", "frame": 0, "width": 100, "height": 80, "detections": [{row}]}}'


def read(tmp_path: Path, *lines: str) -> list[Label]:
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines))
    return list(read_labels(path))


def test_a_line_becomes_a_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(GOOD + "\n")
    (label,) = read_labels(path)
    assert (label.source, label.frame, label.width, label.height) == ("cameras/a.mp4", 120, 768, 576)
    assert label.detections.labels.tolist() == [0, 2]
    np.testing.assert_allclose(label.detections.boxes, [[12, 40.5, 40, 98], [0, 0, 768, 576]])
    np.testing.assert_allclose(label.detections.scores, [0.93, 1.0])
    assert label.detections.boxes.dtype == label.detections.scores.dtype == np.float32
    assert label.at == f"{path}:1"


def test_a_frame_may_hold_nothing_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    empty = '{"source": "a", "frame": 0, "width": 10, "height": 10, "detections": []}'
    assert len(read(tmp_path, "", empty, "", GOOD, "")) == 2


def one_box(row: str, frame: int = 0, width: int = 100) -> str:
    return f'{{"source": "a", "frame": {frame}, "width": {width}, "height": 80, "detections": [{row}]}}'


def test_one_line_a_box_is_the_same_as_one_line_a_frame(tmp_path: Path) -> None:
    boxes = ['["car", 0.9, 1, 1, 9, 9]', '["person", 0.8, 2, 2, 9, 9]', '["car", 0.7, 1, 1, 9, 9]']
    (one,) = read(tmp_path, one_box(", ".join(boxes)))
    many, other = read(tmp_path, one_box(boxes[0]), one_box("", frame=1), one_box(boxes[1]), one_box(boxes[2]))
    for part in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(many.detections, part), getattr(one.detections, part))
        assert getattr(many.detections, part).dtype == getattr(one.detections, part).dtype
    assert many.at == one.at == f"{tmp_path / 'labels.jsonl'}:1"
    assert len(other.detections) == 0


def test_a_box_that_is_said_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box, moved = '["car", 0.9, 1, 1, 9, 9]', '["car", 0.9, 1, 1, 9, 9.5]'
    (label,) = read(tmp_path, one_box(box), one_box(f"{box}, {moved}"), one_box(box))
    np.testing.assert_allclose(label.detections.boxes, [[1, 1, 9, 9], [1, 1, 9, 9.5]])
    assert "labels_repeated" in capsys.readouterr().out


def test_two_sizes_for_one_frame_are_named_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, one_box(""), one_box("", frame=1, width=90), one_box("", width=90))
    file = tmp_path / "labels.jsonl"
    assert str(caught.value) == f"{file}:3: frame 0 of a is 90x80 here and 100x80 at {file}:1"


def test_a_box_that_sticks_out_is_cut_at_the_edge_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = '["car", 0.9, -40, 1, 9, 9], ["car", 0.8, 90.5, 70, 101, 99], ["car", 0.7, 120, 1, 130, 9]'
    (label,) = read(tmp_path, one_box(rows))
    np.testing.assert_allclose(label.detections.boxes, [[0, 1, 9, 9], [90.5, 70, 100, 80]])
    told = capsys.readouterr().out
    assert "labels_clipped" in told
    assert "clipped=2" in told
    assert "outside=1" in told


def test_a_file_of_another_format_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(InputError, match=r"a\.json:1: not a label: .*; this looks like COCO: .*labels convert"):
        read_labels(tmp_path / "a.json")


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(BOM_UTF8 + GOOD.encode())
    (label,) = read_labels(tmp_path / "a.jsonl")
    assert label.source == "cameras/a.mp4"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    labels = read_labels(tmp_path / "a.jsonl")
    write_labels(tmp_path / "b.jsonl", labels)
    (back,) = read_labels(tmp_path / "b.jsonl")
    assert (back.source, back.frame, back.width, back.height) == ("cameras/a.mp4", 120, 768, 576)
    np.testing.assert_allclose(back.detections.boxes, labels[0].detections.boxes, atol=0.01)
    np.testing.assert_array_equal(back.detections.labels, labels[0].detections.labels)


def test_other_class_lists_give_other_labels(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(with_detection('["shark", 0.5, 1, 1, 9, 9]'))
    (label,) = read_labels(tmp_path / "a.jsonl", ("coral", "shark"))
    assert label.detections.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not a label"),
        ("[]", "not a label"),
        ('{"source": "a"}', "missing required field"),
        (GOOD[:-1] + ', "extra": 1}', "unknown field"),
        (GOOD.replace("120", '"120"'), "Expected `int`"),
        (GOOD.replace("120", "-1"), "must be positive"),
        (GOOD.replace("768,", "0,", 1), "must be positive"),
        (with_detection('["dragon", 0.5, 1, 1, 9, 9]'), "unknown class 'dragon'; known are person, bicycle"),
        (with_detection('["car", 1.5, 1, 1, 9, 9]'), "score 1.5 is outside 0..1"),
        (with_detection('["car", 0.5, 9, 1, 1, 9]'), "has no area"),
        (with_detection('["car", 0.5, 1, 1, 1, 9]'), "has no area"),
        (with_detection('["car", 0.5, 1, 1, 9]'), "length 6"),
        (with_detection('["car", NaN, 1, 1, 9, 9]'), "not a label"),
        (with_detection('["car", 0.5, 1, 1, 1e999, 9]'), "not a label"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(InputError, match=r"labels\.jsonl:3: ") as caught:
        read(tmp_path, GOOD, "", line, GOOD)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_bytes(GOOD.encode().replace(b"cameras", b"\xff\xfe"))
    with pytest.raises(InputError, match=r"labels\.jsonl:1: not a label"):
        read_labels(tmp_path / "labels.jsonl")


def test_a_file_without_labels_or_no_file_at_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no labels"):
        read(tmp_path, "", "")
    with pytest.raises(InputError, match=r"none\.jsonl: cannot read labels"):
        read_labels(tmp_path / "none.jsonl")
