"""Reads arrays out of a pickle, and nothing else: a pickle may call any function of any module, so none is looked up
but those that numpy's arrays are made of.
"""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.common.errors import ModelError

MOST_BYTES = 4 << 30


def _encode(text: str, encoding: str) -> bytes:
    """What protocol 2 writes bytes with; `codecs.encode` itself would run any codec, decompressors too."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding}")
    return codecs.latin_1_encode(text)[0]


def _array(kind: type, shape: tuple[int, ...], code: bytes) -> NDArray[Any]:
    """What numpy makes an empty array with, which its state is then set on."""
    return np.ndarray.__new__(np.ndarray, shape, "b")


def _scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    if dtype.hasobject:
        raise pickle.UnpicklingError("an object")
    return np.frombuffer(data, dtype)[0]


def _dtype(code: str, *rest: Any) -> np.dtype[Any]:
    """Return a plain number's type; one of objects would let an array hold anything."""
    dtype = np.dtype(code)
    if dtype.kind not in "fiub":
        raise pickle.UnpicklingError(f"values of type {code}")
    return dtype


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): np.ndarray,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}


class _Arrays(pickle.Unpickler):
    """Finds nothing but what arrays are made of."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference to outside of the file")


def read_arrays(file: Path) -> dict[str, NDArray[np.float32]]:
    """Return the arrays in a pickled table, by name, as float32; those of a table `model` in it, if there is one.

    Raises `ModelError` for a file that is missing, damaged, or holds anything but arrays, texts and numbers.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ModelError(f"{file}: has more than {MOST_BYTES} bytes")
        with file.open("rb") as stream:
            held = _Arrays(stream, encoding="latin1").load()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from None
    except pickle.UnpicklingError as error:
        raise ModelError(f"{file}: holds {error}, which is not read: expected a table of plain arrays") from None
    except Exception as error:  # a damaged pickle may raise whatever numpy and pickle do
        raise ModelError(f"{file}: not a table of plain arrays ({str(error).splitlines()[0][:120]})") from None
    held = held.get("model", held) if isinstance(held, Mapping) else held
    if not isinstance(held, Mapping):
        raise ModelError(f"{file}: not a table of plain arrays: it holds one {type(held).__name__}")
    return dict(_arrays(held))


def _arrays(held: Mapping[Any, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, value in held.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            yield str(name), np.ascontiguousarray(value, np.float32)
