from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import (
    PROVIDERS,
    Graph,
    NotFiniteError,
    _check_placement,
    _placement,
    check,
    has_cuda,
    open_graph,
    see,
    to_frame,
)
from support import tiny

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return open_graph(tiny.student(), provider="cpu", threads=1)


def open_tiny(**wishes: Any) -> Graph:
    return open_graph(tiny.student(**wishes), provider="cpu", threads=1)


def spoiled(spoil: Callable[[Any], object]) -> bytes:
    model = tiny.proto()
    spoil(model)
    return bytes(model.SerializeToString())


class TestRun:
    def test_answers_follow_the_picture_best_first_in_input_pixels(self, graph: Graph) -> None:
        (found,) = graph.run(tiny.picture(160, 128)[None])

        assert found.boxes[0].tolist() == [120, 96, 160, 128]
        assert found.scores[0] == pytest.approx(230 / 255)
        assert (np.diff(found.scores) <= 0).all()
        assert found.labels[0] == 15 % len(CLASSES)

    def test_an_image_is_seen_in_its_own_pixels_at_any_input_size(self, graph: Graph) -> None:
        found = see(graph, tiny.picture(320, 256), (64, 96))

        assert found.boxes[0].tolist() == [240, 192, 320, 256]

    def test_padding_is_removed(self, graph: Graph) -> None:
        bright, dark = graph.run(np.stack([tiny.picture(64, 64), np.zeros((64, 64, 3), np.uint8)]))

        assert 0 < len(bright) < graph.info.max_detections
        assert len(dark) == 0
        assert dark.boxes.shape == (0, 4)

    @pytest.mark.parametrize("size", [(64, 64), (160, 128), (640, 352), (96, 448)])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_size_and_batch_run(self, graph: Graph, size: tuple[int, int], batch: int) -> None:
        found = graph.run(np.stack([tiny.picture(*size)] * batch))

        assert [len(one) for one in found] == [len(found[0])] * batch
        assert found[0].boxes.max() == max(size)

    def test_arrays_have_the_promised_types(self, graph: Graph) -> None:
        (found,) = graph.run(tiny.picture(64, 64)[None])

        assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)

    def test_a_score_that_is_not_a_number_is_an_error_of_its_own(self) -> None:
        dazzled = open_tiny(nan_above=0.8)

        assert len(dazzled.run(tiny.picture(64, 64, brightest=180)[None])[0])
        with pytest.raises(NotFiniteError, match="not numbers"):
            dazzled.run(tiny.picture(64, 64)[None])

    def test_a_label_without_a_class_is_refused(self) -> None:
        model = tiny.proto()
        helper.set_model_props(model, {"culling.classes": "person"})
        narrow = open_graph(model.SerializeToString(), provider="cpu", threads=1)

        with pytest.raises(ModelError, match="label 5 but has 1 classes"):
            narrow.run(tiny.picture(64, 64)[None])

    def test_a_failure_inside_the_graph_names_the_shape_in_one_line(self) -> None:
        failing = open_graph(tiny.failing(), provider="cpu", threads=1)

        with pytest.raises(ModelError, match=r"batch of shape \(1, 64, 96, 3\)") as raised:
            failing.warm(1, 64, 96)
        assert "\n" not in str(raised.value)

    def test_a_batch_of_the_wrong_type_is_refused(self, graph: Graph) -> None:
        with pytest.raises(ModelError, match="batch of shape"):
            graph.run(np.zeros((1, 64, 64, 3), np.float32))  # type: ignore[arg-type]

    def test_warming_tells_how_long_it_took(self, graph: Graph) -> None:
        assert 0 < graph.warm(2, 64, 64) < 5

    def test_the_slow_one_is_slower(self, graph: Graph) -> None:
        slow = open_tiny(turns=400)
        graph.warm(1, 64, 64)

        assert min(slow.warm(1, 64, 64) for _ in range(3)) > 4 * min(graph.warm(1, 64, 64) for _ in range(3))


class TestOpen:
    def test_the_file_tells_its_classes_and_its_most_detections(self) -> None:
        info = open_tiny(classes=("cat", "dog")).info

        assert info.classes == ("cat", "dog")
        assert info.max_detections == tiny.CELLS

    @pytest.mark.skipif(not has_cuda(), reason="the onnxruntime that is installed is the CPU's")
    def test_a_silent_fall_back_to_the_cpu_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(PROVIDERS, "cuda", ("CUDAExecutionProvider", {"device_id": "99"}))  # there is no such GPU

        with pytest.raises(ModelError, match="CUDAExecutionProvider"):
            open_graph(tiny.student(), provider="cuda")

    def test_a_runtime_without_cuda_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("culling.common.graph._installed", lambda package: package == "onnxruntime")
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])

        with pytest.raises(ModelError, match=r"install culling\[edge-gpu\] in place of culling\[edge\]"):
            open_graph(tiny.student(), provider="cuda")

    def test_two_runtimes_that_overwrite_each_other_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("culling.common.graph._installed", lambda package: True)

        with pytest.raises(ModelError, match="onnxruntime and onnxruntime-gpu overwrite each other: uninstall both"):
            open_graph(tiny.student(), provider="cuda")

    @pytest.mark.parametrize(("exact", "tf32"), [(False, None), (True, "0")])
    def test_full_precision_is_asked_for_where_it_matters(
        self, exact: bool, tf32: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[Any] = []

        class Session:
            def __init__(self, model: bytes, options: Any, providers: Any) -> None:
                told.extend(providers)

            def get_providers(self) -> list[str]:
                return ["CUDAExecutionProvider"]

            def get_provider_graph_assignment_info(self) -> list[Any]:
                return []

        monkeypatch.setattr("culling.common.graph._find_cuda", lambda: None)
        monkeypatch.setattr("onnxruntime.InferenceSession", Session)

        open_graph(tiny.student(), provider="cuda", exact=exact)

        [(name, settings)] = told
        assert name == "CUDAExecutionProvider"
        assert settings.get("use_tf32") == tf32
        assert settings["cudnn_conv_algo_search"] == "HEURISTIC"

    def test_nothing_is_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        open_tiny()
        with pytest.raises(ModelError):
            open_graph(spoiled(lambda m: m.graph.node.add(op_type="Imaginary", output=["x"])), provider="cpu")

        assert capfd.readouterr() == ("", "")

    def test_a_graph_that_only_the_runtime_understands_is_refused_in_one_line(self) -> None:
        with pytest.raises(ModelError, match="onnxruntime refused the model") as raised:
            open_graph(spoiled(lambda m: m.graph.node.add(op_type="Imaginary", output=["x"])), provider="cpu")
        assert "\n" not in str(raised.value)


class TestPlacement:
    """Where onnxruntime put each node, and whether that is what was asked for; on this machine all is the CPU's."""

    def test_what_sizes_are_computed_with_may_stay_on_the_cpu(self) -> None:
        placed = [(CUDA, "Conv", "conv"), (CPU, "Gather", "height"), (CPU, "Sqrt", "side"), (CPU, "Concat", "")]

        _check_placement(chain().graph, placed, CUDA)

    @pytest.mark.parametrize(
        ("operator", "name"),
        [("RoiAlign", "crop"), ("Conv", "conv"), ("Cast", "pixels"), ("RoiAlign", ""), ("FusedConv", "conv_relu")],
        ids=["no kernel", "named", "light, but of pixels", "unnamed", "fused"],
    )
    def test_what_looks_at_pixels_may_not(self, operator: str, name: str) -> None:
        with pytest.raises(ModelError, match=f"^{operator} would not run on {CUDA}: this onnxruntime"):
            _check_placement(chain().graph, [(CUDA, "Relu", "relu"), (CPU, operator, name)], CUDA)

    def test_pixels_are_followed_into_the_bodies_of_loops(self) -> None:
        body = helper.make_graph([helper.make_node("Relu", ["seen"], ["more"], "inside")], "body", [], [])
        model = chain()
        model.graph.node.append(
            helper.make_node("If", ["yes"], ["after"], "branch", then_branch=body, else_branch=body)
        )

        with pytest.raises(ModelError, match="If would not run"):
            _check_placement(model.graph, [(CPU, "If", "branch")], CUDA)

    def test_it_is_read_from_the_session_itself(self, graph: Graph) -> None:
        placed = _placement(graph._session)

        assert {provider for provider, _, _ in placed} == {CPU}
        with pytest.raises(ModelError, match="would not run on CUDAExecutionProvider"):
            _check_placement(tiny.proto().graph, placed, CUDA)
        _check_placement(tiny.proto().graph, placed, CPU)


def chain() -> Any:
    """Return a graph whose `conv` sees pixels, and whose `height` and `side` only their number."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], "pixels", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "kernel"], ["seen"], "conv"),
        helper.make_node("RoiAlign", ["seen", "rois", "batch"], ["cropped"], "crop"),
        helper.make_node("Shape", ["frames"], ["size"], "size"),
        helper.make_node("Gather", ["size", "one"], ["rows"], "height"),
        helper.make_node("Sqrt", ["rows"], ["root"], "side"),
    ]
    return helper.make_model(helper.make_graph(nodes, "chain", [], []))


class TestCheck:
    """Each hostile or mistaken file by name; none of them reaches onnxruntime."""

    @pytest.mark.parametrize("data", [b"", b"xx", b"\x00" * 100, b"\x08\x00\x00\x00ORTM" + bytes(64), b"PK\x03\x04zip"])
    def test_bytes_that_are_no_onnx(self, data: bytes) -> None:
        with pytest.raises(ModelError, match="not ONNX"):
            check(data)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 2000))
    def test_damaged_files_only_ever_raise_a_model_error(self, junk: bytes, place: int) -> None:
        good = tiny.student()
        place %= len(good)
        with contextlib.suppress(ModelError):
            check(good[:place] + junk + good[place + len(junk) :])

    def test_a_file_cut_short(self) -> None:
        good = tiny.student()

        with pytest.raises(ModelError):
            check(good[: len(good) // 2])

    def test_more_bytes_than_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("culling.common.graph.MAX_MODEL", 100)

        with pytest.raises(ModelError, match="at most 100 are allowed"):
            check(tiny.student())

    @pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "weights.bin"])
    def test_weights_in_another_file(self, location: str) -> None:
        with pytest.raises(ModelError, match="outside of its file"):
            check(tiny.external(location))

    def test_external_data_inside_a_loop_body(self) -> None:
        def spoil(model: Any) -> None:
            loop = next(node for node in model.graph.node if node.op_type == "Loop")
            tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
            tensor.data_location = TensorProto.EXTERNAL
            constant = helper.make_node("Constant", [], ["hidden"])
            constant.attribute.add(name="value", type=4).t.CopyFrom(tensor)
            loop.attribute[0].g.node.append(constant)

        model = tiny.proto(turns=2)
        spoil(model)
        with pytest.raises(ModelError, match="outside of its file"):
            check(model.SerializeToString())

    def test_external_data_in_a_sparse_tensor(self) -> None:
        def spoil(model: Any) -> None:
            sparse = model.graph.sparse_initializer.add()
            sparse.values.external_data.add(key="location", value="x")

        with pytest.raises(ModelError, match="outside of its file"):
            check(spoiled(spoil))

    def test_an_operator_of_a_foreign_domain(self) -> None:
        with pytest.raises(ModelError, match=r"foreign domain 'com\.microsoft'"):
            check(tiny.foreign())

    def test_a_foreign_domain_that_the_header_does_not_tell(self) -> None:
        with pytest.raises(ModelError, match="foreign domain 'evil'"):
            check(spoiled(lambda model: model.graph.node.add(op_type="Run", domain="evil")))

    def test_functions_of_its_own(self) -> None:
        with pytest.raises(ModelError, match="functions"):
            check(spoiled(lambda model: model.functions.add(name="f")))

    def test_an_opset_that_the_gpu_has_no_kernels_for(self) -> None:
        with pytest.raises(ModelError, match="opset 19, at most 18"):
            check(tiny.student(opset=19))

    def test_no_opset(self) -> None:
        with pytest.raises(ModelError, match="names no opset"):
            check(spoiled(lambda model: model.ClearField("opset_import")))

    def test_too_many_nodes(self) -> None:
        with pytest.raises(ModelError, match="more than 20000 nodes"):
            check(tiny.crowded())

    def test_too_many_nodes_hidden_in_a_loop(self) -> None:
        model = tiny.proto(turns=2)
        loop = next(node for node in model.graph.node if node.op_type == "Loop")
        loop.attribute[0].g.node.extend(helper.make_node("Identity", ["after"], [f"c{i}"]) for i in range(20_000))

        with pytest.raises(ModelError, match="more than 20000 nodes"):
            check(model.SerializeToString())

    def test_another_input(self) -> None:
        def spoil(model: Any) -> None:
            model.graph.input[0].name = "images"

        with pytest.raises(ModelError, match=r"inputs are \['images'\], expected \['frames'\]"):
            check(spoiled(spoil))

    def test_an_input_of_another_type(self) -> None:
        def spoil(model: Any) -> None:
            model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT

        with pytest.raises(ModelError, match="frames must be UINT8"):
            check(spoiled(spoil))

    def test_an_input_of_one_size_only(self) -> None:
        def spoil(model: Any) -> None:
            model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 480

        with pytest.raises(ModelError, match="first three free"):
            check(spoiled(spoil))

    def test_a_missing_output(self) -> None:
        with pytest.raises(ModelError, match=r"outputs are \['boxes', 'scores'\]"):
            check(spoiled(lambda model: model.graph.output.pop()))

    @pytest.mark.parametrize("count", [0, 301])
    def test_a_number_of_boxes_that_is_not_fixed_or_too_large(self, count: int) -> None:
        def spoil(model: Any) -> None:
            model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = count

        with pytest.raises(ModelError, match="expected a fixed number up to 300"):
            check(spoiled(spoil))

    @pytest.mark.parametrize("classes", ["", ",", "person,,car", "car,car", ",".join(map(str, range(257)))])
    def test_no_sound_list_of_classes(self, classes: str) -> None:
        with pytest.raises(ModelError, match=r"no list of classes under 'culling\.classes'"):
            check(spoiled(lambda model: helper.set_model_props(model, {"culling.classes": classes})))


class TestToFrame:
    def test_boxes_scale_by_height_and_width(self) -> None:
        found = Detections(np.array([[10, 20, 30, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))

        scaled = to_frame(found, (100, 200), (300, 400))

        assert scaled.boxes.tolist() == [[20, 60, 60, 120]]
        assert scaled.boxes.dtype == np.float32
        assert found.boxes[0, 0] == 10

    def test_nothing_stays_nothing(self) -> None:
        assert len(to_frame(Detections.empty(), (64, 64), (1080, 1920))) == 0
