"""`[view]`: whether and where the live picture is served, and what may be done there."""

from __future__ import annotations

from pydantic import Field, model_validator

from culling.common.address import Host, is_loopback
from culling.common.config import Section


class ViewSettings(Section):
    """`[view]`: a page with the live picture of each camera, its boxes and its regions; off by default.

    Frames are encoded only while somebody looks. Whoever looks needs the token in `view.token` of the state folder.
    """

    enabled: bool = Field(False, description="serve the live picture of every camera on a page")
    through_cloud: bool = Field(
        False,
        description="let the cloud's page show the cameras live, too: a picture a second at most, and only while "
        "somebody looks; it needs no `enabled`",
    )
    host: Host = Field("127.0.0.1", description="address on which the view is served")
    port: int = Field(9467, ge=0, le=65535, description="port of the view; 0 takes a free one")
    names: tuple[Host, ...] = Field(
        (),
        description="further host names or addresses by which browsers may ask for the view, e.g. that of a proxy; "
        "without a port",
    )
    token: bool = Field(
        True,
        description="whoever looks needs the token in `view.token` of the state folder; false only where `host` is "
        "this machine's own",
    )
    actions: bool = Field(
        False, description="let whoever holds the token write regions to the settings file, and the agent take them"
    )
    max_fps: float = Field(10.0, gt=0, le=10, description="most pictures a second that are encoded of a camera")
    long_side: int = Field(
        960, ge=160, le=3840, description="pixels of the long side of the pictures; smaller ones are not enlarged"
    )
    jpeg_quality: int = Field(75, ge=1, le=100, description="quality of the pictures")
    viewers: int = Field(4, ge=1, le=64, description="browsers that may look at a time")

    @model_validator(mode="after")
    def _guarded(self) -> ViewSettings:
        if not self.token and not is_loopback(self.host):
            raise ValueError(
                f"token = false is only for this machine's own address, and {self.host} can be reached from elsewhere: "
                "keep the token, or set host to 127.0.0.1"
            )
        return self
