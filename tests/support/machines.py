"""How fast machines are at what a demo does, as it measures them."""

from __future__ import annotations

from dataclasses import replace

from culling.cloud.demo.plan import Speed

QUIET = Speed((768, 576), 2, 2, student_s=0.32, teacher_s=0.28, step_s=1.2, export_s=4.0)
"""Two quiet cores on the bundled clip (`tests/bench/README.md`)."""

GPU = Speed((1920, 1080), 16, 16, student_s=0.004, teacher_s=0.02, step_s=0.06, export_s=3.0)


def slower(speed: Speed, times: float) -> Speed:
    """Return a machine that takes so many times longer for everything."""
    seconds = ("student_s", "teacher_s", "step_s", "export_s")
    return replace(speed, **{name: times * getattr(speed, name) for name in seconds})
