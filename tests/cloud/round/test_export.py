from __future__ import annotations

import msgspec
import onnx
import pytest

from culling.cloud.round.context import Context
from culling.cloud.store.registry import Artefact
from culling.common.graph import open_graph, see
from culling.common.scaler import input_size
from culling.common.wire.codec import decode_jpeg
from culling.common.wire.messages import from_wire
from culling.edge.model.student import agree
from support.cloud import CloudState
from support.rounds import run, start


def test_a_student_in_8_bits_is_what_the_gate_judges_and_its_golden_frame_shows(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = cloud.settings.student.model_copy(update={"int8": True})
    cloud.settings = cloud.settings.model_copy(update={"student": student})
    judged: list[str] = []
    graph_of = Context.graph
    monkeypatch.setattr(Context, "graph", lambda self, sha256: judged.append(sha256) or graph_of(self, sha256))  # type: ignore[func-returns-value]

    round_id = start(cloud)
    assert run(cloud, round_id) == "ready"

    artefact = msgspec.convert(cloud.rounds.get(round_id).stages["export"]["artefact"], Artefact)
    data = cloud.files.read(artefact.sha256)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load_model_from_string(data).graph.node}
    assert judged[-1] == artefact.sha256
    graph, (golden,) = open_graph(data, provider="cpu", threads=1), artefact.golden
    image = decode_jpeg(golden.jpeg)
    found = see(graph, image, input_size(image.shape[1], image.shape[0], artefact.scale, artefact.long_side))
    assert agree(found, from_wire(golden.detections, len(artefact.classes)))
