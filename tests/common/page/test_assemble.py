from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from culling.common.page.assemble import ENTRY, EXPORT, IMPORT, assemble, join_modules, read_modules

NAMED = re.compile(r"^(export )?(?:async )?(?:function|const|let) ([\w$]+)", re.MULTILINE)
IMPORTED = re.compile(r'^import \{ ([\w$, ]+) \} from "\./(\w+)\.js";$', re.MULTILINE)
PAGES = {package: read_modules(package) for package in ("culling.cloud.page", "culling.edge.view")}
MODULES = [(package, name) for package, modules in PAGES.items() for name in modules]


def exported(text: str) -> set[str]:
    return {name for export, name in NAMED.findall(text) if export}


def wanted_of(package: str, module: str) -> Iterator[str]:
    for text in PAGES[package].values():
        for names, other in IMPORTED.findall(text):
            yield from names.split(", ") if other == module else ()


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_a_module_imports_what_others_export_and_uses_it(package: str, module: str) -> None:
    text = PAGES[package][module]
    body = IMPORT.sub("", text)
    for names, other in IMPORTED.findall(text):
        for name in names.split(", "):
            assert name in exported(PAGES[package][other]), f"{other}.js exports no {name}"
            assert re.search(rf"(?:(?<![\w$.])|(?<=\.\.\.)){re.escape(name)}(?![\w$])", body), (
                f"{name} is imported for nothing"
            )


@pytest.mark.parametrize("module", sorted({name for _, name in MODULES} - {ENTRY}))
def test_what_a_module_exports_is_imported_somewhere(module: str) -> None:
    mine = [package for package in PAGES if module in PAGES[package]]
    wanted = {name for package in mine for name in wanted_of(package, module)}
    assert set().union(*(exported(PAGES[package][module]) for package in mine)) - wanted == set()


@pytest.mark.parametrize("package", PAGES)
def test_no_two_modules_use_a_name_for_different_things(package: str) -> None:
    names = [name for text in PAGES[package].values() for _, name in NAMED.findall(text)]
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


@pytest.mark.parametrize("package", PAGES)
def test_nothing_of_a_module_is_left_in_the_page_that_a_classic_script_does_not_know(package: str) -> None:
    joined = join_modules(PAGES[package])
    assert not IMPORT.search(joined)
    assert not EXPORT.search(joined)
    assert not re.search(r"^(import|export)\b", joined, re.MULTILINE)


@pytest.mark.parametrize("package", PAGES)
def test_a_page_loads_nothing_and_its_policy_lets_nothing_else_run(package: str) -> None:
    page, policy = assemble(package)
    for elsewhere in (b"http://", b"https://", b"src=", b"@import", b"url("):
        assert elsewhere not in page.replace(b"http://www.w3.org/2000/svg", b"")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
