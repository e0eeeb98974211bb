"""The trial of a cluster: what it takes for lost or done twice, and what it writes. It takes minutes: not run here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tomli_w

from support.deployed import unknown_words
from support.images import ROOT
from support.scripts import loaded
from support.waiting import wait_until


@pytest.fixture(scope="module")
def trial() -> ModuleType:
    return loaded(ROOT / "tests" / "bench" / "try_cluster.py")


def test_a_frame_is_lost_that_was_acknowledged_and_has_no_row(trial: ModuleType) -> None:
    stored = [("witness", "boot-1", 1), ("witness", "boot-1", 3), ("north", "boot-9", 2)]
    assert trial.lost({1, 2, 3}, stored) == [2], "that of another camera does not count"
    assert trial.lost({1, 3}, stored) == []
    assert trial.lost(set(), stored) == [], "stored and not acknowledged yet is no loss"


def test_what_there_is_twice_is_found(trial: ModuleType) -> None:
    assert trial.twice([("north", 1), ("north", 2), ("north", 1)]) == [("north", 1)]
    assert trial.twice([]) == []


def test_it_passes_only_where_nothing_was_broken_and_every_camera_had_a_round(trial: ModuleType) -> None:
    good = trial.Seen(
        acked={1}, stored=[("witness", "b", 1)], published=[("north", 1)], ended=[("north", "published", 9.0)]
    )
    assert not trial.passed(good), "south had none"
    good.ended.append(("south", "refused", 9.0))
    assert trial.passed(good)
    for broken in (
        {"acked": {1, 2}},
        {"stored": [("witness", "b", 1)] * 2},
        {"published": [("north", 1)] * 2},
        {"unseen": ["a"]},
    ):
        assert not trial.passed(trial.Seen(**{**vars(good), **broken})), broken


def test_its_table_says_each_figure_once(trial: ModuleType) -> None:
    seen = trial.Seen(acked={1, 2}, stored=[("witness", "b", 1)], ended=[("north", "published", 61.2)])
    seen.gaps["an elected control, control killed"] = 1.26
    seen.kills["Ray head"] = 2
    lines = dict(line.split("  ", 1) for line in trial.report(seen).splitlines())
    told = {name.strip(): value.strip() for name, value in lines.items()}
    assert told["of those lost"] == "1"
    assert told["frames stored twice"] == "0"
    assert told["most seconds without an elected control, control killed"] == "1.3"
    assert told["killed: Ray head"] == "2"
    assert told["round of north"] == "published, 61 s"


@pytest.mark.parametrize("ray", [False, True])
def test_parts_of_every_kind_are_killed_in_turn(trial: ModuleType, tmp_path: Path, ray: bool) -> None:
    made = trial.Trial(tmp_path, ray)
    kinds = list(made._ways())
    assert kinds[:6] == ["ingest", "elected control", "standby control", "page", "PostgreSQL", "object store"]
    assert kinds[6:] == (["Ray worker", "Ray head"] if ray else [])
    killed: list[str] = []
    made._ways = lambda: {kind: lambda kind=kind: killed.append(kind) for kind in kinds}
    made.kills(len(kinds) + 2)
    assert killed == [*kinds, *kinds[:2]]
    assert made.seen.kills["ingest"] == 2


@pytest.mark.parametrize("role", ["ingest", "control", "page"])
@pytest.mark.parametrize("ray", [False, True])
def test_each_process_has_ports_and_a_folder_of_its_own_and_no_key_that_it_does_not_need(
    trial: ModuleType, role: str, ray: bool, tmp_path: Path
) -> None:
    written = [
        trial.settings_of(role, tmp_path / name, tmp_path / "keys", "postgresql+psycopg://a@b/c", "s3://culling/x", ray)
        for name in ("one", "two")
    ]
    ports = [one[section]["port"] for one in written for section in ("metrics", "page")]
    assert len(set(ports)) == 4
    assert written[0]["service"]["data_dir"] != written[1]["service"]["data_dir"]
    keys = {name for name in written[0]["service"] if name.endswith("_key_file")}
    assert (
        keys
        == {
            "ingest": {"curve_key_file"},
            "control": {"curve_key_file", "signing_key_file"},
            "page": set(),
        }[role]
    )
    assert ("executor" in written[0]) == ray
    assert tomli_w.dumps(written[0])


def test_a_kill_ends_what_a_process_started_too(trial: ModuleType, tmp_path: Path) -> None:
    written = tmp_path / "sleeper.py"
    written.write_text(
        "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\nprint(child.pid, flush=True)\nchild.wait()\n"
    )
    process = trial.Process("parent", ["sleeper"], tmp_path, {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"})
    log = tmp_path / "parent.log"
    wait_until(lambda: log.read_text().endswith("\n"))

    process.kill()

    child = Path("/proc") / log.read_text().strip() / "status"
    wait_until(lambda: not child.exists() or "(zombie)" in child.read_text())


def test_the_script_starts_it_and_its_commands_are_there() -> None:
    script = ROOT / "deploy" / "try-cluster.sh"
    done = subprocess.run(
        [script, "--help"], env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "PYTHONPATH": pythonpath()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--no-ray" in done.stdout
    for words in (["cloud", "migrate"], ["cloud", "keys"], ["cloud", "serve", "--role"], ["edge", "run", "--config"]):
        assert unknown_words(words) == []


def pythonpath() -> str:
    return ":".join(path for path in sys.path if path)
