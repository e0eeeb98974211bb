"""A model from a stick: the real command, with and without a real agent, and no line to any cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.common.cli import main
from culling.edge.model.inbox import lies
from culling.edge.model.shelf import peek
from support import tiny
from support.site import CAMERA, Site, free_port, moving_clip
from support.waiting import wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.settings["agent"] |= {"drain_s": 1.0}
    site.settings["metrics"]["port"] = free_port()
    moving_clip(tmp_path / "clip.mp4")
    site.settings["camera"][0] |= {"pace": "max", "max_fps": 50.0, "loop": True}
    site.install_student()
    yield site
    site.close()


def stick(site: Site, shipped: tiny.Shipped) -> Path:
    folder = site.folder / "stick"
    folder.mkdir(exist_ok=True)
    (folder / "new.onnx").write_bytes(shipped.model)
    (folder / "new.manifest").write_bytes(shipped.signed)
    return folder / "new.manifest"


def install(site: Site, manifest: Path, *more: str) -> int:
    return main(["edge", "install", str(manifest), *more, "--config", str(site.write())])


def live(site: Site) -> str | None:
    return peek(site.folder / "state" / "models" / CAMERA).live


def test_a_running_agent_swaps_it_and_says_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = stick(site, site.ship(tiny.student(tag="new"), counter=2))
    site.start()
    wait_until(lambda: "agent_started" in site.log())
    assert install(site, manifest) == 0
    assert f"camera {CAMERA}: model gate-2 is in use" in capsys.readouterr().out
    wait_until(lambda: live(site) == "gate-2")
    assert install(site, manifest) == 0
    assert "has model gate-2 already" in capsys.readouterr().out


def test_a_running_agent_that_turns_it_down_says_why(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = site.ship(tiny.student(classes=("dog",)), counter=2, classes=("cat",))
    site.start()
    wait_until(lambda: "agent_started" in site.log())
    assert install(site, stick(site, wrong)) == 5
    assert "turned model gate-2 down" in capsys.readouterr().err
    assert install(site, stick(site, wrong)) == 5
    assert "did not pass: publish another" in capsys.readouterr().err


def test_without_an_agent_it_is_proven_here_and_taken_at_the_next_start(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = stick(site, site.ship(tiny.student(tag="new"), counter=2))
    assert install(site, manifest) == 0
    assert "gate-2 passes its golden frames; the agent takes it when it starts" in capsys.readouterr().out
    assert lies(site.folder / "state", CAMERA)
    site.start()
    wait_until(lambda: live(site) == "gate-2")
    assert not lies(site.folder / "state", CAMERA)


def test_what_must_not_run_here_is_one_line_that_names_the_file(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    new = tiny.student(tag="new")
    strange = tiny.ship(new, Ed25519PrivateKey.generate(), camera=CAMERA, counter=2)
    cases = [
        (site.ship(new, counter=2, camera="yard"), 5, "is for camera yard; this edge has gate"),
        (strange, 5, "which is not a trusted key"),
        (site.ship(new, counter=1), 5, "names other bytes than the one accepted with that counter"),
        (site.ship(new, counter=2, now=1.0), 5, "has expired: publish a new one"),
        (tiny.Shipped(b"torn", (whole := site.ship(new, counter=2)).manifest, whole.signed), 5, "has 4 bytes"),
        (site.ship(new, counter=2, golden_from=tiny.student(shift=1)), 5, "golden"),
    ]
    for shipped, code, told in cases:
        assert install(site, stick(site, shipped)) == code
        assert told in capsys.readouterr().err.splitlines()[-1], told
    assert not lies(site.folder / "state", CAMERA)


def test_files_that_are_not_there_are_named(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(site, site.folder / "none.manifest") == 3
    assert "none.manifest: cannot be read: No such file" in capsys.readouterr().err
    manifest = stick(site, site.ship(tiny.student(tag="new"), counter=2))
    (site.folder / "stick" / "new.onnx").rename(site.folder / "elsewhere.onnx")
    assert install(site, manifest) == 3
    assert "new.onnx: cannot be read" in capsys.readouterr().err
    assert install(site, manifest, "--model", str(site.folder / "elsewhere.onnx")) == 0
