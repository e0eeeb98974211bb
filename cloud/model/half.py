"""Half precision where a machine is faster with it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""CPU flags of native bfloat16; without it, a CPU is far slower in bfloat16 than in float32."""

BFLOAT16_CAPABILITY = (8, 0)
"""GPUs from Ampere on multiply bfloat16 themselves; older ones, such as a T4, are slower with it than without."""


def half_precision(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bfloat16 where that is faster: on a GPU, and on a CPU with native bfloat16 (about twice as fast)."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    else:
        native = any(torch.cpu.get_capabilities().get(name) for name in NATIVE_BFLOAT16)
    return torch.autocast(device.type, dtype=torch.bfloat16) if native else nullcontext()
