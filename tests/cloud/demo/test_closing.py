from __future__ import annotations

from typing import Any

from rich.console import Console

from culling.cloud.demo.closing import failure, print_closing, verdict


def told(figures: dict[str, Any]) -> str:
    """Return what is printed in the end, on one line."""
    console = Console(record=True, width=140)
    print_closing(console, figures)
    return " ".join(console.export_text().split())


def test_the_closing_tells_what_left_and_what_each_round_came_to(figures: dict[str, Any]) -> None:
    text = told(figures)
    assert "900 frames seen, 27 forwarded (3.00%: 20 hard, 7 audit), 0 lost" in text
    assert "0.600 → 0.800" in text
    assert "0.800 → 0.750" in text, "a refused student is measured as well"
    assert "Against the label file: AP50 0.500 → 0.700" in text


def test_the_table_fits_into_eighty_columns(figures: dict[str, Any]) -> None:
    figures["rounds"][0] |= {"swap": "rolled-back", "train_s": 604.0, "model_lag_s": 1446.0, "swap_gap_ms": 1549.0}
    console = Console(record=True, width=80)
    print_closing(console, figures)
    text = console.export_text()
    for whole in ("rolled-back", "0.600 → 0.800", "0.90", "604 s", "1446 s", "1549 ms", "model lag", "swap gap"):
        assert whole in text


def test_the_table_has_the_measured_accuracy_with_its_interval_and_the_bill(figures: dict[str, Any]) -> None:
    text = told(figures)
    assert "AP50 in use, measured by audits: 0.62 (0.50 to 0.70)" in text
    assert "Cost: 9 TFLOP: edge 8 TFLOP, cloud 1 TFLOP; 1/12 of full training" in text
    figures["accuracy"] = {"ap50": None}
    assert "measured by audits: nothing seen" in told(figures)
    figures["accuracy"] = None
    assert "measured by audits: too few audits" in told(figures)


def test_a_better_student_is_told_in_one_sentence(figures: dict[str, Any]) -> None:
    assert verdict(figures) == (
        "1 of 2 rounds put a new student into use: on frames that the loop never saw, AP50 rose from 0.600 to 0.800, "
        "50% of what the first student lacked."
    )


def test_a_refusal_is_told_with_what_it_was_judged_by(figures: dict[str, Any]) -> None:
    figures["rounds"][1]["reason"] = "AP50 -0.050 (0.700 → 0.650, 9 judges in 3 blocks), which is not more than +0"
    text = told(figures)
    assert "Round 2 was refused: AP50 -0.050 (0.700 → 0.650, 9 judges in 3 blocks), which" in text
    assert "than +0; the student in use stays." in text
    assert "took the likelier of two students" in text


def test_a_round_refused_before_its_student_was_made_tells_its_reason(figures: dict[str, Any]) -> None:
    figures["rounds"][1] |= {"gate_before": None, "gate_after": None}
    assert "Round 2 was refused: too few frames." in told(figures)


def test_a_student_that_the_edge_put_back_is_no_success(figures: dict[str, Any]) -> None:
    figures["rounds"][0] |= {"swap": "rolled-back", "swap_reason": "slow"}
    assert "Round 1: the edge tried its student and went back to the old one: slow." in told(figures)
    figures["rounds"][0] |= {"swap": "rejected", "swap_reason": "golden"}
    assert "Round 1: the edge refused its student: golden." in told(figures)
    assert verdict(figures).startswith("0 of 2 rounds")


def test_no_improvement_is_a_finding_and_no_failure(figures: dict[str, Any]) -> None:
    figures["map_final"] = figures["map_base"]
    assert "AP50 hardly changed: 0.600 before, 0.600 after. The loop works" in verdict(figures)
    assert "AP50 fell: 0.700 before, 0.600 after" in verdict(figures | {"map_base": 0.7})
    for row in figures["rounds"]:
        row |= {"published": False, "outcome": "refused"}
    assert "stays in use with AP50 0.600. The loop works" in verdict(figures)
    assert failure(figures) is None


def test_without_rounds_or_without_a_teachers_word_there_is_no_verdict(figures: dict[str, Any]) -> None:
    assert "allow more with --minutes" in verdict(figures | {"rounds": []})
    assert verdict(figures | {"rounds": [], "held": True}) == (
        "Rounds were held, by schedule.hold or a person, and none started, so there is nothing to compare."
    )
    assert "only the label file" in verdict(figures | {"map_base": None, "map_final": None})


def test_a_failed_round_and_a_lost_frame_are_failures(figures: dict[str, Any]) -> None:
    assert failure(figures | {"frames_lost": 2}) == (
        "2 selected frames never reached the store; run again with --work DIR, and see DIR/edge.log"
    )
    figures["rounds"][1] |= {"outcome": "failed", "reason": "its process died 3 times"}
    assert (failure(figures) or "").startswith("round 2 failed: its process died 3 times; run again")
    assert "Round 2 failed: its process died 3 times." in told(figures)


def test_what_pace_and_cascade_came_to_stands_before_the_verdict(figures: dict[str, Any]) -> None:
    assert "Pace:" not in told(figures)
    assert "Cascade:" not in told(figures)
    figures["pace"] = {"orders": [{"after_s": 90.0, "from": 1.0, "to": 2.0, "why": "AP50 0.4 is"}], "students": []}
    figures["cascade"] = {
        "deadline_s": 5.0, "records": 9, "by_teacher": 2, "median_s": 1.0, "in_vain": {}, "not_asked": {}
    }  # fmt: skip
    text = told(figures)
    assert (
        text.index("Pace: after 1.5 minutes")
        < text.index("Cascade: 9 records, 2 of them")
        < text.index("1 of 2 rounds")
    )
