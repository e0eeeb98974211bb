from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from culling.cloud.teacher.pickled import read_arrays
from culling.common.errors import ModelError


def write(path: Path, held: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(held, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_of_every_protocol_are_read(protocol: int, tmp_path: Path) -> None:
    held = OrderedDict(a=np.arange(6, dtype=np.float32).reshape(2, 3), b=np.float32([0.5]), c=np.arange(3))
    found = read_arrays(write(tmp_path / "a.pkl", {"model": held, "__author__": "x"}, protocol))
    assert found.keys() == {"a", "b", "c"}
    np.testing.assert_array_equal(found["a"], held["a"])
    assert found["c"].dtype == np.float32


def test_what_older_versions_of_numpy_wrote_is_read(tmp_path: Path) -> None:
    new = pickle.dumps({"a": np.float32([1, 2])}, protocol=2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "old.pkl").write_bytes(old)
    assert read_arrays(tmp_path / "old.pkl")["a"].tolist() == [1, 2]


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize(
    "call",
    [
        Calls(os.system, "touch {}"),
        Calls(eval, "open('{}', 'w')"),
        Calls(getattr, np.zeros(1), "tofile"),
        Calls(np.load, "{}"),
        Calls(bytes.__new__, bytes),
    ],
    ids=["system", "eval", "getattr", "numpy", "bytes"],
)
def test_a_pickle_that_calls_anything_is_refused_before_it_does(call: Calls, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = write(tmp_path / "evil.pkl", {"model": {"a": call}})
    path.write_bytes(path.read_bytes().replace(b"{}", str(mark).encode()[:2]))
    with pytest.raises(ModelError, match=r"evil\.pkl: (holds .*, which is not read|not a table)"):
        read_arrays(path)
    assert not mark.exists()


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "objects.pkl", {"a": np.array([{}, None], dtype=object)})
    with pytest.raises(ModelError, match="values of type O"):
        read_arrays(path)


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"not a pickle", b"\x80\x02]q\x00."])
def test_a_damaged_file_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.pkl: not a table of plain arrays|bad\.pkl: holds"):
        read_arrays(tmp_path / "bad.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pkl: cannot be read: No such file"):
        read_arrays(tmp_path / "none.pkl")
