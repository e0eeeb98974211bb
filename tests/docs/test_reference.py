"""The reference is written from the code: nothing is left out of it, and nothing in it is made up."""

from __future__ import annotations

import culling_reference as reference
import pytest

from culling.common import errors
from culling.common.metrics import SERIES
from culling.common.wire import messages


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_every_setting_is_listed_with_its_meaning(side: str) -> None:
    page = reference.render(f"settings {side}")
    for key in reference.setting_keys(side).values():
        own = page.partition(f"[{key.section}]")[2].partition("\n## ")[0]
        [row] = [line for line in own.splitlines() if line.startswith(f"| `{key.name}` |")]
        assert key.meaning.replace("|", "\\|") in row


def test_types_and_defaults_read_as_a_person_writes_them() -> None:
    page = reference.render("settings cloud")
    assert "| `endpoint` | text | `tcp://127.0.0.1:5577` |" in page
    assert "| `window` | integer, ≥ 1, ≤ 4,096 | `32` |" in page
    assert "| `reserve_bytes` | integer, ≥ 0 | `536870912` (512 MiB) |" in page
    assert "| `weights` | `bundled` or path | `bundled` |" in page
    assert "| `data_dir` | path | **required** |" in page


def test_every_command_has_its_usage_and_options() -> None:
    page = reference.render("commands")
    for words in (
        "culling",
        "culling edge run",
        "culling cloud pin",
        "culling bench memory edge",
        "culling print-config",
    ):
        assert f"\n## `{words}`\n" in f"\n{page}"
    publish = page.partition("## `culling cloud publish`")[2].partition("\n## ")[0]
    assert "Usage: culling cloud publish" in publish
    assert "| `--scale" in publish
    assert "```sh\nculling cloud publish north-door student.onnx --scale 0.8\n```" in publish


def test_every_series_is_listed() -> None:
    page = reference.render("metrics")
    assert all(f"| `{series.exported}` |" in page for series in SERIES)


def test_every_message_is_listed_with_its_fields() -> None:
    page = reference.render("messages")
    for kind in (*messages.FromEdge.__args__, *messages.FromCloud.__args__):
        own = page.partition(f"### `{kind.__name__}`\n")[2].partition("\n### ")[0]
        assert all(f"| `{name}` |" in own for name in kind.__struct_fields__), kind


def test_every_error_stands_beside_its_exit_code() -> None:
    page = reference.render("exit-codes")
    assert "| `4` | camera or video cannot be read | `CameraError` |" in page
    raised = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.CullingError)]
    assert all(f"`{error.__name__}`" in page for error in raised)


def test_a_log_event_is_listed_with_its_fields_and_where_it_is_logged() -> None:
    [line] = [line for line in reference.render("log-events").splitlines() if line.startswith("| `agent_started` |")]
    assert line == "| `agent_started` | info | `boot`, `cameras` | `edge/agent.py` |"


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert reference.table(("a",), [("`x | y`",)]).splitlines()[-1] == "| `x \\| y` |"
