from __future__ import annotations

import re

import pytest

from culling.cloud.page.assemble import ENTRY, EXPORT, IMPORT, join_modules, read_modules

NAMED = re.compile(r"^(export )?(?:async )?(?:function|const|let) ([\w$]+)", re.MULTILINE)
IMPORTED = re.compile(r'^import \{ ([\w$, ]+) \} from "\./(\w+)\.js";$', re.MULTILINE)
MODULES = read_modules()


def exported(module: str) -> set[str]:
    return {name for export, name in NAMED.findall(MODULES[module]) if export}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_others_export_and_uses_it(module: str) -> None:
    body = IMPORT.sub("", MODULES[module])
    for names, other in IMPORTED.findall(MODULES[module]):
        for name in names.split(", "):
            assert name in exported(other), f"{other}.js exports no {name}"
            assert re.search(rf"(?:(?<![\w$.])|(?<=\.\.\.)){re.escape(name)}(?![\w$])", body), (
                f"{name} is imported for nothing"
            )


@pytest.mark.parametrize("module", [name for name in MODULES if name != ENTRY])
def test_what_a_module_exports_is_imported_somewhere(module: str) -> None:
    wanted = {
        name
        for text in MODULES.values()
        for names, other in IMPORTED.findall(text)
        if other == module
        for name in names.split(", ")
    }
    assert exported(module) - wanted == set()


def test_no_two_modules_use_a_name_for_different_things() -> None:
    names = [name for text in MODULES.values() for _, name in NAMED.findall(text)]
    assert sorted(names) == sorted(set(names))


def test_modules_are_joined_in_the_order_in_which_they_need_each_other() -> None:
    joined = join_modules(
        {
            "main": 'import { a } from "./one.js";\nimport { b } from "./two.js";\na(b);\n',
            "one": 'import { b } from "./two.js";\nexport const a = b;\n',
            "two": "export const b = 1;\n",
        }
    )
    assert joined == '"use strict";\nconst b = 1;\nconst a = b;\na(b);\n'


def test_nothing_of_a_module_is_left_in_the_page_that_a_classic_script_does_not_know() -> None:
    joined = join_modules(MODULES)
    assert not IMPORT.search(joined)
    assert not EXPORT.search(joined)
    assert not re.search(r"^(import|export)\b", joined, re.MULTILINE)
