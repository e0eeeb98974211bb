"""What changed by a round, as pictures in a document: the student before beside the new one, both with labels.

Each picture is shrunk and written once, and shown twice. Solid boxes are the student's, thick ones the new student's,
dashed ones the labels: that is read without colours too.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from culling.cloud.page import views
from culling.cloud.page.changed import changed
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.objects.objects import LostError
from culling.common.scaler import resize
from culling.common.wire.codec import decode_jpeg, encode_jpeg

FRAMES = 3
"""Of a round: a document is read, not searched."""

WIDE = 400
"""Pixels across: what a column of a page has on a screen, and on paper."""

QUALITY = 70
"""Of the JPEG: boxes are drawn beside it, not in it."""

STYLE = (
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.5rem;margin:.6rem 0}"
    ".pair figure{margin:0}.pair svg{width:100%;height:auto;display:block;background:#000}"
    ".pair figcaption{font-size:.85em}.pair rect{fill:none;vector-effect:non-scaling-stroke}"
    ".rim{stroke:#000;stroke-opacity:.6;stroke-width:5}.s{stroke:#56b4ff;stroke-width:2}"
    ".n{stroke:#7ee081;stroke-width:4}.t{stroke:#ffb020;stroke-width:2;stroke-dasharray:7 4}"
    ".pair text{font-weight:600;fill:#fff;paint-order:stroke;stroke:#000}"
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Stills:
    """Where rounds and pictures are read from."""

    index: Index
    settings: CloudSettings
    store: FrameStore

    def of(self, round_id: int, most: int = FRAMES) -> str:
        """Return what changed by a round as HTML, "" where its gate kept nothing."""
        found = changed(self.index, self.settings, round_id)
        if found is None:
            return ""
        if not found["frames"] and not found["gone"]:
            return "<p><b>What changed:</b> both students find the same on every held-out frame.</p>"
        head = "<h4>What changed</h4>" + (f'<p class="soft">{_text(found["gone_told"])}</p>' if found["gone"] else "")
        return head + "".join(self._pair(found, frame) for frame in found["frames"][:most])

    def _pair(self, found: Row, frame: Row) -> str:
        at = datetime.fromtimestamp(frame["captured"], UTC).strftime("%d %b %H:%M UTC")
        told = f'<p class="soft">{_text(at)}: {_text(frame["told"])}</p>'
        if (jpeg := self._picture(frame["id"])) is None:
            return f"{told}<p>Its picture cannot be read.</p>"
        name = f"f{found['round']}-{frame['id']}"
        size = f'width="{frame["width"]}" height="{frame["height"]}"'
        data = f'<image id="{name}" {size} href="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"/>'
        sides = (
            ("s", f"before: {found['before']}", frame["before"], f"<defs>{data}</defs>"),
            ("n", f"new: {found['after'] or 'the candidate'}", frame["after"], ""),
        )
        both = "".join(
            f"<figure>{_drawn(frame, by, boxes, label, defined, name)}<figcaption>{_text(label)}</figcaption></figure>"
            for by, label, boxes, defined in sides
        )
        return f'{told}<div class="pair">{both}</div>'

    def _picture(self, name: str) -> bytes | None:
        known = views.picture(self.index, name)
        try:
            jpeg = None if known is None else self.store.picture(known[0], name, known[1])
        except LostError:
            return None
        if jpeg is None:
            return None
        rgb = decode_jpeg(jpeg)
        height, width = rgb.shape[:2]
        if width > WIDE:
            rgb = resize(rgb, max(1, round(height * WIDE / width)), WIDE)
        return encode_jpeg(rgb, QUALITY)


def _drawn(frame: Row, by: str, boxes: Sequence[Any], label: str, defined: str, name: str) -> str:
    parts = [*_boxes(frame, boxes, by), *_boxes(frame, frame["teacher"] or (), "t")]
    return (
        f'<svg viewBox="0 0 {frame["width"]} {frame["height"]}" role="img" aria-label="{_text(label)}">{defined}'
        f'<use href="#{name}"/>{"".join(parts)}</svg>'
    )


def _boxes(frame: Row, boxes: Sequence[Any], by: str) -> Iterator[str]:
    size = frame["width"] / 30
    for x1, y1, x2, y2, score, label in boxes:
        place = f'x="{x1}" y="{y1}" width="{max(0.0, x2 - x1):.1f}" height="{max(0.0, y2 - y1):.1f}"'
        if by == "t":
            yield f'<rect class="t" {place}/>'
            continue
        text = f"{_text(str(label))} {score:.2f}"
        above = max(size, y1 - size / 4)
        yield f'<rect class="rim" {place}/><rect class="{by}" {place}/>'
        yield f'<text x="{x1}" y="{above:.1f}" font-size="{size:.1f}" stroke-width="{size / 5:.1f}">{text}</text>'


def _text(value: str) -> str:
    return html.escape(value)
