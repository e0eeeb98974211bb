"""Opens what keeps frames and models where the settings say that bytes lie."""

from __future__ import annotations

from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.store.registry import ModelFiles
from culling.common.clock import Clock


def frame_store(settings: CloudSettings, index: Index, clock: Clock) -> FrameStore:
    """Return the frames of every camera. Raises StorageError."""
    store = settings.store
    objects = open_objects(store.objects, settings.data_dir)
    return FrameStore(index, settings.data_dir / "frames", clock, store.held_out_block_s, store.guard_s, objects)


def model_files(settings: CloudSettings) -> ModelFiles:
    """Return the files of models; of a bucket the data folder has copies. Raises StorageError."""
    return ModelFiles(settings.data_dir / "models", open_objects(settings.store.objects, settings.data_dir))
