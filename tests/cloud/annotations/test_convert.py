"""Every format into every other and back, as other libraries read them, and what is said of a file that is wrong."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from globox import AnnotationSet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from culling.cloud.annotations.classes import Wanted, parse_map
from culling.cloud.annotations.convert import KINDS, Converted, convert, read, write
from culling.cloud.annotations.folder import Sizes
from culling.cloud.annotations.looks import FORMATS, Format, looks_like
from culling.cloud.annotations.picture import Box, Picture
from culling.common.errors import InputError

WIDTH, HEIGHT = 320, 240
SIZES = Sizes(size=(WIDTH, HEIGHT))
ANY = Wanted()
OUT: dict[Format, str] = {"coco": "a.json", "yolo": "yolo", "voc": "voc", "cvat": "a.xml", "culling": "a.jsonl"}

NAMES = st.sampled_from(["person", "car", "fork lift", "Bus & Truck", "<tag>", "猫", 'a "b"'])
SOURCES = st.sampled_from(["a.jpg", "b.png", "day 1/c.jpg", "day 1/yard.mp4", "gate", "ü.jpg", "d&e.jpeg"])


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    # Of at least two pixels: a narrower one may round to another in whole pixels, and then a copy of a neighbour.
    x1, y1 = draw(st.floats(0, WIDTH - 2)), draw(st.floats(0, HEIGHT - 2))
    x2, y2 = draw(st.floats(x1 + 2, WIDTH)), draw(st.floats(y1 + 2, HEIGHT))
    score = draw(st.sampled_from([1.0, 0.93, 0.1234]))
    return Box(draw(NAMES), score, x1, y1, x2, y2)


@st.composite
def pictures(draw: st.DrawFn) -> list[Picture]:
    made = []
    for source in draw(st.lists(SOURCES, min_size=1, max_size=4, unique=True)):
        frame = draw(st.integers(0, 2_000_000)) if source in ("day 1/yard.mp4", "gate") else 0
        found = tuple(draw(st.lists(boxes(), max_size=4, unique_by=lambda box: (box.name, *map(round, box.corners)))))
        made.append(Picture(source, frame, WIDTH, HEIGHT, found, "here"))
    return made


def classes_of(made: list[Picture]) -> tuple[str, ...]:
    return tuple(sorted({box.name for picture in made for box in picture.boxes} | {"person"}))


def check_same(found: tuple[Picture, ...], made: list[Picture], precision: float, scores: bool) -> None:
    """Hold what was read against what was written: all but the order of files, and edges up to `precision`."""
    by_name = {picture.file_name: picture for picture in found}
    assert by_name.keys() == {picture.file_name for picture in made}
    for picture in made:
        other = by_name[picture.file_name]
        assert (other.source, other.frame, other.width, other.height) == (picture.source, picture.frame, WIDTH, HEIGHT)
        assert [box.name for box in other.boxes] == [box.name for box in picture.boxes]
        wanted = np.array([box.corners for box in picture.boxes]).reshape(-1, 4)
        np.testing.assert_allclose(
            np.array([box.corners for box in other.boxes]).reshape(-1, 4), wanted, atol=precision, rtol=0
        )
        assert [box.score for box in other.boxes] == [box.score if scores else 1.0 for box in picture.boxes]


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
@given(made=pictures())
@settings(max_examples=12)
def test_every_format_into_every_other_keeps_everything_up_to_its_precision(
    first: Format, to: Format, made: list[Picture]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other, back = (Path(folder) / name for name in ("one", "other", "back"))
        for place in (one, other, back):
            place.mkdir()
        write(one / OUT[first], first, made, classes_of(made))
        convert(one / OUT[first], other / OUT[to], to, None, ANY, SIZES)
        convert(other / OUT[to], back / OUT[first], first, None, ANY, SIZES)
        found = read(back / OUT[first], first, ANY, SIZES)
    kinds = KINDS[first], KINDS[to]
    check_same(found.pictures, made, sum(2 * kind.precision for kind in kinds), kinds[0].scores and kinds[1].scores)
    assert found.clipped == found.outside == 0


@pytest.mark.parametrize("kind", FORMATS)
@given(made=pictures())
@settings(max_examples=25)
def test_what_is_written_is_read_back_and_known_by_its_looks(kind: Format, made: list[Picture]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / OUT[kind]
        write(path, kind, made, classes_of(made))
        assert looks_like(path) == kind
        found = read(path, None, ANY, SIZES)
    check_same(found.pictures, made, KINDS[kind].precision, KINDS[kind].scores)
    if kind in ("coco", "yolo", "cvat"):
        assert found.classes == classes_of(made)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_that_holds_one_format_is_read_whole(tmp_path: Path, kind: Format) -> None:
    (tmp_path / "set").mkdir()
    out = tmp_path / "set" if KINDS[kind].folder else tmp_path / "set" / KINDS[kind].file
    write(out, kind, PLAIN, ("car", "person"))
    assert len(read(tmp_path / "set", None, ANY, SIZES).pictures) == len(PLAIN)


# As others read them

PLAIN = [
    Picture("a.jpg", 0, WIDTH, HEIGHT, (Box("car", 1.0, 10, 20, 110, 70), Box("person", 1.0, 0, 0, 320, 240)), ""),
    Picture("b.jpg", 0, WIDTH, HEIGHT, (), ""),
]


def test_pycocotools_reads_our_coco(tmp_path: Path) -> None:
    write(tmp_path / "a.json", "coco", PLAIN, ("person", "car"))
    found = COCO(str(tmp_path / "a.json"))
    (car,) = found.loadAnns(found.getAnnIds(catIds=found.getCatIds(["car"])))
    assert (car["bbox"], car["area"]) == ([10.0, 20.0, 100.0, 50.0], 5000.0)
    assert [one["file_name"] for one in found.loadImgs(found.getImgIds())] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("kind", ["coco", "voc", "cvat", "yolo"])
def test_globox_reads_our_files(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / OUT[kind]
    write(path, kind, PLAIN, ("person", "car"))
    if kind == "coco":
        found = AnnotationSet.from_coco(path)
    elif kind == "cvat":
        found = AnnotationSet.from_cvat(path)
    elif kind == "voc":
        found = AnnotationSet.from_pascal_voc(path / "Annotations")
    else:
        (path / "images").mkdir()
        for picture in PLAIN:
            Image.new("RGB", (WIDTH, HEIGHT)).save(path / "images" / picture.source)
        found = AnnotationSet.from_yolo_v5(path / "labels", image_folder=path / "images")
        found.map_labels({"0": "person", "1": "car"})
    seen = {one.image_id: {box.label: box.ltrb for box in one.boxes} for one in found}
    shift = 1 if kind == "voc" else 0  # it reads the pixels of VOC as they stand there, from 1
    assert seen["a.jpg"]["car"] == pytest.approx((10 + shift, 20 + shift, 110, 70), abs=0.01)
    assert seen["b.jpg"] == {}


def test_yolo_takes_sizes_from_the_pictures_beside_the_labels(tmp_path: Path) -> None:
    (tmp_path / "train/labels").mkdir(parents=True)
    (tmp_path / "train/images").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "train/images/a.png")
    (tmp_path / "train/labels/a.txt").write_text("1 0.5 0.5 0.5 0.5\n0 .25 .5 .1 .1 0.75\n")
    (tmp_path / "data.yaml").write_text("names: [person, car]\nnc: 2\n")
    (picture,) = read(tmp_path, None, ANY, Sizes()).pictures
    assert (picture.source, picture.width, picture.height) == ("train/a.png", 200, 100)
    assert picture.boxes[0].corners == (50, 25, 150, 75)
    assert [(box.name, box.score) for box in picture.boxes] == [("car", 1.0), ("person", 0.75)]


def test_yolo_takes_sizes_from_a_folder_of_pictures(tmp_path: Path) -> None:
    write(tmp_path / "yolo", "yolo", PLAIN, ("person", "car"))
    with pytest.raises(InputError, match=r"a\.txt: the size of its picture a\.jpg is not known: .*--images.*--size"):
        read(tmp_path / "yolo", None, ANY, Sizes())
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name)
    assert read(tmp_path / "yolo", None, ANY, Sizes(folder=tmp_path)).pictures[0].width == WIDTH


def test_a_whole_picture_is_1_to_its_width_in_voc(tmp_path: Path) -> None:
    write(tmp_path / "voc", "voc", PLAIN, ())
    text = (tmp_path / "voc/Annotations/a.xml").read_text()
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>320</xmax><ymax>240</ymax>" in text


# Boxes that stick out


@pytest.mark.parametrize("kind", FORMATS)
def test_a_box_that_sticks_out_is_cut_and_one_outside_goes_and_both_are_counted(tmp_path: Path, kind: Format) -> None:
    rows = (Box("car", 1, -5, 20, 110, 70), Box("car", 1, 300, 200, 330, 260), Box("car", 1, 400, 20, 410, 70))
    kept = PLAIN[0].boxes[0]
    pictures = [replace(PLAIN[0], boxes=(kept,)), replace(PLAIN[1], boxes=rows)]
    KINDS[kind].write(ready(tmp_path / OUT[kind], kind), pictures, ("car",))
    if kind == "voc":  # our own writer keeps edges within
        path = tmp_path / OUT[kind] / "Annotations/b.xml"
        text = path.read_text().replace("<xmin>320</xmin>", "<xmin>401</xmin>").replace(">330<", ">331<")
        path.write_text(text)
    found = read(tmp_path / OUT[kind], kind, ANY, SIZES)
    assert (found.clipped, found.outside) == (2, 1)
    corners = [box.corners for box in found.pictures[1].boxes]
    np.testing.assert_allclose(corners, [(0, 20, 110, 70), (300, 200, 320, 240)], atol=KINDS[kind].precision)
    assert found.pictures[0].boxes[0].corners == pytest.approx(kept.corners)
    (told,) = found.told()
    assert told.startswith("2 boxes stuck out of a picture, cut at its edge; 1 lay outside")


def ready(path: Path, kind: Format) -> Path:
    if KINDS[kind].folder:
        path.mkdir()
    return path


# Classes


def coco(path: Path, *names: str, **changes: object) -> Path:
    whole = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": number, "bbox": [1, 2, 30, 40]} for number in range(len(names))
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
    }
    path.write_text(json.dumps({**whole, **changes}))
    return path


def test_a_class_that_is_not_known_is_answered_with_the_nearest_and_what_to_do(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", "car", "Persn")
    wanted = Wanted(("person", "car"))
    with pytest.raises(InputError) as caught:
        read(path, None, wanted, SIZES)
    assert str(caught.value) == (
        f"{path}: annotations[1]: unknown class 'Persn'; did you mean person? known are person, car: say what it is, "
        "e.g. --map 'Persn=person', or leave out such boxes with --drop"
    )
    found = read(path, None, replace(wanted, renamed=parse_map(["Persn=person"])), SIZES)
    assert [box.name for box in found.pictures[0].boxes] == ["car", "person"]
    dropped = read(path, None, replace(wanted, drop=True), SIZES)
    assert [box.name for box in dropped.pictures[0].boxes] == ["car"]
    assert dropped.told() == ["dropped, of other classes: 1 Persn"]


@pytest.mark.parametrize("kind", ["coco", "yolo", "cvat"])
def test_class_names_that_come_twice_or_are_empty_are_named(tmp_path: Path, kind: Format) -> None:
    for names, complaint in ((("car", "car"), "two classes are named 'car'"), (("car", " "), "class 1 has no name")):
        folder = tmp_path / complaint[:5]
        folder.mkdir()
        path = ready(folder / OUT[kind], kind)
        if kind == "yolo":
            write(path, kind, PLAIN, ("person", "car"))
            (path / "data.yaml").unlink()
            (path / "classes.txt").write_text("".join(f"{name}\n" for name in names) + "x\n")
        elif kind == "coco":
            coco(path, *names)
        else:
            KINDS[kind].write(path, PLAIN, names)
        with pytest.raises(InputError, match=complaint):
            read(path, None, ANY, SIZES)


@pytest.mark.parametrize("word", ["car", "=car", "car="])
def test_a_map_that_is_none_is_named(word: str) -> None:
    with pytest.raises(InputError, match=rf"--map {word}: expected FROM=TO"):
        parse_map([word])


def test_a_map_of_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", "car", "van")
    with pytest.raises(InputError, match=r"--map vna=car: there is no class vna, but car, van"):
        read(path, None, Wanted(renamed=parse_map(["vna=car"])), SIZES)
    assert read(path, None, Wanted(renamed=parse_map(["van=car"])), SIZES).classes == ("car",)


def test_sizes_and_crowds_as_other_tools_write_them_are_read(tmp_path: Path) -> None:
    images = [{"id": "x", "file_name": "a.jpg", "width": 320.0, "height": 240.0}]
    rows = [{"image_id": "x", "category_id": 0, "bbox": [1, 2, 3, 4], "iscrowd": flag} for flag in (False, True)]
    found = read(coco(tmp_path / "a.json", "car", images=images, annotations=rows), None, ANY, SIZES)
    assert (found.pictures[0].width, found.boxes, found.left_out) == (320, 1, {"crowds": 1})


# What is wrong is named


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"annotations": [{"image_id": 7, "category_id": 0, "bbox": [1, 2, 3]}]}, r"annotations\[0\]\.bbox: Expected"),
        ({"annotations": [{"image_id": 9, "category_id": 0, "bbox": [1, 2, 3, 4]}]}, r"\[0\]\.image_id: no image"),
        ({"annotations": [{"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4]}]}, r"\[0\]\.category_id: no cat"),
        ({"annotations": [{"image_id": 7, "category_id": 0, "bbox": [1, 2, 0, 4]}]}, r"\[0\]: box 1, 2, 1, 6 has no"),
        ({"annotations": [{"image_id": 7, "category_id": 0, "bbox": [1, 2, -3, 4]}]}, r"has no area"),
        (
            {"annotations": [{"image_id": 7, "category_id": 0, "bbox": [1, 2, 3, 4], "score": 2}]},
            r"annotations\[0\]: score 2.0 is outside",
        ),
        ({"images": [{"id": 7, "file_name": "a.jpg", "width": 0, "height": 1}]}, r"images\[0\]: width and height must"),
        (
            {"images": [{"id": 7, "file_name": "a.jpg", "width": 9.5, "height": 1}]},
            r"images\[0\]: 9.5x1, expected whole",
        ),
        ({"images": [{"id": 7, "file_name": "a.jpg"}]}, r"images\[0\]: Object missing required field `width`"),
        ({"images": 2 * [{"id": 7, "file_name": "a.jpg", "width": 9, "height": 9}]}, r"images\[1\]\.id: 7 is that of"),
        ({"categories": "car"}, r"categories: Expected `array`"),
    ],
)
def test_what_is_wrong_in_coco_names_its_field(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    path = coco(tmp_path / "a.json", "car", **changes)
    with pytest.raises(InputError, match=rf"a\.json: .*{complaint}") as caught:
        read(path, "coco", ANY, SIZES)
    assert "\n" not in str(caught.value)


def test_json_that_is_cut_off_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n"images": [\n{"id": }')
    with pytest.raises(InputError, match=r"a\.json:3: not JSON"):
        read(tmp_path / "a.json", "coco", ANY, SIZES)


def test_crowds_and_polygons_are_left_out_and_counted(tmp_path: Path) -> None:
    crowd = {"image_id": 7, "category_id": 0, "bbox": [1, 2, 3, 4], "iscrowd": 1}
    found = read(coco(tmp_path / "a.json", "car", annotations=[crowd]), None, ANY, SIZES)
    assert found.told() == ["left out, since they are no boxes: 1 crowds"]
    write(tmp_path / "a.xml", "cvat", PLAIN, ("person", "car"))
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_text(text.replace("<box ", '<polygon label="car" points="1,2;3,4;5,6"/><box ', 1))
    assert read(tmp_path / "a.xml", None, ANY, SIZES).told() == ["left out, since they are no boxes: 1 polygons"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("car 0.5 0.5 0.1 0.1", "class is 'car', expected a whole number"),
        ("2 0.5 0.5 0.1 0.1", "class 2, but only 0 to 1 have names"),
        ("-1 0.5 0.5 0.1 0.1", "class is '-1'"),
        ("0 0.5 0.5 0.1", "4 values, expected class, x, y, width, height"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 ", "7 values, .*polygons are not read"),
        ("0 0.5 x 0.1 0.1", "expected numbers"),
        ("0 160 120 30 40", "expected fractions of the picture, these look like pixels"),
        ("0 0.5 0.5 0 0.1", "has no area"),
        ("0 nan 0.5 0.1 0.1", "not a finite number"),
        ('{"source": "a.jpg"}', "2 values, expected"),
    ],
)
def test_what_is_wrong_in_yolo_names_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    write(tmp_path / "yolo", "yolo", PLAIN, ("person", "car"))
    with (tmp_path / "yolo/labels/a.txt").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(InputError, match=rf"labels/a\.txt:4: .*{complaint}"):
        read(tmp_path / "yolo", None, ANY, SIZES)


def test_yolo_without_names_or_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing names the classes: add data\.yaml"):
        read(tmp_path, "yolo", ANY, SIZES)
    for text, complaint in (
        ("names: [a\n", r"data\.yaml:\d: not YAML"),
        ("names: 3\n", "names: expected a list"),
        ("names: {0: a, 2: b}", "names: expected a list"),
        ("names: [a]", "holds no label file"),
        ("!!python/object/apply:os.system [true]", "not YAML"),
    ):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(InputError, match=complaint):
            read(tmp_path, None, ANY, SIZES)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("<width>320</width>", "", r":4: <size> has no <width>"),
        ("<width>320", "<width>wide", r":4: <width> is 'wide', expected a number"),
        ("<width>320", "<width>320.5", r":4: <width> is 320.5, expected a whole number"),
        ("<xmin>11</xmin>", "", r":11: <bndbox> has no <xmin>"),
        ("<xmin>11", "<xmin>NaN", r":6: .*not a finite number"),
        ("<name>car</name>", "", r":6: <object> has no <name>"),
        ("<name>car</name>", "<name></name>", r":6: a box without a class"),
        ("</annotation>", "", r":\d+: not XML"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>', r"has a DOCTYPE or entities"),
        ("<annotation>", "<annotation>" + "<a>" * 40 + "</a>" * 40, r"elements within each other"),
    ],
)
def test_what_is_wrong_in_voc_names_file_line_and_element(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    write(tmp_path / "voc", "voc", PLAIN, ())
    path = tmp_path / "voc/Annotations/a.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"a\.xml.*{complaint}") as caught:
        read(tmp_path / "voc", None, ANY, SIZES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('label="car" ', "", r":6: <box> has no label"),
        ('xtl="10.00"', 'xtl="ten"', r":6: xtl is 'ten', expected a number"),
        ('width="320"', "", r":\d: <image> has no width"),
        ('label="car"', 'label="van"', r":6: unknown class 'van'"),
        ("<box ", '<box rotation="30.0" ', r":6: a box that is turned by 30\.0 degrees"),
        ("  <image ", '  <track id="0" label="car"></track><image ', r":5: <track>: this is CVAT for video"),
    ],
)
def test_what_is_wrong_in_cvat_names_line_and_attribute(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "a.xml"
    write(path, "cvat", PLAIN, ("person", "car"))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"a\.xml{complaint}"):
        read(path, None, ANY, SIZES)


@pytest.mark.parametrize("told", FORMATS)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_another_format_than_told_is_known(tmp_path: Path, kind: Format, told: Format) -> None:
    path = tmp_path / OUT[kind]
    write(path, kind, PLAIN, ("person", "car"))
    if told == kind:
        return
    with pytest.raises(InputError, match=rf"; this looks like .*: --from {kind}$"):
        read(path, told, ANY, SIZES)


def test_a_file_half_in_another_format_names_where_that_begins(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", "culling", PLAIN, ())
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"images": [], "annotations": []}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:3: not a label"):
        read(tmp_path / "a.jsonl", None, ANY, SIZES)
    write(tmp_path / "voc", "voc", PLAIN, ())
    KINDS["cvat"].write(tmp_path / "voc/Annotations/z.xml", PLAIN, ("person", "car"))
    with pytest.raises(InputError, match=r"voc: holds Pascal VOC and CVAT for images: .* --from voc"):
        read(tmp_path / "voc", None, ANY, SIZES)
    with pytest.raises(InputError, match=r"z\.xml:2: <annotations>, expected <annotation>"):
        read(tmp_path / "voc", "voc", ANY, SIZES)


def test_what_is_nothing_of_the_kind_is_asked_for_its_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n")
    with pytest.raises(InputError, match=r"a\.csv: looks like none of COCO, YOLO, .*--from"):
        read(tmp_path / "a.csv", None, ANY, SIZES)
    with pytest.raises(InputError, match="there is no such file or folder"):
        read(tmp_path / "b.csv", None, ANY, SIZES)


# What is written


@pytest.mark.parametrize("kind", ["yolo", "voc"])
@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "b/../../a.jpg"])
def test_no_picture_leads_out_of_the_folder(tmp_path: Path, kind: Format, name: str) -> None:
    with pytest.raises(InputError, match="leads out of the folder"):
        write(tmp_path / "out", kind, [replace(PLAIN[0], source=name)], ("person", "car"))


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_pictures_that_would_share_a_label_file_are_named(tmp_path: Path, kind: Format) -> None:
    twins = [PLAIN[0], replace(PLAIN[0], source="a.png")]
    with pytest.raises(InputError, match=r"a\.png and a\.jpg would share one label file"):
        write(tmp_path / "out", kind, twins, ("person", "car"))


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_that_is_there_is_written_over(tmp_path: Path, kind: Format) -> None:
    write(tmp_path / OUT[kind], kind, PLAIN, ("person", "car"))
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / OUT[kind], kind, PLAIN, ("person", "car"))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_name_with_a_character_that_cannot_be_seen_is_refused(tmp_path: Path, kind: Format) -> None:
    for pictures, classes in (
        ([replace(PLAIN[0], source="a\x01.jpg")], ("person", "car")),
        (PLAIN, ("person", "a\nb")),
    ):
        with pytest.raises(InputError, match="holds a character that cannot be seen"):
            write(tmp_path / OUT[kind], kind, pictures, classes)


def test_a_folder_as_roboflow_makes_it_is_read(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        (tmp_path / part / "labels").mkdir(parents=True)
        (tmp_path / part / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "README.dataset.txt").write_text("# a data set")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 1\nnames: ['person']\n")
    found = read(tmp_path, None, ANY, SIZES)
    assert [picture.source for picture in found.pictures] == ["train/a.jpg", "valid/a.jpg"]


def test_that_entries_of_one_picture_are_joined_is_said() -> None:
    found = Converted("culling", (), (), joined=2)
    assert found.told() == ["2 entries are of pictures that have one before: the boxes of both count together"]
