from __future__ import annotations

import struct

from culling.cloud.sheet import to_csv, to_png


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_rows_become_csv_with_their_keys_first() -> None:
    assert to_csv([{"n": 1, "name": "a,b"}, {"n": None, "name": "c"}]) == b'n,name\r\n1,"a,b"\r\n,c\r\n'
    assert to_csv([]) == b"nothing\r\n"


def test_panels_lie_side_by_side_and_may_hold_nothing() -> None:
    one = to_png(lambda axes: axes.plot([1, 2], label="a"))
    two = to_png(lambda axes: axes.plot([1, 2]), lambda axes: axes.set(title="empty"))
    assert size(two)[0] > size(one)[0]
    assert size(two)[1] == size(one)[1]
