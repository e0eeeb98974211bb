"""A fleet with a past, for whoever looks at the page: a day of counters, hard frames, rounds, models and swaps."""

from __future__ import annotations

import hashlib
import random
import time
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from culling.cloud.changed.differ import Different, Pair
from culling.cloud.changed.kept import Changes
from culling.cloud.store.index import frames, history, rounds
from culling.cloud.store.roster import add_edge
from culling.cloud.weights.classes import CLASSES
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import Heartbeat, SwapReport
from culling.common.wire.transport import new_keypair
from support.cloud import CloudState, Edge, camera_state, detections, hard_frame, hello
from support.detectors import picture

PER_EDGE = 50
REASONS = ("hard", "audit", "bootstrap", "manual")


class Showcase:
    """Cameras of `state`; `beat` lets their edges speak to the service at `endpoint`."""

    def __init__(self, state: CloudState, names: list[str], seed: int = 1) -> None:
        self.state = state
        self.names = names
        self.secrets: list[str] = []
        self._rng = random.Random(seed)
        self._draws = np.random.default_rng(seed)
        self._counts = {name: {"seen": 40_000, "hard": 300, "audit": 20} for name in names}
        self._edges: list[Edge] = []
        for start in range(0, len(names), PER_EDGE):
            public, secret = new_keypair()
            self.secrets.append(secret)
            with state.index.write() as connection:
                number = start // PER_EDGE + 1
                add_edge(connection, f"edge-{number}", public, names[start : start + PER_EDGE], time.time())
        base = state.artefact(tag="base")
        for name in names:
            state.publisher.publish(name, base, "base")

    def add_past(self, now: float) -> None:
        """Give every camera a day of minutes."""
        rows = []
        for name in self.names:
            busy = self._rng.uniform(0.2, 2.0)
            away = self._rng.randrange(24) if self._rng.random() < 0.2 else -1
            for minute in range(int(now // 60) - 24 * 60, int(now // 60)):
                hour = minute // 60 % 24
                if hour == away:
                    continue
                light = busy * (1.5 if 7 <= hour <= 19 else 0.4)
                told = {"hard": self._draw(light), "audit": self._draw(light / 9), "bootstrap": 0, "manual": 0}
                more = {"inferred": 590, "dropped": 3, "evicted": 0, "acked": 1, "threshold": 4.0, "loss_mean": 1.9}
                rows.append({"camera": name, "minute": minute, "seen": 600, **told, **more})
        with self.state.index.write() as connection:
            for start in range(0, len(rows), 20_000):
                connection.execute(history.insert(), rows[start : start + 20_000])

    def add_frames(self, camera: str, count: int, now: float, round_id: int = 1) -> None:
        """Store hard frames, most of them labelled and some kept by a round."""
        for seq in range(1, count + 1):
            jpeg = encode_jpeg(picture(240, 320, seq))
            left = self._rng.uniform(0, 200)
            box = (left, 60, left + 70, 170)
            found = detections((*box, 0.62, 0), (250, 150, 300, 200, 0.31, 1))
            frame, data = hard_frame(
                seq, camera, jpeg, found, captured=now - 60.0 * seq, width=320, height=240,
                reason=REASONS[seq % 7 // 3], loss=round(self._rng.uniform(1, 9), 2),
            )  # fmt: skip
            self.state.frames.add(hashlib.sha1(camera.encode()).hexdigest(), frame, data)  # an edge of its own
        with self.state.index.read() as connection:
            mine = sa.select(frames.c.id).where(frames.c.camera == camera)
            names = [row.id for row in connection.execute(mine)]
        seen = detections((62, 58, 140, 172, 0.97, 0), (180, 30, 230, 90, 0.81, 2))
        self.state.lifecycle.label(dict.fromkeys(names[: count * 3 // 4], seen))
        self.state.lifecycle.claim(camera, round_id)
        self.state.lifecycle.keep(names[: count // 3], round_id)

    def add_rounds(self, camera: str, count: int, now: float) -> None:
        """Add published rounds, each a little better, and a refused one in between."""
        for number in range(1, count + 1):
            started = now - 7200 * (count - number + 1)
            turn = self.state.rounds.start(camera, "new-frames", started)
            report = self._report(number, started)
            refused = number % 3 == 0
            reason = "the candidate is not better by more than 0: AP50 0.611 after, 0.618 before" if refused else ""
            self.state.rounds.end(turn.id, "refused" if refused else "ready", report, reason, started + 900)
            if refused:
                continue
            model = self.state.publisher.publish_round(turn.id, camera, self.state.artefact(tag=f"{camera}-{number}"))
            told = SwapReport(camera, model.model_id, None, "live", "", 41.0, started + 1000)
            self.state.registry.report(told, started + 1000)
            with self.state.index.write() as connection:
                ended = rounds.update().where(rounds.c.id == turn.id)
                connection.execute(ended.values(finished=started + 900))

    def add_changes(self, camera: str, round_id: int, count: int, gone: int = 0) -> None:
        """Let the students of a round that is over differ on that many labelled frames, and on `gone` removed ones."""
        labelled = frames.c.labels.is_not(None)
        names = [frame.id for frame in self.state.frames.select(camera, labelled, frames.c.captured, count)]
        before = detections((62, 58, 140, 172, 0.48, 0), (250, 150, 300, 200, 0.31, 1))
        after = detections((62, 58, 140, 172, 0.93, 0), (180, 30, 230, 90, 0.77, 2))
        pairs = [Pair(name, 0, before, after) for name in [*names, *(f"{at:032x}" for at in range(gone))]]
        found = [Different(pair, 2.0 - at / 10) for at, pair in enumerate(pairs)]
        Changes(self.state.index).keep(round_id, camera, found, CLASSES)
        report = self.state.rounds.get(round_id).report | {"changed": {"before": f"{camera}-1", "frames": len(pairs)}}
        with self.state.index.write() as connection:
            ended = rounds.update().where(rounds.c.id == round_id)
            connection.execute(ended.values(report=msgspec.json.encode(report).decode()))

    def open(self, endpoint: str) -> None:
        """Connect every edge."""
        self._edges = [Edge(endpoint, self.state.keys.curve_public, secret) for secret in self.secrets]
        for edge, names in zip(self._edges, self._groups(), strict=True):
            edge.send(hello(*(self._state(name) for name in names)))

    def beat(self, seen: int = 50, hard: int = 1, only: int | None = None, **changes: Any) -> None:
        """Let every edge, or one `only`, say that its cameras went on; `changes` are further fields of each state."""
        every = list(zip(self._edges, self._groups(), strict=True))
        for edge, names in every if only is None else every[only : only + 1]:
            for name in names:
                self._counts[name]["seen"] += seen
                self._counts[name]["hard"] += hard if self._rng.random() < 0.5 else 0
            edge.send(Heartbeat("boot-1", [self._state(name, **changes) for name in names]))
            while edge.socket.poll(0) is not None:
                pass

    def seen(self, name: str) -> int:
        """Return what a camera's edge said last that it has seen."""
        return self._counts[name]["seen"]

    def close(self) -> None:
        for edge in self._edges:
            edge.close()

    def _groups(self) -> list[list[str]]:
        return [self.names[start : start + PER_EDGE] for start in range(0, len(self.names), PER_EDGE)]

    def _state(self, name: str, **changes: Any) -> Any:
        counts = self._counts[name]
        live = self.state.registry.live_ids().get(name, "none") if len(self.names) < 5 else f"{name}-1"
        told: dict[str, Any] = {
            "seen": counts["seen"], "inferred": counts["seen"] - 70,
            "forwarded": {"hard": counts["hard"], "audit": counts["audit"]}, "spooled": counts["hard"],
            "acked": counts["hard"], "dropped": {"not-taken": 70},
            "skipped": {"below-threshold": 39_000, "spacing": 410},
            "losses": [9000, 12000, 9500, 4200, 2600, 900, 350, 120, 30, 6, 2, 0, 0], "threshold": 4.2,
            "loss_mean": 1.93, "bytes_sent": 38_400_000, "bytes_received": 12_900_000, "spool_bytes": 1_300_000,
            "spool_frames": 11,
        }  # fmt: skip
        return camera_state(name, live, **{**told, **changes})

    def _draw(self, mean: float) -> int:
        return int(self._draws.poisson(mean))

    def _report(self, number: int, started: float) -> dict[str, Any]:
        scales = [round(0.9**k, 4) for k in range(6)]
        refused = number % 3 == 0
        return {
            "bill": {"told": "2.51 PFLOP: edge 2.02 PFLOP, cloud 485 TFLOP; 1/87 of full training"},
            "published": not refused, "labelled": 512, "kept": 128, "replayed": 42, "hardness": 0.61,
            "seconds": {"label": 181.0, "cull": 2.1, "resolution": 34.0, "train": 512.0, "export": 12.0, "gate": 21.0},
            "newest_capture": started - 120.0, "scale": scales[3], "train_s": 512.0, "steps": 640, "best_step": 300,
            "scale_why": "scale 0.73: AP50 -0.007, AP50:95 -0.017 on 170 labelled frames", "scale_passes": 512.4,
            "ended": "all of 640 steps, best after 300, by 32 frames kept aside",
            "curve": [
                {"k": k, "scale": scale, "size": [int(384 * scale), int(640 * scale)], "mse": k * k * 40.0,
                 "mean": k * k * 0.3, "normalised": round(0.012 * k * k, 4), "ap50": round(0.02 - 0.001 * k**3, 4),
                 "ap50_95": round(0.01 - 0.001 * k**3, 4), "passed": k < 4}
                for k, scale in enumerate(scales)
            ],
            "losses": [[step, round(1.9 / (1 + step / 90) + 0.35, 4)] for step in range(0, 640, 10)],
            "looks": [[step, round(1.5 / (1 + step / 60) + 0.6 + step / 4000, 4)] for step in range(0, 641, 20)],
            "map_before": 0.618 if refused else round(0.52 + 0.03 * number, 4),
            "map_after": 0.611 if refused else round(0.55 + 0.03 * number, 4), "frames": 64,
            "map_before_50_95": 0.31, "map_after_50_95": 0.34,
        }  # fmt: skip
