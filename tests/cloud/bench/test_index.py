from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from culling.cloud.bench.index import fill_index, live_model
from culling.cloud.settings import sqlite_url
from culling.cloud.store.frames import frame_counts
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry

Bench = Callable[..., dict[str, Any]]


def test_everything_that_the_service_does_again_and_again_is_measured(bench: Bench) -> None:
    told = bench("index", "--cameras", "2", "--frames", "200", "--seconds", "0.2")
    names = [one["name"] for one in told["comparisons"]]
    assert names == ["beat", "scrape", "page request", "page's first event", "page event", "upkeep pass"]
    assert [one["what"] for one in told["stated"]] == ["beats answered, of 0.4"]


def test_an_edge_may_have_several_cameras(bench: Bench) -> None:
    told = bench("index", "--cameras", "4", "--each", "2", "--frames", "200", "--seconds", "0.2")
    assert [one["what"] for one in told["stated"]] == ["beats answered, of 0.4"]


def test_rows_are_dealt_out_to_all_cameras(tmp_path: Path) -> None:
    Index(sqlite_url(path := tmp_path / "index.sqlite")).close()
    fill_index(path, cameras=4, rows=1000, now=1.8e9)
    index = Index(sqlite_url(path))
    live = Registry(index).live_ids()
    counts = frame_counts(index)
    index.close()
    assert {name: count.stored for name, count in counts.items()} == {f"camera-{place}": 200 for place in range(4)}
    assert all(count.waiting and count.held_out for count in counts.values())
    with closing(sqlite3.connect(path)) as connection:
        rows = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("rounds", "models")]
        history = connection.execute("SELECT camera, count(*), max(minute) FROM history GROUP BY camera").fetchall()
    assert rows == [720, 720]
    assert history == [(f"camera-{place}", 1440, int(1.8e9 // 60) - 1) for place in range(4)]
    assert live == {camera: live_model(camera) for camera in counts}
