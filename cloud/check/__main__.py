"""Opens the teacher of a settings file and says what it is: `python -m culling.cloud.check FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from culling.cloud.model.distil.loss import cannot
from culling.cloud.model.family import family_named
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.teacher.loading import Teachers, load_teachers
from culling.common.errors import CullingError, ModelError


def main(arguments: Sequence[str]) -> int:
    """Return 0 when the teacher of the settings file opens, else the error's exit code, with a line on stderr."""
    try:
        settings = load_settings(Path(arguments[0]), {})
        teachers = load_teachers(settings)
        for one in settings.classes.values():
            teachers.saying(one.names)
        if settings.round.distil:
            check_distil(settings, teachers)
        teacher = teachers.own if settings.classes else teachers.saying(settings.default_classes)
    except CullingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    file = f" {settings.teacher.file.name}" if settings.teacher.file else ""
    print(f"{settings.teacher.kind}{file}, on {teacher.device}, {len(teacher.names)} classes")
    return 0


def check_distil(settings: CloudSettings, teachers: Teachers) -> None:
    """Raise ModelError where `round.distil` is not for this teacher, or not for students of this family."""
    if family_named(settings.student.family).passing is None:
        raise ModelError(cannot(settings.student.family))
    for one in settings.class_sets.values():
        teachers.tutor(one.names)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
