from __future__ import annotations

import contextlib
import string
import tomllib
from codecs import BOM_UTF8
from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr, field_validator, model_validator

from culling.cloud.settings import CloudSettings
from culling.common.config import MAX_BYTES, SECTIONS, FileOrUrl, Section, Settings, load, parse_overrides, print_config
from culling.common.errors import SettingsError
from culling.edge.settings import EdgeSettings


class Agent(Section):
    state_dir: Path
    threads: int = Field(default=0, ge=0)
    allow_cpu: bool = False
    note: str | None = None
    weights: Literal["bundled"] | Path = "bundled"
    least: int = 0

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.least > 3:
            raise ValueError("too many of the least")
        return self


class Link(Section):
    endpoint: str = "tcp://127.0.0.1:5577"
    secret_key: SecretStr = SecretStr("")

    @field_validator("secret_key")
    @classmethod
    def _long(cls, key: SecretStr) -> SecretStr:
        if 0 < len(key.get_secret_value()) < 8:
            raise ValueError("expected at least 8 characters")
        return key


class Camera(Section):
    name: str
    url: Annotated[str, FileOrUrl()] = "file.mp4"
    pace: Literal["real", "max"] = "real"
    mask: Path | None = None


class Example(Settings):
    agent: Agent
    cloud: Link = Link()
    camera: tuple[Camera, ...] = ()


class Crowded(Example):
    camera: tuple[Camera, ...] = Field(min_length=1)


MINIMAL = '[agent]\nstate_dir = "/var/lib/culling"\n'


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(MINIMAL)
    return path


def refused(toml: Path | None, text: str | None = None, overrides: dict[str, object] | None = None) -> str:
    """The one line that `load` refuses with."""
    if toml is not None and text is not None:
        toml.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(Example, toml, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestOrder:
    def test_what_no_source_names_keeps_its_default(self, toml: Path) -> None:
        settings = load(Example, toml)
        assert settings.agent.state_dir == Path("/var/lib/culling")
        assert settings.agent.threads == 0
        assert settings.camera == ()

    def test_a_byte_order_mark_before_the_file_is_no_error(self, toml: Path) -> None:
        toml.write_bytes(BOM_UTF8 + MINIMAL.encode())
        assert load(Example, toml).agent.state_dir == Path("/var/lib/culling")

    def test_a_variable_overrides_the_file_and_leaves_its_neighbours(
        self, toml: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        toml.write_text(MINIMAL + "threads = 2\nallow_cpu = true\n")
        monkeypatch.setenv("CULLING_AGENT__THREADS", "3")
        settings = load(Example, toml)
        assert settings.agent.threads == 3
        assert settings.agent.allow_cpu

    def test_a_flag_overrides_the_variable(self, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CULLING_AGENT__THREADS", "3")
        assert load(Example, toml, {"agent.threads": 4}).agent.threads == 4

    def test_a_flag_that_was_not_given_overrides_nothing(self, toml: Path) -> None:
        toml.write_text(MINIMAL + "threads = 2\n")
        assert load(Example, toml, {"agent.threads": None}).agent.threads == 2

    def test_a_flag_may_set_a_whole_section(self, toml: Path) -> None:
        agent = load(Example, toml, {"agent": {"threads": 4}}).agent
        assert agent == Agent(state_dir=Path("/var/lib/culling"), threads=4)

    def test_variables_alone_suffice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CULLING_AGENT__STATE_DIR", "/tmp/x")
        monkeypatch.setenv("CULLING_CAMERA", '[{"name": "gate"}, {"name": "yard", "pace": "max"}]')
        settings = load(Example, None)
        assert [(camera.name, camera.pace) for camera in settings.camera] == [("gate", "real"), ("yard", "max")]

    def test_settings_made_by_hand_read_no_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CULLING_AGENT__THREADS", "3")
        assert Example(agent=Agent(state_dir=Path("x"))).agent.threads == 0


class TestPaths:
    def test_one_in_a_file_starts_at_the_files_folder(self, toml: Path) -> None:
        toml.write_text('[agent]\nstate_dir = "state"\n')
        assert load(Example, toml).agent.state_dir == toml.parent / "state"

    def test_one_in_a_flag_or_variable_starts_where_the_command_runs(
        self, toml: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        toml.write_text(MINIMAL)
        assert load(Example, toml, {"agent.state_dir": "state"}).agent.state_dir == here / "state"
        assert load(Example, toml, {"agent": {"state_dir": Path("state")}}).agent.state_dir == here / "state"
        monkeypatch.setenv("CULLING_AGENT__STATE_DIR", "variable")
        assert load(Example, toml).agent.state_dir == here / "variable"

    def test_what_may_be_a_word_instead_stays_that_word(self, toml: Path) -> None:
        toml.write_text(MINIMAL + 'weights = "bundled"\n')
        assert load(Example, toml).agent.weights == "bundled"
        toml.write_text(MINIMAL + 'weights = "mine.safetensors"\n')
        assert load(Example, toml).agent.weights == toml.parent / "mine.safetensors"

    def test_those_of_a_list_of_sections_are_found_too(self, toml: Path) -> None:
        toml.write_text(MINIMAL + '[[camera]]\nname = "gate"\nmask = "gate.png"\n')
        assert load(Example, toml).camera[0].mask == toml.parent / "gate.png"

    @pytest.mark.parametrize("url", ["clips/gate.mp4", "10:30.mp4"])
    def test_a_file_where_a_url_may_stand_starts_there_too(self, toml: Path, url: str) -> None:
        toml.write_text(MINIMAL + f'[[camera]]\nname = "gate"\nurl = "{url}"\n')
        assert load(Example, toml).camera[0].url == str(toml.parent / url)

    @pytest.mark.parametrize("url", ["rtsp://cam/1", "/dev/video0", ""])
    def test_a_url_stays_what_it_is(self, toml: Path, url: str) -> None:
        toml.write_text(MINIMAL + f'[[camera]]\nname = "gate"\nurl = "{url}"\n')
        assert load(Example, toml).camera[0].url == url


class TestOverrides:
    def test_a_pair_keeps_what_stands_behind_its_first_equals_sign(self) -> None:
        assert parse_overrides(["agent.note=a=b", "agent.threads=2"]) == {"agent.note": "a=b", "agent.threads": "2"}
        assert parse_overrides(None) == {}

    def test_lists_and_sections_are_json(self, toml: Path) -> None:
        overrides = parse_overrides(['camera=[{"name": "gate"}, {"name": "yard"}]', 'cloud={"endpoint": "tcp://c:1"}'])
        settings = load(Example, toml, overrides)
        assert [camera.name for camera in settings.camera] == ["gate", "yard"]
        assert settings.cloud.endpoint == "tcp://c:1"

    def test_what_only_begins_like_json_is_text(self, toml: Path) -> None:
        overrides = parse_overrides(["cloud.secret_key=[not{json", "agent.note={"])
        assert load(Example, toml, overrides).cloud.secret_key.get_secret_value() == "[not{json"

    @pytest.mark.parametrize("pair", ["agent.note", "=5", ""])
    def test_what_is_no_pair_is_refused(self, pair: str) -> None:
        with pytest.raises(SettingsError, match="KEY=VALUE"):
            parse_overrides([pair])

    def test_a_list_that_is_no_json_says_so(self, toml: Path) -> None:
        assert refused(toml, overrides=parse_overrides(["camera=gate,yard"])).endswith("; lists are given as JSON")

    @given(st.text())
    def test_no_text_raises_anything_but_a_settings_error(self, text: str) -> None:
        with contextlib.suppress(SettingsError):
            parse_overrides([text, f"key={text}", f"key=[{text}"])


class TestRefusals:
    def test_a_misspelt_key_is_named_with_the_likely_one(self, toml: Path) -> None:
        line = refused(toml, MINIMAL + "thraeds = 2\n")
        assert line == f"{toml}: agent.thraeds is not a setting; did you mean agent.threads?"

    def test_a_misspelt_section_is_named(self, toml: Path) -> None:
        assert refused(toml, MINIMAL + "[clod]\n").endswith("clod is not a setting; did you mean cloud?")

    def test_a_key_like_no_other_lists_what_is_known(self, toml: Path) -> None:
        line = refused(toml, MINIMAL + '[[camera]]\nname = "a"\nzzz = 1\n')
        assert line.endswith("camera.0.zzz is not a setting; known here: mask, name, pace, url")

    def test_a_missing_key_says_where_to_set_it(self, toml: Path) -> None:
        line = refused(toml, "[agent]\n")
        assert line == f"{toml}: agent.state_dir is missing; set it there or as CULLING_AGENT__STATE_DIR"

    def test_a_wrong_type_names_the_key_and_what_was_expected(self, toml: Path) -> None:
        line = refused(toml, MINIMAL + 'threads = "many"\n')
        assert line.startswith(f"{toml}: agent.threads: ")
        assert "integer" in line

    def test_a_wrong_choice_lists_the_choices(self, toml: Path) -> None:
        line = refused(toml, MINIMAL + '[[camera]]\nname = "a"\npace = "fast"\n')
        assert "camera.0.pace" in line
        assert "'real' or 'max'" in line

    def test_every_fault_is_told_at_once(self, toml: Path) -> None:
        line = refused(toml, "[agent]\nthreads = -1\nfoo = 1\n")
        assert all(key in line for key in ("agent.state_dir", "agent.threads", "agent.foo"))

    def test_the_variable_at_fault_is_named(self, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CULLING_AGENT__THREADS", "many")
        assert refused(toml).startswith("CULLING_AGENT__THREADS: agent.threads: ")

    def test_a_misspelt_variable_of_a_section_is_refused(self, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CULLING_AGENT__THRAEDS", "2")
        assert refused(toml).lower().count("thraeds") >= 1

    def test_a_variable_of_a_section_that_nobody_has_is_refused(
        self, toml: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CULLING_AGNET__THREADS", "2")
        assert refused(toml) == "CULLING_AGNET__THREADS: there is no section agnet; did you mean agent?"

    def test_the_other_sides_variables_and_those_of_others_are_left_alone(
        self, toml: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CULLING_ROUND__KEPT", "64")
        monkeypatch.setenv("CULLING_SERVICE_HOST", "10.0.0.1")  # what Kubernetes sets for a service of this name
        assert load(Example, toml).agent.threads == 0

    def test_a_list_is_not_called_too_short_for_what_is_wrong_in_it(self, toml: Path) -> None:
        with pytest.raises(SettingsError, match=r"camera\.0\.name is missing; [^;]*$"):
            load(Crowded, toml, {"camera": [{"url": "x"}]})

    def test_without_a_file_a_missing_section_is_told_by_its_first_key(self) -> None:
        wrong = refused(None)
        assert wrong == (
            "no settings file is named with --config; agent.state_dir is missing; name a file, or set it as "
            "CULLING_AGENT__STATE_DIR"
        )

    def test_the_flag_at_fault_is_told_from_the_file(self, toml: Path) -> None:
        assert refused(toml, overrides={"agent.threads": -1}).startswith("command line: agent.threads: ")

    def test_what_is_wrong_with_a_section_is_told_of_who_set_it_last(
        self, toml: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert refused(toml, overrides={"nonsense.x": 1}).startswith("command line: nonsense is not a setting")
        both = {"agent.threads": 2, "agent.least": 4}
        assert refused(toml, overrides={"agent.least": 4}).startswith("command line: agent: ")
        monkeypatch.setenv("CULLING_AGENT__LEAST", "4")
        assert refused(toml).startswith("CULLING_AGENT__LEAST: agent: ")
        assert refused(toml, overrides=both).startswith("command line: agent: ")

    def test_a_list_in_a_variable_that_is_no_json_is_refused(self, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CULLING_CAMERA", "gate,yard")
        line = refused(toml)
        assert "camera" in line
        assert "JSON" in line

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "none.toml"
        assert refused(path) == f"{path}: cannot read the settings: No such file or directory"

    def test_a_folder_is_no_settings_file(self, tmp_path: Path) -> None:
        assert "Is a directory" in refused(tmp_path)

    @pytest.mark.parametrize("text", ["[agent", "a = 1\na = 2", "a = " + "9" * 5000, "a = " + "[" * 5000])
    def test_text_that_is_no_toml_is_refused(self, toml: Path, text: str) -> None:
        assert refused(toml, text).startswith(f"{toml}: not valid TOML: ")

    def test_bytes_that_are_no_text_are_refused(self, toml: Path) -> None:
        toml.write_bytes(b"\xff\xfe\x00")
        assert "not valid TOML" in refused(toml)

    def test_an_endless_file_is_refused_unparsed(self, toml: Path) -> None:
        assert str(MAX_BYTES) in refused(toml, "#" * (MAX_BYTES + 1))

    @given(text=st.text(alphabet=string.printable, max_size=200))
    def test_no_text_raises_anything_but_a_settings_error(
        self, text: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "any.toml"
        path.write_text(text)
        with pytest.raises(SettingsError):  # `agent.state_dir` is missing at the least
            load(Example, path)


class TestSecrets:
    def test_a_refused_secret_is_not_repeated(self, toml: Path) -> None:
        line = refused(toml, MINIMAL + '[cloud]\nsecret_key = "hunter2"\n')
        assert "cloud.secret_key" in line
        assert "hunter2" not in line

    def test_a_secret_of_the_wrong_type_is_not_repeated(self, toml: Path) -> None:
        assert "424242" not in refused(toml, MINIMAL + "[cloud]\nsecret_key = 424242\n")

    def test_printed_settings_hide_secrets_and_passwords(self, toml: Path) -> None:
        toml.write_text(
            MINIMAL
            + '[cloud]\nsecret_key = "correct horse"\n[[camera]]\nname = "gate"\nurl = "rtsp://me:hunter2@cam/1"\n'
        )
        text = print_config(load(Example, toml))
        assert "horse" not in text
        assert "hunter2" not in text
        assert tomllib.loads(text)["cloud"]["secret_key"] == "**********"
        assert tomllib.loads(text)["camera"][0]["url"] == "rtsp://***@cam/1"


def test_printed_settings_name_every_key_and_load_again(toml: Path) -> None:
    settings = load(Example, toml, {"agent.threads": 2})
    toml.write_text(print_config(settings))
    assert set(tomllib.loads(toml.read_text())) == {"agent", "cloud", "camera"}
    assert load(Example, toml) == settings


def test_a_value_that_is_unset_is_left_out_of_the_print(toml: Path) -> None:
    assert "note" not in print_config(load(Example, toml))


def test_settings_cannot_be_changed_afterwards(toml: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Example, toml).agent.threads = 5  # type: ignore[misc]


def test_the_sections_of_both_sides_are_known() -> None:
    assert {"edge": set(EdgeSettings.model_fields), "cloud": set(CloudSettings.model_fields)} == SECTIONS
