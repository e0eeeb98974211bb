from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from culling.common.wire.delta import make
from culling.common.wire.manifest import Manifest, key_id, sign
from culling.common.wire.messages import ModelChunk, ModelOffer, ModelRequest, SwapReport
from culling.edge.model.hotswap import State
from culling.edge.model.updater import RETRY_S, Updater
from support import tiny
from support.swapping import KEY, Rig

PIECE = 64
"""Bytes per request in these tests; a tiny student has some thousands."""


class Cloud:
    """Serves one model to one updater, as the cloud side does, and remembers what it was asked for."""

    def __init__(self, shipped: tiny.Shipped) -> None:
        self.shipped = shipped
        self.offsets: list[int] = []

    @property
    def offer(self) -> ModelOffer:
        return ModelOffer(self.shipped.manifest.camera, self.shipped.signed)

    def answer(self, request: ModelRequest) -> tuple[ModelChunk, bytes]:
        self.offsets.append(request.offset)
        data = self.shipped.model[request.offset : request.offset + request.length]
        return ModelChunk(request.camera, request.model_id, request.offset, len(self.shipped.model)), data

    def serve(self, updater: Updater, at_most: int = 1000) -> int:
        """Answer requests until none comes, or `at_most`; return how many were answered."""
        for served in range(at_most):
            requests = [message for message in updater.outgoing() if isinstance(message, ModelRequest)]
            if not requests:
                return served
            for request in requests:
                updater.chunk(*self.answer(request))
        return at_most


class DeltaCloud(Cloud):
    """One that sends what changed since the first model that it knows of those that the edge has."""

    def __init__(self, shipped: tiny.Shipped, *known: bytes) -> None:
        super().__init__(shipped)
        self.deltas = {hashlib.sha256(base).hexdigest(): make(base, shipped.model) for base in known}
        self.whole = 0

    def answer(self, request: ModelRequest) -> tuple[ModelChunk, bytes]:
        base = next((one for one in request.bases if one in self.deltas), None)
        if base is None or request.offset >= len(self.deltas[base]):
            self.whole += 1
            return super().answer(request)
        self.offsets.append(request.offset)
        data = self.deltas[base]
        piece = data[request.offset : request.offset + request.length]
        return ModelChunk(request.camera, request.model_id, request.offset, len(data), base), piece


class Site:
    """An edge with the camera `gate`: a slot, its updater, and the words of what was refused."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        self.rig.slot.boot()
        self.refused: list[str] = []
        keys = {key_id(KEY.public_key()): KEY.public_key()}
        self.fetched: list[str] = []
        self.updater = Updater(
            {"gate": self.rig.slot}, keys, self.rig.clock, self.refused.append, lambda _, how: self.fetched.append(how)
        )

    @property
    def part(self) -> Path:
        return self.rig.slot.path("gate-2", "part")

    def state(self) -> State | None:
        candidate = self.rig.slot.record.candidate
        return candidate.state if candidate else None

    def becomes_live(self) -> bool:
        self.rig.wait()
        self.rig.play(10)
        self.rig.wait()
        return self.rig.slot.record.live == "gate-2"


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Site]]:
    monkeypatch.setattr("culling.common.wire.protocol.PIECE", PIECE)
    made: list[Site] = []

    def make() -> Site:
        """Start the edge, or start it again on the same disk."""
        made.append(Site(tmp_path))
        return made[-1]

    yield make
    for site in made:
        site.rig.close()


@pytest.fixture
def site(sites: Callable[[], Site]) -> Site:
    return sites()


@pytest.fixture
def cloud(site: Site) -> Cloud:
    return Cloud(site.rig.ship(tiny.student(tag="new")))


class TestDownload:
    def test_an_offered_model_is_fetched_proven_and_goes_live(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        assert cloud.serve(site.updater) == -(-len(cloud.shipped.model) // PIECE)

        assert not site.part.exists()
        assert site.becomes_live()
        assert site.refused == []

    def test_a_shadow_is_fetched_and_proven_in_the_same_way_and_answers_nothing(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(ModelOffer("gate", cloud.offer.manifest, 0.5))
        cloud.serve(site.updater)

        assert not site.becomes_live()
        assert site.state() is State.SHADOW
        site.updater.offered(cloud.offer)
        assert site.becomes_live()

    def test_one_that_is_withdrawn_is_asked_for_no_more(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(ModelOffer("gate", cloud.offer.manifest, 0.5))
        assert len(site.updater.outgoing()) == 1
        site.updater.offered(ModelOffer("gate", cloud.offer.manifest, 0.0))
        (report,) = site.updater.outgoing()
        assert (report.outcome, report.reason) == ("rejected", "withdrawn")  # type: ignore[union-attr]
        site.rig.fake.advance(60.0)
        assert site.updater.outgoing() == [report]

    def test_one_that_is_withdrawn_goes_though_its_manifest_has_expired_since(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(ModelOffer("gate", cloud.offer.manifest, 0.5))
        cloud.serve(site.updater)
        site.rig.wait()
        assert site.state() is State.SHADOW
        site.rig.fake.advance(90_000)
        site.updater.offered(ModelOffer("gate", cloud.offer.manifest, 0.5))
        assert (site.state(), site.refused) == (State.SHADOW, ["expired"])
        site.updater.offered(ModelOffer("gate", cloud.offer.manifest, 0.0))
        assert (site.state(), site.refused) == (None, ["expired"])

    def test_only_one_piece_is_asked_for_at_a_time(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)

        assert len(site.updater.outgoing()) == 1
        assert site.updater.outgoing() == []

    def test_the_same_offer_again_goes_on_where_it_was(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=3)
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)

        assert cloud.offsets == sorted(set(cloud.offsets))
        assert site.becomes_live()

    def test_a_new_connection_asks_again_at_once(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        (asked,) = site.updater.outgoing()

        site.updater.reopen()

        assert site.updater.outgoing() == [asked]

    def test_pieces_that_nobody_asked_for_change_nothing(self, site: Site, cloud: Cloud) -> None:
        stray = ModelChunk("gate", "gate-2", 0, len(cloud.shipped.model))
        site.updater.chunk(stray, b"before any offer")
        site.updater.offered(cloud.offer)
        site.updater.chunk(ModelChunk("gate", "gate-9", 0, 100), b"another model")
        site.updater.chunk(ModelChunk("yard", "gate-2", 0, 100), b"another camera")
        site.updater.chunk(ModelChunk("gate", "gate-2", PIECE, len(cloud.shipped.model)), b"another place")

        assert not site.part.exists()

    def test_a_newer_offer_takes_over_and_the_older_pieces_are_removed(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=3)
        newer = Cloud(site.rig.ship(tiny.student(tag="newer"), 3))
        site.updater.offered(newer.offer)

        assert not site.part.exists()
        newer.serve(site.updater)
        site.rig.wait()
        assert site.rig.play(10)[-1] == "gate-3"

    def test_a_newer_offer_waits_for_a_model_being_tried(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        site.rig.wait()
        newer = Cloud(site.rig.ship(tiny.student(tag="newer"), 3))

        site.updater.offered(newer.offer)
        assert newer.serve(site.updater) == 0
        assert site.refused == []
        assert site.becomes_live()

        site.rig.fake.advance(RETRY_S)
        assert newer.serve(site.updater) > 0
        site.rig.wait()
        assert site.rig.play(10)[-1] == "gate-3"


class TestPowerCuts:
    @pytest.mark.parametrize("tenth", range(10))
    def test_a_download_goes_on_after_the_last_piece_on_disk(
        self, sites: Callable[[], Site], cloud: Cloud, site: Site, tenth: int
    ) -> None:
        pieces = tenth * len(cloud.shipped.model) // PIECE // 10
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=pieces)
        cloud.offsets.clear()

        after = sites()
        assert after.rig.play(1) == ["gate-1"]
        after.updater.offered(cloud.offer)
        cloud.serve(after.updater)

        assert cloud.offsets[0] == pieces * PIECE
        assert after.becomes_live()

    def test_a_cut_between_the_last_piece_and_the_proof(
        self, sites: Callable[[], Site], site: Site, cloud: Cloud
    ) -> None:
        site.updater.offered(cloud.offer)
        site.part.write_bytes(cloud.shipped.model)

        after = sites()
        after.updater.offered(cloud.offer)

        assert cloud.serve(after.updater) == 0
        assert after.becomes_live()

    def test_pieces_torn_by_the_cut_are_fetched_again_from_the_start(
        self, sites: Callable[[], Site], site: Site, cloud: Cloud
    ) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=4)
        site.part.write_bytes(bytes(4 * PIECE))
        cloud.offsets.clear()

        after = sites()
        after.updater.offered(cloud.offer)
        cloud.serve(after.updater)

        assert cloud.offsets.count(0) == 1
        assert after.refused == ["wrong-hash"]
        assert after.becomes_live()

    def test_a_part_longer_than_the_model_is_thrown_away(
        self, sites: Callable[[], Site], site: Site, cloud: Cloud
    ) -> None:
        site.updater.offered(cloud.offer)
        site.part.write_bytes(bytes(len(cloud.shipped.model) + 1))

        after = sites()
        after.updater.offered(cloud.offer)
        cloud.serve(after.updater)

        assert after.becomes_live()

    def test_a_whole_file_that_rotted_is_fetched_again(
        self, sites: Callable[[], Site], site: Site, cloud: Cloud
    ) -> None:
        site.updater.offered(cloud.offer)
        whole = site.rig.slot.path("gate-2", "onnx")
        site.rig.slot.record = msgspec.structs.replace(site.rig.slot.record)
        whole.write_bytes(bytes(len(cloud.shipped.model)))

        site.updater._downloads.clear()
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)

        assert site.becomes_live()


class TestAttacks:
    """Named after the threat; the running model never notices."""

    @pytest.fixture(autouse=True)
    def undisturbed(self, site: Site) -> Iterator[None]:
        yield
        site.rig.wait()
        assert site.rig.play(1) == ["gate-1"]

    @pytest.fixture(params=[None, 0.5, 0.0], ids=["for use", "as a shadow", "of no frame"], autouse=True)
    def share(self, request: pytest.FixtureRequest) -> None:
        self.offered_as = request.param

    def refusal(self, site: Site, signed: bytes, camera: str = "gate") -> str:
        with capture_logs() as logs:
            site.updater.offered(ModelOffer(camera, signed, self.offered_as))
        assert site.updater.outgoing() == []
        (reason,) = site.refused
        assert [(log["camera"], log["reason"]) for log in logs if log["event"] == "model_refused"] == [(camera, reason)]
        return reason

    def test_unsigned(self, site: Site, cloud: Cloud) -> None:
        assert self.refusal(site, msgspec.msgpack.encode(cloud.shipped.manifest)) == "malformed"

    def test_wrong_key(self, site: Site, cloud: Cloud) -> None:
        assert self.refusal(site, sign(cloud.shipped.manifest, Ed25519PrivateKey.generate())) == "unknown-key"

    def test_expired(self, site: Site, cloud: Cloud) -> None:
        site.rig.fake.advance(90_000)
        assert self.refusal(site, cloud.shipped.signed) == "expired"

    def test_another_camera_s_model(self, site: Site) -> None:
        shipped = tiny.ship(tiny.student(), KEY, camera="yard", counter=2)
        assert self.refusal(site, shipped.signed) == "wrong-camera"

    def test_a_camera_that_is_not_here(self, site: Site, cloud: Cloud) -> None:
        assert self.refusal(site, cloud.shipped.signed, camera="yard") == "unknown-camera"

    def test_rolled_back_counter(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(Cloud(site.rig.ship(tiny.student(tag="3"), 3)).offer)
        site.updater.outgoing()
        assert self.refusal(site, cloud.shipped.signed) == "rolled-back"

    def test_rolled_back_counter_after_a_restart(self, sites: Callable[[], Site], site: Site, cloud: Cloud) -> None:
        site.updater.offered(Cloud(site.rig.ship(tiny.student(tag="3"), 3)).offer)
        after = sites()
        assert self.refusal(after, cloud.shipped.signed) == "rolled-back"

    def test_same_counter_other_bytes(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        site.updater.outgoing()
        other = site.rig.ship(tiny.student(tag="other"))
        assert self.refusal(site, other.signed) == "conflicting"

    def test_mixed_manifest_and_model(self, site: Site, cloud: Cloud) -> None:
        other = tiny.student(tag="odd")
        assert len(other) == len(cloud.shipped.model)
        mixed = Cloud(tiny.Shipped(other, cloud.shipped.manifest, cloud.shipped.signed))
        site.updater.offered(mixed.offer)
        mixed.serve(site.updater)

        assert site.refused == ["wrong-hash"]
        (report,) = site.updater.outgoing()
        assert isinstance(report, SwapReport)
        assert (report.outcome, report.reason) == ("rejected", "wrong-hash")
        assert not site.part.exists()

    def test_a_model_longer_than_declared(self, site: Site, cloud: Cloud) -> None:
        longer = tiny.Shipped(cloud.shipped.model + b"more", cloud.shipped.manifest, cloud.shipped.signed)
        site.updater.offered(cloud.offer)
        Cloud(longer).serve(site.updater, at_most=1)

        assert site.refused == ["wrong-total"]

    def test_endless_data(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        site.updater.outgoing()
        site.updater.chunk(ModelChunk("gate", "gate-2", 0, len(cloud.shipped.model)), bytes(PIECE + 1))

        assert site.refused == ["beyond-total"]
        assert not site.part.exists()


class TestDeltas:
    """The edge was installed with `tiny.student()`; the new one differs from it in some bytes."""

    @pytest.fixture
    def cloud(self, site: Site) -> DeltaCloud:
        return DeltaCloud(site.rig.ship(tiny.student(tag="new")), tiny.student())

    def test_only_what_changed_is_fetched_and_the_model_goes_live(self, site: Site, cloud: DeltaCloud) -> None:
        site.updater.offered(cloud.offer)
        (delta,) = cloud.deltas.values()
        assert cloud.serve(site.updater) == -(-len(delta) // PIECE) < len(cloud.shipped.model) // PIECE / 2

        assert site.rig.slot.path("gate-2", "onnx").read_bytes() == cloud.shipped.model
        assert not site.part.exists()
        assert not site.rig.slot.path("gate-2", "delta").exists()
        assert (site.fetched, site.refused, cloud.whole) == (["delta"], [], 0)
        assert site.becomes_live()

    def test_models_that_are_here_are_told_of_the_one_in_use_first(self, site: Site, cloud: DeltaCloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert site.becomes_live()
        newer = DeltaCloud(site.rig.ship(tiny.student(tag="newer"), 3), cloud.shipped.model)
        site.updater.offered(newer.offer)
        for message in site.updater.outgoing():
            if isinstance(message, ModelRequest):
                bases = [hashlib.sha256(model).hexdigest() for model in (cloud.shipped.model, tiny.student())]
                assert list(message.bases) == bases
                site.updater.chunk(*newer.answer(message))
        newer.serve(site.updater)
        assert site.fetched == ["delta", "delta"]

    def test_a_cloud_that_has_none_sends_the_whole(self, site: Site) -> None:
        cloud = DeltaCloud(site.rig.ship(tiny.student(tag="new")), b"another")
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert (site.fetched, site.refused) == (["whole"], [])
        assert site.becomes_live()

    @pytest.mark.parametrize("behind", [0, 1, 2])
    def test_after_a_power_cut_it_goes_on_where_it_was(
        self, sites: Callable[[], Site], site: Site, cloud: DeltaCloud, behind: int
    ) -> None:
        site.updater.offered(cloud.offer)
        pieces = -(-len(*cloud.deltas.values()) // PIECE)
        cloud.serve(site.updater, at_most=pieces - max(1, behind))
        if behind == 0:
            site.rig.slot.path("gate-2", "delta").write_bytes(*cloud.deltas.values())
            site.part.write_bytes(b"what was being made of it")
        cloud.offsets.clear()

        after = sites()
        after.updater.offered(cloud.offer)
        cloud.serve(after.updater)
        assert cloud.offsets == [PIECE * at for at in range(pieces - behind, pieces)]
        assert (after.fetched, after.refused) == (["delta"], [])
        assert after.becomes_live()

    def test_of_a_delta_that_was_hardly_begun_nothing_is_kept(
        self, sites: Callable[[], Site], site: Site, cloud: DeltaCloud
    ) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=1)
        after = sites()
        after.updater.offered(cloud.offer)
        cloud.serve(after.updater)
        assert (after.fetched, after.refused) == (["delta"], [])

    def test_without_the_model_that_it_starts_from_the_whole_is_fetched(self, site: Site, cloud: DeltaCloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=2)
        (site.rig.folder / "initial.onnx").unlink()
        cloud.serve(site.updater)
        assert (site.fetched, site.refused) == (["whole"], ["base-missing"])
        assert cloud.whole == -(-len(cloud.shipped.model) // PIECE)
        assert site.becomes_live()

    def test_a_model_to_start_from_that_rotted_makes_no_model(self, site: Site, cloud: DeltaCloud) -> None:
        (site.rig.folder / "initial.onnx").write_bytes(tiny.student()[:-9] + b"123456789")
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert (site.fetched, site.refused) == (["whole"], ["wrong-hash"])
        assert site.becomes_live()

    def test_a_delta_that_is_damaged_makes_no_model(self, site: Site, cloud: DeltaCloud) -> None:
        ((base, data),) = cloud.deltas.items()
        cloud.deltas[base] = data[:-20] + bytes(20)
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert (site.fetched, site.refused) == (["whole"], ["delta-damaged"])
        assert site.becomes_live()

    def test_a_delta_of_another_model_makes_none(self, site: Site, cloud: DeltaCloud) -> None:
        """However it is signed for: the hash of the whole is in the manifest."""
        cloud.deltas = {base: make(tiny.student(), tiny.student(tag="odd")) for base in cloud.deltas}
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert (site.fetched, site.refused) == (["whole"], ["delta-wrong"])

    def test_a_model_that_was_made_of_a_delta_keeps_its_golden_frames_promise_or_never_runs(self, site: Site) -> None:
        bad = DeltaCloud(site.rig.ship(tiny.student(shift=1), golden_from=tiny.student()), tiny.student())
        site.updater.offered(bad.offer)
        bad.serve(site.updater)
        assert site.fetched == ["delta"]
        assert not site.becomes_live()
        (report,) = site.updater.reports()
        assert report.outcome == "rejected"
        assert "golden frame" in report.reason

    def test_of_an_older_counter_no_delta_is_asked_for(self, site: Site, cloud: DeltaCloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert site.becomes_live()
        older = DeltaCloud(site.rig.ship(tiny.student(tag="older"), 1), cloud.shipped.model)
        site.updater.offered(older.offer)
        assert older.serve(site.updater) == 0
        assert site.fetched == ["delta"]

    def test_a_delta_that_is_gone_in_the_middle_gives_way_to_the_whole(self, site: Site, cloud: DeltaCloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=2)
        cloud.deltas.clear()
        cloud.serve(site.updater)
        assert (site.fetched, site.refused) == (["whole"], ["delta-gone"])
        assert site.becomes_live()

    def test_a_delta_as_long_as_the_model_is_not_taken(self, site: Site, cloud: DeltaCloud) -> None:
        cloud.deltas = {base: bytes(len(cloud.shipped.model)) for base in cloud.deltas}
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert (site.fetched, site.refused) == (["whole"], ["wrong-total"])

    def test_a_disk_that_fails_while_the_model_is_made_is_tried_again_later(
        self, site: Site, cloud: DeltaCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        site.updater.offered(cloud.offer)
        with monkeypatch.context() as broken:
            broken.setattr("culling.edge.model.rebuild.apply", full)
            cloud.serve(site.updater)
        assert site.refused == ["storage"]
        asked = len(cloud.offsets)
        site.rig.fake.advance(RETRY_S)
        cloud.serve(site.updater)
        assert len(cloud.offsets) == asked, "the delta is on disk"
        assert site.fetched == ["delta"]
        assert site.becomes_live()

    def test_a_newer_offer_takes_over_and_the_older_delta_is_removed(self, site: Site, cloud: DeltaCloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=1)
        assert site.rig.slot.path("gate-2", "delta").exists()
        newer = DeltaCloud(site.rig.ship(tiny.student(tag="newer"), 3), tiny.student())
        site.updater.offered(newer.offer)
        assert not site.rig.slot.path("gate-2", "delta").exists()
        newer.serve(site.updater)
        assert site.fetched == ["delta"]

    def test_bytes_that_are_here_already_are_not_fetched(self, site: Site, cloud: DeltaCloud) -> None:
        """A model that is renewed, or gone back to, is another's bytes under a new counter."""
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert site.becomes_live()
        back = DeltaCloud(site.rig.ship(tiny.student(), 3))
        site.updater.offered(back.offer)
        assert back.serve(site.updater) == 0
        site.rig.wait()
        assert site.rig.play(10)[-1] == "gate-3"
        assert site.fetched == ["delta", "here"]

    def test_bytes_that_were_here_and_rotted_are_fetched(self, site: Site) -> None:
        (site.rig.folder / "initial.onnx").write_bytes(b"rot")
        back = DeltaCloud(site.rig.ship(tiny.student(), 2))
        site.updater.offered(back.offer)
        assert back.serve(site.updater) > 0
        assert (site.fetched, site.refused) == (["whole"], [])
        assert site.becomes_live()

    def test_bytes_that_are_here_and_cannot_be_read_are_fetched(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def bad(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("culling.edge.model.updater.copy", bad)
        back = DeltaCloud(site.rig.ship(tiny.student(), 2))
        site.updater.offered(back.offer)
        assert back.serve(site.updater) > 0
        assert (site.fetched, site.refused) == (["whole"], [])


class TestDisk:
    def test_a_full_disk_is_counted_and_tried_again_later(
        self, site: Site, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, mode: str = "r") -> object:
            raise OSError(28, "No space left on device")

        site.updater.offered(cloud.offer)
        cloud.serve(site.updater, at_most=3)
        with monkeypatch.context() as broken:
            broken.setattr(Path, "open", full)
            cloud.serve(site.updater, at_most=1)
        assert site.refused == ["storage"]
        assert cloud.serve(site.updater) == 0
        assert site.rig.play(1) == ["gate-1"]

        site.rig.fake.advance(RETRY_S)
        cloud.serve(site.updater)

        assert cloud.offsets[4] == 3 * PIECE
        assert site.becomes_live()

    def test_a_disk_that_fails_after_the_last_piece_was_proven_is_tried_again_later(
        self, site: Site, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(source: Path, target: Path) -> None:
            raise OSError(5, "Input/output error")

        site.updater.offered(cloud.offer)
        with monkeypatch.context() as broken:
            broken.setattr("culling.edge.model.updater.os.replace", fail)
            cloud.serve(site.updater)
        assert site.refused == ["storage"]
        assert site.part.exists()

        site.rig.fake.advance(RETRY_S)
        assert cloud.serve(site.updater) == 0, "every piece is here"
        assert site.becomes_live()

    def test_a_disk_that_fails_while_a_finished_part_is_proven_is_tried_again_later(
        self, site: Site, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path, manifest: Manifest) -> bool:
            raise OSError(5, "Input/output error")

        site.part.write_bytes(cloud.shipped.model)
        with monkeypatch.context() as broken:
            broken.setattr("culling.edge.model.updater._proven", fail)
            site.updater.offered(cloud.offer)
        assert site.refused == ["storage"]

        site.rig.fake.advance(RETRY_S)
        assert cloud.serve(site.updater) == 0
        assert site.becomes_live()

    def test_an_offer_that_cannot_be_written_down_is_tried_again_later(
        self, site: Site, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = site.rig.folder / "gate"
        folder.rename(folder.with_name("away"))
        site.updater.offered(cloud.offer)
        assert set(site.refused) == {"storage"}
        folder.with_name("away").rename(folder)

        site.rig.fake.advance(RETRY_S)
        cloud.serve(site.updater)

        assert site.becomes_live()


class TestReports:
    def test_a_verdict_is_told_until_it_was_sent(self, site: Site, cloud: Cloud) -> None:
        site.updater.offered(cloud.offer)
        cloud.serve(site.updater)
        assert site.becomes_live()

        (report,) = site.updater.outgoing()
        assert site.updater.outgoing() == [report] == site.updater.reports()
        assert isinstance(report, SwapReport)
        site.updater.sent(report)

        assert site.updater.outgoing() == []

    def test_a_model_refused_before_is_reported_again_not_fetched(self, site: Site) -> None:
        bad = Cloud(site.rig.ship(tiny.student(shift=1), golden_from=tiny.student()))
        site.updater.offered(bad.offer)
        bad.serve(site.updater)
        site.rig.wait()
        for report in site.updater.reports():
            site.updater.sent(report)

        site.updater.offered(bad.offer)

        (report,) = site.updater.outgoing()
        assert isinstance(report, SwapReport)
        assert (report.outcome, report.reason) == ("rejected", "refused-before")
