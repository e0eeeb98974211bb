from __future__ import annotations

import json
from pathlib import Path

import pytest

from culling.cloud.settings import CloudSettings
from culling.common.cli import main
from culling.common.config import Settings, settings_file
from culling.common.settings.keys import keys
from culling.edge.settings import EdgeSettings

SIDES: dict[str, type[Settings]] = {"edge": EdgeSettings, "cloud": CloudSettings}


@pytest.mark.parametrize("side", sorted(SIDES))
def test_every_key_is_listed_with_type_default_and_meaning(side: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", side]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for key in keys(SIDES[side]):
        told = " ".join(f"{key.dotted} {key.type};".replace("`", "").split())
        assert told in out
        assert " ".join(key.meaning.replace("`", "").split()) in out


def test_one_section_may_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "edge", "spool"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("[spool] frames that wait on disk")
    assert "  spool.max_bytes   integer, ≥ 1,048,576; default 2147483648 (2,048 MiB)\n      size of" in out
    assert "agent." not in out


def test_json_is_one_object_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "cloud", "gate", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in told] == [
        f"gate.{name}" for name in CloudSettings.model_fields["gate"].default.__dict__
    ]
    assert all(set(row) == {"key", "type", "default", "meaning"} for row in told)


def test_a_section_that_there_is_not_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "cloud", "rond"]) == 2
    assert "the cloud has no section rond; did you mean round?" in capsys.readouterr().err


class TestTheFileThatIsFound:
    def test_the_one_given_is_taken_and_nothing_is_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert settings_file(EdgeSettings, tmp_path / "x.toml") == tmp_path / "x.toml"
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("side", sorted(SIDES))
    def test_the_first_there_is_is_taken_and_named(
        self, side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        later = tmp_path / "etc.toml"
        later.touch()
        monkeypatch.setattr(SIDES[side], "searched", (Path(f"{side}.toml"), later))
        assert settings_file(SIDES[side], None) == later
        assert capsys.readouterr().err == f"settings: {later}\n"
        Path(f"{side}.toml").touch()
        assert settings_file(SIDES[side], None) == Path(f"{side}.toml")
        assert capsys.readouterr().err == f"settings: {tmp_path / side}.toml\n"

    @pytest.mark.parametrize("side", sorted(SIDES))
    def test_where_none_is_found_the_error_lists_all_that_was_searched(
        self, side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main([side, "status"]) == 2
        err = capsys.readouterr().err
        assert "no settings file is named with --config" in err
        assert all(str(path) in err for path in SIDES[side].searched)

    def test_variables_alone_will_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CULLING_SERVICE__DATA_DIR", str(tmp_path / "data"))
        assert main(["cloud", "status"]) == 0
        assert capsys.readouterr().err == ""

    def test_the_files_that_the_units_name_are_among_those_searched(self) -> None:
        units = Path(__file__).parents[3] / "deploy" / "systemd"
        for side, model in SIDES.items():
            text = (units / f"culling-{side}.service").read_text().replace("%S", "/var/lib")
            assert any(f"--config {path}\n" in text for path in model.searched)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["edge", "status", "--set", "agent.drain=4"], "did you mean agent.drain_s? `culling settings edge` lists all"),
        (["cloud", "status", "--set", "kept=4"], "did you mean round.kept? `culling settings cloud` lists all"),
        (
            ["cloud", "status", "--set", "page.zzz=4"],
            "port, proxies, root_path, streams, token_file; `culling settings cloud` lists all",
        ),
        (["cloud", "status", "--set", "page"], "`culling settings` lists the keys"),
    ],
)
def test_a_wrong_key_of_set_is_answered_with_the_nearest_and_the_command_that_lists_them(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert answer in capsys.readouterr().err
