"""What edge and cloud say to each other: typed structs over MessagePack, one version byte in front.

    edge → cloud   Hello · HardFrame + JPEG · Heartbeat · ModelRequest · SwapReport · LivePicture + JPEG ·
                   Escalate + JPEG
    cloud → edge   Welcome · Ack · Nack · ModelOffer · ModelChunk + bytes · Desired · Look · Verdict · Refused

A message is one or two parts: the header (version byte, then a MessagePack map whose `type` names the struct) and, for
HardFrame, LivePicture, Escalate and ModelChunk only, the raw bytes. Bytes are counted before anything is decoded and
every field has bounds. A field that is not known is passed over, without making anything of it: a newer version sent
it. A type that is not known is refused by name. Nothing but ProtocolError comes out of `unpack`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.wire.ignored import Places
from culling.common.wire.profile import Profile
from culling.common.wire.versions import PROTOCOL_VERSION, SPEAKS, Speaks

MAX_HEADER = 64 * 1024
"""The largest header but an offer is a Heartbeat of MAX_CAMERAS cameras: some 28 kB with counters in the millions."""

MAX_OFFER = 1024 * 1024  # a header that carries a manifest with its golden frames
MAX_MANIFEST = MAX_OFFER - 4 * 1024
"""What an offer holds beside its manifest (type and camera) is far below 4 kB."""

MAX_JPEG = 16 * 1024 * 1024
"""Half a byte for each pixel of an 8K picture: JPEGs of real scenes stay below it. Also the socket's MAXMSGSIZE."""

MAX_LIVE = 512 * 1024
"""Four times what a busy scene takes at the size and quality of live pictures: one byte for each pixel of them."""

MAX_CHUNK = 1024 * 1024
"""Four pieces of `protocol.PIECE`: what a peer may ask for at once, so that one request never holds up others."""

MAX_MODEL = 200 * 1024 * 1024
"""Three times the bundled student's graph (58 MB); what an edge downloads and checks is bounded by it."""

MAX_BOXES = 300
"""As many as a student's proposals can give, and more than any frame of ours has objects."""

MAX_CAMERAS = 64
"""Cameras of one edge: more than a machine beside cameras decodes."""

MAX_OUTPUTS = 32
"""Outputs of one edge that it tells of at once: 8 kB."""

MAX_BASES = 8
"""Models of one camera that an edge has: the one in use, the one before it, and the one it was installed with."""

MAX_ECHO = 20 * 1024
"""Eight answers of 100 boxes take 17 kB; with the most detections and ignored places a header still has room."""

MAX_VERDICT_S = 60.0
"""The longest that an edge may wait for a verdict; its own settings allow less."""

MAX_FEATURES = 64
"""Room to grow for the features of a ranker, of which there are two dozen now."""

# `\A…\Z`, because `$` would let a trailing newline through.
Identifier = Annotated[str, Meta(pattern=r"\A(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")]
Text = Annotated[str, Meta(pattern=r"\A[ -~]{0,200}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Side = Annotated[int, Meta(ge=1, le=65_500)]
Real = Annotated[float, Meta(ge=-1e9, le=1e9)]  # bounds also refuse NaN and infinities
Seconds = Annotated[float, Meta(ge=0, le=1e11)]  # since the epoch
Probability = Annotated[float, Meta(gt=0, le=1)]
Window = Annotated[int, Meta(ge=1, le=4096)]
Pace = Annotated[float, Meta(gt=0, le=64)]
Share = Annotated[float, Meta(ge=0, le=1)]
Counts = Annotated[dict[Identifier, Count], Meta(max_length=64)]


class WireDetections(msgspec.Struct, frozen=True):
    """Detections as raw little-endian arrays: `boxes` float32 N×4, `scores` float32 N, `labels` uint8 N."""

    boxes: Annotated[bytes, Meta(max_length=16 * MAX_BOXES)]
    scores: Annotated[bytes, Meta(max_length=4 * MAX_BOXES)]
    labels: Annotated[bytes, Meta(max_length=MAX_BOXES)]


class WireFeatures(msgspec.Struct, frozen=True):
    """What a ranker reads of a frame (`features.py`); `spec` says which features these are."""

    spec: Count
    values: Annotated[list[Real], Meta(max_length=MAX_FEATURES)]


class Beside(msgspec.Struct, frozen=True):
    """What a model found in a frame that another one forwarded, in the same pixels; its shadow, see `ModelOffer`."""

    model_id: Identifier
    detections: WireDetections


class CameraState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One camera's counters since its agent started, as told in Hello and Heartbeat.

    `losses` counts scored frames per bucket of `LOSS_BUCKETS`, those above the last one at the end; `threshold` is one
    of the loss, 0 while a `ranker` chooses. Bytes and spool are the agent's, all its cameras together. `paused`,
    `frames_per_window`, `frame`, `pace` and `profile` say which `Desired` the camera follows; one that knows no pace
    tells none, and none whose own settings skip frames tells a profile.
    `outputs` are the agent's that are down or drop records, with what is wrong; its first camera alone tells of them.
    `through_cloud`: LivePictures are sent. `shadow` names the model that runs beside the one in use, or is about to, ""
    where none does, and an edge that knows of none tells None; it ran on `shadowed` frames since it was made ready.
    """

    camera: Identifier
    state: Identifier
    model_id: Identifier
    seen: Count
    inferred: Count
    forwarded: Counts
    spooled: Count
    acked: Count
    evicted: Count
    dropped: Counts
    threshold: Real
    loss_mean: Real
    skipped: Counts = {}
    losses: Annotated[list[Count], Meta(max_length=64)] = []
    bytes_sent: Count = 0
    bytes_received: Count = 0
    spool_bytes: Count = 0
    spool_frames: Count = 0
    paused: bool = False
    frames_per_window: Count = 0
    frame: Count = 0
    ranker: bool = False
    outputs: Annotated[dict[Text, Text], Meta(max_length=MAX_OUTPUTS)] = {}
    through_cloud: bool = False
    pace: Pace | None = None
    shadow: Text | None = None
    shadowed: Count = 0
    profile: Profile | None = None


Cameras = Annotated[list[CameraState], Meta(max_length=MAX_CAMERAS)]


class _Message(msgspec.Struct, frozen=True, tag=True):
    """The name of the struct travels as `type`."""


class Hello(_Message, frozen=True, omit_defaults=True):
    """First words on a connection; `boot` names this start of the agent, so that `(boot, seq)` never repeats.

    Without `speaks` it is of version 0.2 or before, which refuses fields that it does not know.
    """

    software: Text
    boot: Identifier
    cameras: Cameras
    speaks: Speaks | None = None


class HardFrame(_Message, frozen=True, omit_defaults=True):
    """A frame worth training on; its JPEG is the second part.

    `frame` is its index in the stream, `pts` seconds of stream time, `captured` the wall clock, `width` and `height`
    pixels of the JPEG, `sha256` that of the JPEG, `detections` the student's, in those pixels, `features` those that it
    was chosen by or might have been. `probability` is that with which an audit was drawn, None for any other frame.
    `ignored` are the places that the camera ignored when the frame was judged: nothing in `detections` stands there.
    `shadow` is what the model found that ran beside the one in use, in ignored places too, None where none looked.
    `echo` is what an audit tells of the frames before it (`echo.py`); b"": nothing.
    """

    camera: Identifier
    boot: Identifier
    seq: Count
    frame: Count
    pts: Real
    captured: Seconds
    reason: Literal["hard", "audit", "bootstrap", "manual"]
    loss: Real
    model_id: Identifier
    width: Side
    height: Side
    sha256: Sha256
    detections: WireDetections
    features: WireFeatures | None = None
    probability: Probability | None = None
    ignored: Places = ()
    shadow: Beside | None = None
    echo: Annotated[bytes, Meta(max_length=MAX_ECHO)] = b""


class Heartbeat(_Message, frozen=True):
    """Counters of every camera, sent at a steady interval."""

    boot: Identifier
    cameras: Cameras


class ModelRequest(_Message, frozen=True, omit_defaults=True):
    """Ask for `length` bytes of a model from `offset` on, or of what changed since one of `bases`.

    Those are the SHA-256 of models that the edge has, best first; once it was told by which one, of that alone.
    """

    camera: Identifier
    model_id: Identifier
    offset: Annotated[int, Meta(ge=0, le=MAX_MODEL)]
    length: Annotated[int, Meta(ge=1, le=MAX_CHUNK)]
    bases: Annotated[tuple[Sha256, ...], Meta(max_length=MAX_BASES)] = ()


class SwapReport(_Message, frozen=True):
    """How a model fared at the edge; `gap_ms` is the longest time between two results of the camera across the swap."""

    camera: Identifier
    model_id: Identifier
    previous: Identifier | None
    outcome: Literal["live", "rejected", "rolled-back"]
    reason: Text
    gap_ms: Annotated[float, Meta(ge=0, le=1e9)]
    at: Seconds


class LivePicture(_Message, frozen=True, omit_defaults=True):
    """What a camera sees now, for who looks at it on the cloud's page; its JPEG is the second part, made smaller.

    `width` and `height` are pixels of the frame, in which `detections` are; None: there is no model, or none for this
    size. Nothing answers it, and it is never sent again.
    """

    camera: Identifier
    captured: Seconds
    model_id: Identifier
    width: Side
    height: Side
    detections: WireDetections | None = None


class Escalate(_Message, frozen=True, omit_defaults=True):
    """Ask for the teacher's answer on a frame whose student is unsure; the frame's JPEG is the second part.

    It is sent where the Welcome says `verdicts`, once, and never again. `seq` is the number of the question since the
    agent's start `boot`; it is not that of a HardFrame. After `within_s` seconds the student's answer stands, and no
    Verdict is wanted any more. `model_id` is the student's, by whose classes the Verdict is to speak.
    """

    camera: Identifier
    boot: Identifier
    seq: Count
    captured: Seconds
    within_s: Annotated[float, Meta(gt=0, le=MAX_VERDICT_S)]
    model_id: Identifier
    width: Side
    height: Side


class Welcome(_Message, frozen=True, omit_defaults=True):
    """Answer to Hello, and to every Heartbeat so that an idle link is heard; `window` frames may be unacknowledged.

    It has `speaks` where the Hello had. With `verdicts`, Escalates are answered; without, none is sent.
    """

    software: Text
    window: Window
    speaks: Speaks | None = None
    verdicts: bool = False


class Ack(_Message, frozen=True):
    """The frame and its row are fsynced: the edge may delete it."""

    boot: Identifier
    seq: Count
    window: Window


class Nack(_Message, frozen=True):
    """The frame was not stored. `retry` says whether sending it again, later, can help."""

    boot: Identifier
    seq: Count
    reason: Text
    retry: bool


class ModelOffer(_Message, frozen=True, omit_defaults=True):
    """A signed manifest (see `manifest.py`) of a model for `camera`, which is to be in use.

    With a `shadow` it is only to run beside the one in use, on that share of the frames; with 0 not that any more. It
    is sent to edges that tell theirs.
    """

    camera: Identifier
    manifest: Annotated[bytes, Meta(min_length=1, max_length=MAX_MANIFEST)]
    shadow: Share | None = None


class ModelChunk(_Message, frozen=True, omit_defaults=True):
    """Bytes of a model from `offset` on (second part), of `total` bytes in all.

    With a `base`, one of those asked for, they are bytes of the delta from that model (`delta.py`), and so is `total`.
    """

    camera: Identifier
    model_id: Identifier
    offset: Annotated[int, Meta(ge=0, le=MAX_MODEL)]
    total: Annotated[int, Meta(ge=1, le=MAX_MODEL)]
    base: Sha256 | None = None


class Desired(_Message, frozen=True, omit_defaults=True, tag="Orders"):
    """The state that an operator wants a camera to be in; version 1 of the protocol calls it `Orders`.

    It chooses no frame while `paused`, `frames_per_window` is its budget in place of that of its settings, and `frame`
    is the number of the request for one frame now, which is met once. By `pace` its candidates are multiplied, its
    audits are as many as ever; None is 1. By `profile` its student looks at fewer frames; None: at all. Both are told
    to edges that tell theirs.
    """

    camera: Identifier
    paused: bool
    frames_per_window: Annotated[int, Meta(ge=1, le=100_000)] | None
    frame: Count | None
    pace: Pace | None = None
    profile: Profile | None = None


class Look(_Message, frozen=True):
    """Somebody looks at a camera: its edge sends one LivePicture within so many seconds, when no hard frame waits.

    It is sent to edges that say `through_cloud`, and again after each picture while somebody looks, so that there is
    never more than one picture of a camera on a thin line.
    """

    camera: Identifier
    seconds: Annotated[float, Meta(ge=0, le=60)]


class Verdict(_Message, frozen=True, omit_defaults=True):
    """Answer to an Escalate: what the `teacher` of that name sees in its frame, in pixels of it; labels are those of
    the student's classes. None: there will be no answer, for that `reason`.
    """

    camera: Identifier
    boot: Identifier
    seq: Count
    detections: WireDetections | None = None
    teacher: Text = ""
    reason: Text = ""


class Refused(_Message, frozen=True):
    """The last message was not understood, or not allowed; the link lives on."""

    reason: Text


FromEdge: TypeAlias = Hello | HardFrame | Heartbeat | ModelRequest | SwapReport | LivePicture | Escalate
FromCloud: TypeAlias = Welcome | Ack | Nack | ModelOffer | ModelChunk | Desired | Look | Verdict | Refused
Message: TypeAlias = FromEdge | FromCloud
Sender = Literal["edge", "cloud"]

_ENCODER = msgspec.msgpack.Encoder()
_FROM_EDGE: msgspec.msgpack.Decoder[FromEdge] = msgspec.msgpack.Decoder(FromEdge)
_FROM_CLOUD: msgspec.msgpack.Decoder[FromCloud] = msgspec.msgpack.Decoder(FromCloud)
_PAYLOAD_CAPS: dict[type[Message], int] = {
    HardFrame: MAX_JPEG,
    ModelChunk: MAX_CHUNK,
    LivePicture: MAX_LIVE,
    Escalate: MAX_JPEG,
}


def pack(message: Message, payload: bytes | None = None) -> list[bytes]:
    """Return the parts of `message`: the header and, where its type carries one, the payload.

    Raises ProtocolError when the message is larger than the other side accepts.
    """
    header = bytes([PROTOCOL_VERSION]) + _ENCODER.encode(message)
    _check_length(len(header), MAX_OFFER if isinstance(message, ModelOffer) else MAX_HEADER, type(message).__name__)
    _check_payload(message, payload)
    return [header] if payload is None else [header, payload]


def unpack(parts: Sequence[bytes], kind: Sender) -> tuple[Message, bytes | None]:
    """Return the message and payload in `parts`, sent by the side `kind`.

    Raises ProtocolError with reason `empty`, `oversized`, `version`, `unknown-type`, `malformed`, `payload-missing` or
    `payload-unexpected`.
    """
    if not 1 <= len(parts) <= 2:
        raise ProtocolError("empty" if not parts else "payload-unexpected", f"a message of {len(parts)} parts")
    header, payload = parts[0], parts[1] if len(parts) == 2 else None
    _check_length(len(header), MAX_HEADER if kind == "edge" else MAX_OFFER, "header")
    if not header:
        raise ProtocolError("empty", "the header is empty")
    if not SPEAKS.oldest <= header[0] <= SPEAKS.newest:
        raise ProtocolError("version", f"the peer speaks protocol version {header[0]}, this side {SPEAKS}")
    message = _decode(header, kind)
    _check_payload(message, payload)
    return message, payload


def plain(text: str) -> str:
    """Return `text` cut and cleaned to what a `Text` field carries: at most 200 printable ASCII characters."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:200])


def to_wire(found: Detections) -> WireDetections:
    """Return the best MAX_BOXES of `found`, ready to travel. Raises ProtocolError("malformed") on a label above 255."""
    best = np.argsort(-found.scores, kind="stable")[:MAX_BOXES]
    labels = found.labels[best]
    if len(labels) and not 0 <= labels.min() <= labels.max() <= 255:
        raise ProtocolError("malformed", f"labels {labels.min()}..{labels.max()} do not fit one byte")
    return WireDetections(
        boxes=found.boxes[best].astype("<f4").tobytes(),
        scores=found.scores[best].astype("<f4").tobytes(),
        labels=labels.astype(np.uint8).tobytes(),
    )


def from_wire(wire: WireDetections, class_count: int = 256) -> Detections:
    """Return the detections in `wire`, best first.

    Raises ProtocolError("malformed") unless the three arrays agree on N ≤ MAX_BOXES, everything is finite, corners are
    in order, scores lie in [0, 1] and fall, and labels are below `class_count`.
    """
    count = len(wire.labels)
    if count > MAX_BOXES or len(wire.scores) != 4 * count or len(wire.boxes) != 16 * count:
        raise ProtocolError("malformed", f"detections of {count} labels have other numbers of scores or boxes")
    boxes = np.frombuffer(wire.boxes, "<f4").reshape(count, 4).astype(np.float32)
    scores = np.frombuffer(wire.scores, "<f4").astype(np.float32)
    labels = np.frombuffer(wire.labels, np.uint8).astype(np.int64)
    if not _sound(boxes, scores):
        raise ProtocolError("malformed", "detections hold a box or score that is not finite, in range and in order")
    if (labels >= class_count).any():
        raise ProtocolError("malformed", f"detections hold label {labels.max()}, but there are {class_count} classes")
    return Detections(boxes, scores, labels)


def _sound(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> bool:
    # Comparisons with NaN are false, so every rule is written as what must hold.
    within = (np.abs(boxes) <= 1e6).all() and (boxes[:, :2] <= boxes[:, 2:]).all()
    return bool(within and ((scores >= 0) & (scores <= 1)).all() and (scores[:-1] >= scores[1:]).all())


def _decode(header: bytes, kind: Sender) -> Message:
    decoder = _FROM_EDGE if kind == "edge" else _FROM_CLOUD
    try:
        return decoder.decode(memoryview(header)[1:])
    except msgspec.ValidationError as error:
        reason = "unknown-type" if str(error).endswith("`$.type`") else "malformed"
        raise ProtocolError(reason, plain(f"a message from the {kind} was refused: {error}")) from None
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError("malformed", plain(f"bytes from the {kind} are not MessagePack: {error}")) from None


def _check_payload(message: Message, payload: bytes | None) -> None:
    name = type(message).__name__
    cap = _PAYLOAD_CAPS.get(type(message))
    if cap is None and payload is not None:
        raise ProtocolError("payload-unexpected", f"{name} carries no payload")
    if cap is not None:
        if not payload:
            raise ProtocolError("payload-missing", f"{name} came without its payload")
        _check_length(len(payload), cap, f"{name} payload")


def _check_length(length: int, cap: int, what: str) -> None:
    if length > cap:
        raise ProtocolError("oversized", f"{what} of {length} bytes, at most {cap} are accepted")
