"""Every error Culling raises on purpose, and the exit code each one ends a command with.

    CullingError                  1   anything of ours that has no better name
    ├── SettingsError             2   a setting is unknown, missing, of the wrong type, or names a port that is taken
    ├── InputError                3   a file or label that a person named cannot be used
    ├── CameraError               4   a camera or video cannot be opened or read
    ├── ModelError                5   a model or weights file was refused
    │   └── ManifestError         5   a signed manifest was refused
    ├── ProtocolError             6   a peer sent something we do not accept
    ├── StorageError              7   a spool, store or index cannot be read or written
    ├── TrainingError             8   a training run stopped, e.g. on a loss that is not finite
    └── MissingExtraError         9   the command needs an extra that is not installed

Messages are one line: what was wrong, where, and what to do. They never hold a secret.
"""

from __future__ import annotations


class CullingError(Exception):
    """Base of all errors raised on purpose; `exit_code` ends the command that meets it."""

    exit_code = 1


class SettingsError(CullingError):
    exit_code = 2


class InputError(CullingError):
    exit_code = 3


class CameraError(CullingError):
    exit_code = 4


class ModelError(CullingError):
    exit_code = 5


class ManifestError(ModelError):
    """A manifest was refused; `reason` is a short stable word for counters and tests."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ProtocolError(CullingError):
    """A message was refused; `reason` is a short stable word sent back in a Nack."""

    exit_code = 6

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StorageError(CullingError):
    exit_code = 7


class TrainingError(CullingError):
    exit_code = 8


class MissingExtraError(CullingError):
    exit_code = 9
