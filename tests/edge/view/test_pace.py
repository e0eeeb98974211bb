from __future__ import annotations

from culling.common.process.keeping_up import keeping_up, look
from culling.edge.view.pace import LEAST_S, SPAN_S, Pace


def test_frames_beyond_max_fps_do_not_count_against_the_student_as_in_edge_status() -> None:
    pace = Pace()
    pace.rates("gate", 10, {"rate": 1000, "newer": 5}, 100.0)
    told = pace.rates("gate", 17, {"rate": 1105, "newer": 36, "unchanged": 2}, 105.0)
    found = keeping_up(look(0, 10, {"newer": 5}), look(5, 17, {"newer": 36, "unchanged": 2}))
    assert found is not None
    assert told == found.rates == "1.8 of 8 frames/s"


def test_only_the_last_seconds_count() -> None:
    pace = Pace()
    for second in range(40):
        told = pace.rates("gate", second if second < 20 else 20 + 3 * (second - 20), {}, float(second))
    assert SPAN_S < 20
    assert told == "3 of 3 frames/s"


def test_nothing_is_told_before_there_is_enough_to_tell_or_where_no_frame_came() -> None:
    pace = Pace()
    assert pace.rates("gate", 5, {}, 0.0) == ""
    assert pace.rates("gate", 6, {}, LEAST_S / 2) == ""
    assert pace.rates("yard", 5, {}, 0.0) == pace.rates("yard", 5, {}, 5.0) == ""
