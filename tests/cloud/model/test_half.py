from __future__ import annotations

import pytest
import torch

from culling.cloud.model.half import half_precision


@pytest.mark.parametrize(("capability", "halved"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_computes_in_bfloat16_only_where_it_multiplies_it_itself(
    capability: tuple[int, int], halved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    monkeypatch.setattr("torch.autocast", lambda kind, dtype: (kind, dtype))

    found = half_precision(torch.device("cuda"))

    assert (found == ("cuda", torch.bfloat16)) is halved
