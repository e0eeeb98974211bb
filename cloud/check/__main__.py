"""Opens the teacher of a settings file and says what it is: `python -m culling.cloud.check FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from culling.cloud.settings import load_settings
from culling.cloud.teacher.loading import load_teachers
from culling.common.errors import CullingError


def main(arguments: Sequence[str]) -> int:
    """Return 0 when the teacher of the settings file opens, else the error's exit code, with a line on stderr."""
    try:
        settings = load_settings(Path(arguments[0]), {})
        teachers = load_teachers(settings)
        for one in settings.classes.values():
            teachers.saying(one.names)
        teacher = teachers.own if settings.classes else teachers.saying(settings.default_classes)
    except CullingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    file = f" {settings.teacher.file.name}" if settings.teacher.file else ""
    print(f"{settings.teacher.kind}{file}, on {teacher.device}, {len(teacher.names)} classes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
