from __future__ import annotations

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from culling.cloud.model.coco import COCO_80, COCO_91, by_position, plain


def test_the_list_with_gaps_is_torchvisions() -> None:
    assert list(COCO_91) == FasterRCNN_ResNet50_FPN_V2_Weights.DEFAULT.meta["categories"]


def test_the_list_without_gaps_has_the_same_names_in_the_same_order() -> None:
    assert [name for name in COCO_91 if name not in ("__background__", "N/A")] == list(COCO_80)
    assert len(set(COCO_80)) == 80


def test_a_family_that_names_six_classes_otherwise_is_mapped_by_position() -> None:
    otherwise = {"motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "tv": "tvmonitor"}
    otherwise |= {"potted plant": "pottedplant", "dining table": "diningtable"}
    assert by_position([otherwise.get(name, name) for name in COCO_80]) == COCO_80


def test_a_list_without_names_is_cocos_by_its_length() -> None:
    assert by_position([f"LABEL_{number}" for number in range(80)]) == COCO_80
    assert by_position([str(number) for number in range(91)]) == COCO_91


def test_another_list_of_that_length_stays_as_it_is() -> None:
    fruits = tuple(f"fruit {number}" for number in range(80))
    assert by_position(fruits) == fruits
    assert by_position(("cat", "dog")) == ("cat", "dog")


def test_names_of_the_same_thing_are_alike() -> None:
    assert plain("Motorbike") == plain("motorcycle")
    assert plain("traffic_light") == plain("Traffic-Light ") == "traffic light"
