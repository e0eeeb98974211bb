from __future__ import annotations

from culling.cloud.round.cull import cull
from culling.cloud.round.label import label
from support.cloud import CloudState
from support.rounds import context_of, start


def test_no_frame_is_trained_on_twice_after_a_round_that_failed(cloud: CloudState) -> None:
    failed = cloud.rounds.get(start(cloud))
    cull(context_of(cloud), failed, {"label": label(context_of(cloud), failed, {})})
    cloud.rounds.end(failed.id, "failed", {}, "the teacher is missing", 1.0)
    turn = cloud.rounds.get(start(cloud))
    result = cull(context_of(cloud), turn, {"label": label(context_of(cloud), turn, {})})
    assert result["kept"]
    assert not set(result["kept"]) & set(result["replay"])
