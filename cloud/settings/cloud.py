"""All settings of the cloud together, read from a file and written for a child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field, ValidationInfo, field_validator
from sqlalchemy import URL

from culling.cloud.settings.access import AccessSettings, Site, Sites, check_sites
from culling.cloud.settings.classes import DEFAULT, ClassSet, all_sets, check_sets, set_name
from culling.cloud.settings.pace import PaceSettings
from culling.cloud.settings.profile import ProfileSettings
from culling.cloud.settings.rounds import CULLED, ExecutorSettings, GateSettings, RoundSettings, ScheduleSettings
from culling.cloud.settings.service import MetricsSettings, PageSettings, ServiceSettings
from culling.cloud.settings.store import StoreSettings, sqlite_url
from culling.cloud.settings.student import PublishSettings, ResolutionSettings, StudentSettings
from culling.cloud.settings.teacher import LabellingSettings, TeacherSettings
from culling.cloud.settings.waves import WavesSettings
from culling.common.config import Settings, load
from culling.common.errors import SettingsError
from culling.common.traces.settings import TracesSettings


class CloudSettings(Settings):
    """All settings of one service; `load_settings` reads them."""

    side = "cloud"
    searched = (Path("cloud.toml"), Path("/etc/culling/cloud.toml"), Path("/var/lib/culling/cloud.toml"))

    service: ServiceSettings
    store: StoreSettings = StoreSettings()
    classes: dict[str, ClassSet] = Field(default={})
    teacher: TeacherSettings = TeacherSettings()
    labelling: LabellingSettings = LabellingSettings()
    student: StudentSettings = StudentSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    pace: PaceSettings = PaceSettings()
    profile: ProfileSettings = ProfileSettings()
    executor: ExecutorSettings = ExecutorSettings()
    round: RoundSettings = RoundSettings()
    resolution: ResolutionSettings = ResolutionSettings()
    gate: GateSettings = GateSettings()
    publish: PublishSettings = PublishSettings()
    waves: WavesSettings = WavesSettings()
    metrics: MetricsSettings = MetricsSettings()
    page: PageSettings = PageSettings()
    traces: TracesSettings = TracesSettings()
    access: AccessSettings = AccessSettings()
    sites: dict[str, Site] = Field(default={})

    @field_validator("classes")
    @classmethod
    def _apart(cls, classes: dict[str, ClassSet]) -> dict[str, ClassSet]:
        check_sets(classes)
        return classes

    @field_validator("sites")
    @classmethod
    def _disjoint(cls, sites: dict[str, Site]) -> dict[str, Site]:
        check_sites(sites)
        return sites

    @field_validator("round")
    @classmethod
    def _known(cls, round_: RoundSettings, info: ValidationInfo) -> RoundSettings:
        if "classes" not in info.data:
            return round_
        known = list(dict.fromkeys(name for one in all_sets(info.data["classes"]).values() for name in one.names))
        for name in round_.interest:
            if name not in known:
                raise ValueError(f"interest: {name} is a class of no set; there are {', '.join(known)}")
        return round_

    @field_validator("round")
    @classmethod
    def _culls(cls, round_: RoundSettings, info: ValidationInfo) -> RoundSettings:
        least = CULLED * round_.kept
        if "schedule" in info.data and (new := info.data["schedule"].min_new) < least:
            raise ValueError(
                f"kept is {round_.kept}, but schedule.min_new is {new}: a round would keep over one in {CULLED} of "
                f"those it waited for; lower round.kept to {new // CULLED}, or raise schedule.min_new to {least}"
            )
        return round_

    @field_validator("round")
    @classmethod
    def _in_8_bits(cls, round_: RoundSettings, info: ValidationInfo) -> RoundSettings:
        if round_.int8_steps and "student" in info.data and not info.data["student"].int8:
            raise ValueError(
                f"int8_steps is {round_.int8_steps}, but students are shipped in floats: set student.int8 as well"
            )
        return round_

    @field_validator("round")
    @classmethod
    def _kept_to_distil(cls, round_: RoundSettings, info: ValidationInfo) -> RoundSettings:
        if round_.distil and "store" in info.data and not info.data["store"].features_bytes:
            raise ValueError(
                "distil is on, but store.features_bytes is 0: no feature of a teacher would be kept to learn from; set "
                "that to some GB, about 2 MB a frame"
            )
        return round_

    @field_validator("gate")
    @classmethod
    def _judged(cls, gate: GateSettings, info: ValidationInfo) -> GateSettings:
        most = info.data["round"].held_out if "round" in info.data else gate.least
        if gate.least > most:
            raise ValueError(f"least is {gate.least}, but round.held_out is {most}: no round could be judged")
        return gate

    @property
    def class_sets(self) -> dict[str, ClassSet]:
        """Every set of classes by name, that of all other cameras among them."""
        return all_sets(self.classes)

    def set_of(self, camera: str, asked: str | None = None) -> tuple[str, ClassSet]:
        """Return a camera's set and its name; `asked` is the one that an operator wanted.

        Raises SettingsError where patterns of two sets hold the camera.
        """
        name = set_name(self.classes, camera, asked)
        return name, self.class_sets[name]

    def set_like(self, names: tuple[str, ...]) -> ClassSet:
        """Return the set that has those classes; one of them alone where the settings have none any more."""
        return next((one for one in self.class_sets.values() if one.names == names), ClassSet(names=names))

    @property
    def grouping(self) -> Sites:
        """Which edges are of which site."""
        return Sites(self.sites)

    @property
    def default_classes(self) -> tuple[str, ...]:
        """The classes of every camera that no set holds."""
        return self.class_sets[DEFAULT].names

    @property
    def data_dir(self) -> Path:
        """The folder that holds everything the service keeps."""
        return self.service.data_dir

    @property
    def shared(self) -> bool:
        """Whether index and bytes lie where services on other machines work on them too."""
        return self.store.objects is not None and not self.store.embedded

    @property
    def store_url(self) -> str | URL:
        """The SQLAlchemy URL of the index."""
        return self.store.url or sqlite_url(self.data_dir / "index.sqlite")


def load_settings(path: Path | None, overrides: dict[str, Any]) -> CloudSettings:
    """Read the settings at `path`; `overrides` maps dotted keys, e.g. `service.endpoint`, to values from flags.

    Makes the data folder, for its owner alone. Raises `SettingsError` naming the key.
    """
    settings = load(CloudSettings, path, overrides)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"service.data_dir: cannot make {settings.data_dir}: {error.strerror}") from None
    return settings


def to_toml(settings: CloudSettings) -> bytes:
    """Return the settings as a file that `load_settings` reads back, for a child process; it may hold a password.

    It has none of the service's own keys: no child needs them.
    """
    keys = {"service": {"curve_key", "signing_key"}}
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True, by_alias=True, exclude=keys)).encode()
