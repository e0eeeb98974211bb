"""Every setting of the cloud service: TOML, then `CULLING_SECTION__KEY` variables, then flags.

[service]   where its state lives and where it listens    [round]       what a round keeps and trains on
[store]     index, quota and retention of frames          [resolution]  how far the input may shrink
[classes]   what cameras look for, in sets                [pace]        how many frames a camera forwards
[teacher]   who labels                                    [gate]        when a candidate may be published
[labelling] how many frames a day are labelled            [publish]     how long a manifest holds
[student]   what every camera starts with                 [metrics]     where the counters are served
[schedule]  when a round starts by itself                 [page]        where the live page is served
[executor]  where rounds run, and how many at once        [traces]      where the spans of forwarded frames go
[sites]     which edges people look after together        [access]      who may look at what, and act on it
[profile]   which frames each student looks at            [waves]       how a new student shows that it is not worse
"""

from culling.cloud.settings.access import ROLES, AccessSettings, Group, Role, Site, Sites
from culling.cloud.settings.classes import DEFAULT, ClassSet
from culling.cloud.settings.cloud import CloudSettings, load_settings, to_toml
from culling.cloud.settings.pace import PaceSettings
from culling.cloud.settings.profile import ProfileSettings
from culling.cloud.settings.rounds import CULLED, ExecutorSettings, GateSettings, RoundSettings, ScheduleSettings
from culling.cloud.settings.service import MetricsSettings, PageSettings, ServiceSettings
from culling.cloud.settings.store import StoreSettings, sqlite_url
from culling.cloud.settings.student import PublishSettings, ResolutionSettings, StudentSettings
from culling.cloud.settings.teacher import Colours, Fit, LabellingSettings, Layout, Pixels, TeacherPart, TeacherSettings
from culling.cloud.settings.waves import WavesSettings

__all__ = [
    "CULLED",
    "DEFAULT",
    "ROLES",
    "AccessSettings",
    "ClassSet",
    "CloudSettings",
    "Colours",
    "ExecutorSettings",
    "Fit",
    "GateSettings",
    "Group",
    "LabellingSettings",
    "Layout",
    "MetricsSettings",
    "PaceSettings",
    "PageSettings",
    "Pixels",
    "ProfileSettings",
    "PublishSettings",
    "ResolutionSettings",
    "Role",
    "RoundSettings",
    "ScheduleSettings",
    "ServiceSettings",
    "Site",
    "Sites",
    "StoreSettings",
    "StudentSettings",
    "TeacherPart",
    "TeacherSettings",
    "WavesSettings",
    "load_settings",
    "sqlite_url",
    "to_toml",
]
