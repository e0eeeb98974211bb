from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from culling.cloud.model.coco import COCO_80, COCO_91
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher import transformers as stage
from culling.cloud.teacher.loading import open_part
from culling.cloud.teacher.transformers import Grounding, open_transformers
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import MissingExtraError, ModelError, SettingsError
from support.detectors import picture

hub = pytest.importorskip("transformers", reason="needs culling[transformers]")

DFINE_NAMES = {"motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "tv": "tvmonitor"}
DFINE_NAMES |= {"potted plant": "pottedplant", "dining table": "diningtable"}
"""What D-FINE calls six of COCO's classes."""


def named(names: tuple[str, ...]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: n for n, name in enumerate(names)}}


def rt_detr(kind: str, names: tuple[str, ...]) -> Any:
    """Return the smallest configuration of RT-DETR or D-FINE."""
    small: dict[str, Any] = dict(
        encoder_hidden_dim=32, encoder_in_channels=[32, 64, 128], d_model=32, num_queries=20, decoder_layers=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, decoder_attention_heads=2, encoder_attention_heads=2, num_denoising=0,
        decoder_in_channels=[32, 32, 32], disable_custom_kernels=True, **named(names),
    )  # fmt: skip
    if kind == "rt_detr":
        trunk = hub.RTDetrResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )  # fmt: skip
        return hub.RTDetrConfig(backbone_config=trunk, **small)
    trunk = hub.HGNetV2Config(
        stem_channels=[3, 8, 8], stage_in_channels=[8, 16, 32, 64], stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 32, 64, 128], stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 64, 128], embedding_size=8, out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    return hub.DFineConfig(backbone_config=trunk, **small)


def detr(names: tuple[str, ...]) -> Any:
    trunk = hub.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage4"]
    )
    return hub.DetrConfig(
        backbone_config=trunk, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=32,
        num_queries=20, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, **named(names),
    )  # fmt: skip


def rf_detr(names: tuple[str, ...]) -> Any:
    trunk = {"model_type": "rf_detr_dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    trunk |= {"image_size": 64, "patch_size": 16, "num_windows": 2, "out_features": ["stage2"]}
    return hub.RfDetrConfig(backbone_config=trunk, d_model=32, num_queries=10, decoder_layers=2, **named(names))


def save(folder: Path, config: Any, processor: Any, auto: Any, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = auto.from_config(config).eval()
    for name, value in model.named_parameters():
        if "class" in name:  # untrained, every score would be that of a box which nobody would look at
            known = name.endswith("weight") and "logit_" not in name
            value.data = value.data * 20 if known else torch.zeros_like(value)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def closed(folder: Path, kind: str, names: tuple[str, ...]) -> Path:
    size = {"height": 64, "width": 96}
    if kind == "detr":
        processor = hub.DetrImageProcessor(size=size, do_pad=False)
        return save(folder, detr(names), processor, hub.AutoModelForObjectDetection)
    if kind == "rf_detr":
        square = hub.RfDetrImageProcessor(size={"height": 64, "width": 64})
        return save(folder, rf_detr(names), square, hub.AutoModelForObjectDetection)
    processor = hub.RTDetrImageProcessor(size=size)
    return save(folder, rt_detr(kind, names), processor, hub.AutoModelForObjectDetection)


@pytest.mark.parametrize("kind", ["rt_detr", "d_fine", "detr", "rf_detr"])
def test_a_saved_model_is_loaded_and_says_what_its_own_processor_reads(kind: str, tmp_path: Path) -> None:
    folder = closed(tmp_path, kind, COCO_91 if kind in ("detr", "rf_detr") else COCO_80)
    teacher = open_transformers(TeacherPart(kind="transformers", file=folder), CLASSES)
    frame = picture(80, 120)
    model = hub.AutoModelForObjectDetection.from_pretrained(folder).eval()
    processor = hub.AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        outputs = model(**processor(images=[frame], return_tensors="pt"))
    [wanted] = processor.post_process_object_detection(outputs, threshold=0.02, target_sizes=[(80, 120)])
    [found] = teacher.label([frame])
    order = np.argsort(-wanted["scores"].numpy(), kind="stable")[: len(found)]
    assert teacher.names == (COCO_91 if kind in ("detr", "rf_detr") else COCO_80)
    assert len(found) > 0
    np.testing.assert_allclose(found.scores, wanted["scores"].numpy()[order], atol=1e-6)
    assert teacher.gflops(80, 120) > 0.001  # type: ignore[operator]


def test_names_are_mapped_by_position_where_a_family_names_coco_otherwise(tmp_path: Path) -> None:
    folder = closed(tmp_path, "d_fine", tuple(DFINE_NAMES.get(name, name) for name in COCO_80))
    assert open_transformers(TeacherPart(kind="transformers", file=folder), CLASSES).names == COCO_80
    ours = open_part(TeacherPart(kind="transformers", file=folder), CLASSES)
    assert ours.names == CLASSES


def test_every_frame_gets_its_own_boxes_whatever_the_mix_of_sizes(tmp_path: Path) -> None:
    part = TeacherPart(kind="transformers", file=closed(tmp_path, "rt_detr", COCO_80), batch=2)
    teacher = open_transformers(part, CLASSES)
    frames = [picture(80, 120, 1), picture(120, 80, 2), picture(80, 120, 3), picture(80, 120, 4)]
    for one, frame in zip(teacher.label(frames), frames, strict=True):
        [alone] = teacher.label([frame])
        np.testing.assert_allclose(one.scores, alone.scores, atol=1e-4)


WORDS = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "van", "red")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS)


def grounding(folder: Path) -> Path:
    """Save the smallest Grounding DINO, with a vocabulary of its own."""
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    tokenizer = hub.BertTokenizer(str(folder / "vocab.txt"))
    trunk = hub.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4, image_size=64,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = hub.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = hub.GroundingDinoConfig(
        backbone_config=trunk, text_config=text, d_model=32, num_queries=20, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2,
        disable_custom_kernels=True, backbone=None, use_pretrained_backbone=False, use_timm_backbone=False,
    )  # fmt: skip
    image = hub.GroundingDinoImageProcessor(size={"height": 64, "width": 96}, do_pad=False)
    processor = hub.GroundingDinoProcessor(image, tokenizer)
    return save(folder, config, processor, hub.AutoModelForZeroShotObjectDetection)


def owl(folder: Path) -> Path:
    """Save the smallest OWLv2, with a vocabulary of letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]  # 0 would be a mask
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = hub.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    text = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
    }
    sight = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = hub.Owlv2Config(
        text_config=text, vision_config=sight | {"image_size": 64, "patch_size": 16}, projection_dim=16
    )
    image = hub.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    return save(folder, config, hub.Owlv2Processor(image, tokenizer), hub.AutoModelForZeroShotObjectDetection)


@pytest.mark.parametrize("make", [grounding, owl])
def test_an_open_vocabulary_is_asked_for_our_classes(make: Any, tmp_path: Path) -> None:
    teacher = open_part(TeacherPart(kind="transformers", file=make(tmp_path)), CLASSES)
    found = teacher.label([picture(60, 90, 1), picture(60, 90, 2)])
    assert teacher.names == CLASSES
    assert len(found) == 2
    assert len(found[0]) > 0
    assert (found[0].boxes <= [90, 60, 90, 60]).all()
    assert (found[0].boxes >= 0).all()


@pytest.mark.parametrize("make", [grounding, owl])
def test_the_map_holds_the_words_to_ask_for(make: Any, tmp_path: Path) -> None:
    part = TeacherPart(kind="transformers", file=make(tmp_path), map={"car": ("red car", "van")})
    own = open_transformers(part, ("person", "car"))
    assert own.names == ("person", "red car", "van")
    assert open_part(part, ("person", "car")).names == ("person", "car")


def test_a_box_of_grounding_dino_is_of_the_prompt_with_the_best_word(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    processor = type("Processor", (), {"tokenizer": hub.BertTokenizer(str(tmp_path / "vocab.txt"))})()
    reader = Grounding(processor, ["person", "red car"])
    ids = [2, 6, 5, 13, 8, 5, 3]  # [CLS] person . red car . [SEP]
    logits = torch.full((1, 2, 16), -9.0)
    logits[0, 0, 4], logits[0, 1, 1], logits[0, 1, 3] = 2.0, 1.0, 0.5
    outputs = type("Outputs", (), {"logits": logits, "pred_boxes": torch.tensor([[[0.5, 0.5, 0.5, 0.5]] * 2])})()
    [found] = reader.read(outputs, {"input_ids": torch.tensor([ids])}, (100, 200))
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx(torch.tensor([2.0, 1.0]).sigmoid().tolist())
    assert found.boxes[0].tolist() == [50, 25, 150, 75]


def test_a_prompt_with_a_full_stop_is_refused(tmp_path: Path) -> None:
    part = TeacherPart(kind="transformers", file=grounding(tmp_path), map={"car": ("red. car",)})
    with pytest.raises(ModelError, match=r"teacher\.map: a prompt has no word, or a full stop inside"):
        open_transformers(part, ("person", "car")).label([picture(60, 90)])


def test_what_is_no_models_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        open_transformers(TeacherPart(kind="transformers", file=tmp_path), CLASSES)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="transformers cannot open it"):
        open_transformers(TeacherPart(kind="transformers", file=tmp_path), CLASSES)
    with pytest.raises(SettingsError, match=r"teacher\.file: name the model's folder"):
        open_transformers(TeacherPart(kind="transformers"), CLASSES)
    with pytest.raises(SettingsError, match=r"teacher\.short_side: .* leave it out"):
        open_transformers(TeacherPart(kind="transformers", file=tmp_path, short_side=480), CLASSES)


def test_pickled_weights_and_code_in_the_folder_are_not_touched(tmp_path: Path) -> None:
    folder = closed(tmp_path, "rt_detr", COCO_80)
    (folder / "model.safetensors").rename(folder / "model.bin")
    (folder / "pytorch_model.bin").write_bytes((folder / "model.bin").read_bytes())
    with pytest.raises(ModelError, match="transformers cannot open it"):
        open_transformers(TeacherPart(kind="transformers", file=folder), CLASSES)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}))
    (folder / "own.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(ModelError, match="transformers cannot open it"):
        open_transformers(TeacherPart(kind="transformers", file=folder), CLASSES)


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(stage, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'culling\[transformers\]'"):
        open_transformers(TeacherPart(kind="transformers", file=tmp_path), CLASSES)
