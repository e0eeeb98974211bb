"""YOLOX as a torch module: CSPDarknet, a path-aggregating pyramid, and a decoupled head without anchors.

After Ge et al., *YOLOX: Exceeding YOLO Series in 2021* (arXiv 2107.08430), in the sizes nano and tiny. Convolutions
have a bias in place of a norm, as they come out of an ONNX file: with the few frames of a round, running statistics
would have to stand still anyway.

Images are `(B, 3, H, W)` float in [0, 1], RGB, H and W multiples of `detector.STRIDE`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Pixels of the input for one cell of each level."""

PRIOR = 0.01
"""Score that every cell of a new class starts with (Lin et al., arXiv 1708.02002): few cells hold an object."""


@dataclass(frozen=True)
class YoloxSpec:
    """The dimensions of one size: channels of the stem, blocks of a stage, and whether convolutions are depthwise."""

    width: int
    depth: int
    depthwise: bool

    @property
    def head(self) -> int:
        """Channels of the head."""
        return self.width * 4


NANO = YoloxSpec(width=16, depth=1, depthwise=True)
TINY = YoloxSpec(width=24, depth=1, depthwise=False)


class Yolox(nn.Module):
    """A detector of `classes` classes; what it puts out for each cell stands at `forward`."""

    def __init__(self, spec: YoloxSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.classes = spec, classes
        self.trunk = _Trunk(spec)
        self.pyramid = _Pyramid(spec)
        self.head = _Head(spec, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return for all cells of all levels, finest first, `(B, N, …)`: box, objectness and class logits.

        A box is centre and size as the cell tells them (see `decode`), N is that of `cells`.
        """
        levels = self.head(self.pyramid(*self.trunk(images)))
        boxes, objects, classes = (
            torch.cat([level.flatten(2) for level in part], 2).transpose(1, 2) for part in zip(*levels, strict=True)
        )
        return boxes, objects, classes


def cells(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the places `(N, 2)` of all cells of an input, x and y in cells, and their strides `(N, 1)`, in pixels."""
    places, strides = [], []
    for stride in STRIDES:
        y = torch.arange(height // stride, device=device)
        x = torch.arange(width // stride, device=device)
        y, x = torch.meshgrid(y, x, indexing="ij")
        place = torch.stack([x, y], 2).flatten(0, 1).float()
        places.append(place)
        strides.append(torch.full_like(place[:, :1], stride))
    return torch.cat(places), torch.cat(strides)


def decode(boxes: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """Return the boxes `(…, N, 4)`, xyxy in pixels, that all cells tell."""
    centre = (boxes[..., :2] + places) * strides
    half = boxes[..., 2:].clamp(max=MOST_GROWTH).exp() * strides / 2
    return torch.cat([centre - half, centre + half], -1)


MOST_GROWTH = 8.0
"""e to this times 32 pixels is wider than any input; beyond it, an untrained head's boxes overflow."""


class _Conv(nn.Conv2d):
    """A convolution that keeps the size, or divides it by its stride, and SiLU."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


def _wide(spec: YoloxSpec, channels: int, out: int, stride: int = 1) -> nn.Module:
    """Return a 3x3 convolution, in two parts where the size is a depthwise one."""
    if not spec.depthwise:
        return _Conv(channels, out, 3, stride)
    return nn.Sequential(_Conv(channels, channels, 3, stride, groups=channels), _Conv(channels, out, 1))


class _Block(nn.Module):
    def __init__(self, spec: YoloxSpec, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.narrow, self.wide = _Conv(channels, channels, 1), _wide(spec, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.wide(self.narrow(x))
        return found + x if self.shortcut else found


class _Stage(nn.Module):
    """A cross-stage-partial stage: half of the channels go through the blocks, half past them."""

    def __init__(self, spec: YoloxSpec, channels: int, out: int, blocks: int, shortcut: bool) -> None:
        super().__init__()
        half = out // 2
        self.through, self.past, self.join = _Conv(channels, half, 1), _Conv(channels, half, 1), _Conv(out, out, 1)
        self.blocks = nn.Sequential(*(_Block(spec, half, shortcut) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        through, past = self.through(x), self.past(x)
        found: Tensor = self.join(torch.cat([self.blocks(through), past], 1))
        return found


class _Pooled(nn.Module):
    """Spatial pyramid pooling: what lies within 5, 9 and 13 cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow, self.join = _Conv(channels, channels // 2, 1), _Conv(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        found: Tensor = self.join(torch.cat([x, *(F.max_pool2d(x, side, 1, side // 2) for side in (5, 9, 13))], 1))
        return found


class _Trunk(nn.Module):
    def __init__(self, spec: YoloxSpec) -> None:
        super().__init__()
        width, depth = spec.width, spec.depth
        self.stem = _Conv(12, width, 3)
        self.stage2 = nn.Sequential(
            _wide(spec, width, width * 2, 2), _Stage(spec, width * 2, width * 2, depth, shortcut=True)
        )
        self.stage3 = nn.Sequential(
            _wide(spec, width * 2, width * 4, 2), _Stage(spec, width * 4, width * 4, depth * 3, shortcut=True)
        )
        self.stage4 = nn.Sequential(
            _wide(spec, width * 4, width * 8, 2), _Stage(spec, width * 8, width * 8, depth * 3, shortcut=True)
        )
        self.stage5 = nn.Sequential(
            _wide(spec, width * 8, width * 16, 2),
            _Pooled(width * 16),
            _Stage(spec, width * 16, width * 16, depth, shortcut=False),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = images.flip(1) * 255  # its weights were learnt on BGR from 0 to 255
        corners = [pixels[..., y::2, x::2] for x in (0, 1) for y in (0, 1)]
        third = self.stage3(self.stage2(self.stem(torch.cat(corners, 1))))
        fourth = self.stage4(third)
        return third, fourth, self.stage5(fourth)


class _Pyramid(nn.Module):
    def __init__(self, spec: YoloxSpec) -> None:
        super().__init__()
        width, depth = spec.width, spec.depth
        self.narrow5 = _Conv(width * 16, width * 8, 1)
        self.down4 = _Stage(spec, width * 16, width * 8, depth, shortcut=False)
        self.narrow4 = _Conv(width * 8, width * 4, 1)
        self.down3 = _Stage(spec, width * 8, width * 4, depth, shortcut=False)
        self.halve3 = _wide(spec, width * 4, width * 4, 2)
        self.up4 = _Stage(spec, width * 8, width * 8, depth, shortcut=False)
        self.halve4 = _wide(spec, width * 8, width * 8, 2)
        self.up5 = _Stage(spec, width * 16, width * 16, depth, shortcut=False)

    def forward(self, third: Tensor, fourth: Tensor, fifth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        narrow5 = self.narrow5(fifth)
        narrow4 = self.narrow4(self.down4(torch.cat([_double(narrow5), fourth], 1)))
        finest = self.down3(torch.cat([_double(narrow4), third], 1))
        middle = self.up4(torch.cat([self.halve3(finest), narrow4], 1))
        return finest, middle, self.up5(torch.cat([self.halve4(middle), narrow5], 1))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class _Level(nn.Module):
    """The head of one level: what class, and where and whether, are found apart."""

    def __init__(self, spec: YoloxSpec, channels: int, classes: int) -> None:
        super().__init__()
        width = spec.head
        self.stem = _Conv(channels, width, 1)
        self.what = nn.Sequential(_wide(spec, width, width), _wide(spec, width, width))
        self.where = nn.Sequential(_wide(spec, width, width), _wide(spec, width, width))
        self.classes, self.box, self.object = (nn.Conv2d(width, out, 1) for out in (classes, 4, 1))
        for score in (self.classes, self.object):
            nn.init.constant_(score.bias, -torch.tensor((1 - PRIOR) / PRIOR).log().item())  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        classes = self.classes(self.what(x))
        where = self.where(x)
        return self.box(where), self.object(where), classes


class _Head(nn.Module):
    def __init__(self, spec: YoloxSpec, classes: int) -> None:
        super().__init__()
        width = spec.width
        self.levels = nn.ModuleList(_Level(spec, channels, classes) for channels in (width * 4, width * 8, width * 16))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [level(feature) for level, feature in zip(self.levels, features, strict=True)]
