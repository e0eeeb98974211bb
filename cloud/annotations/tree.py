"""XML as nested elements that know their line, read without document types, entities or anything from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax import ContentHandler, SAXException
from xml.sax.xmlreader import AttributesImpl, Locator

from defusedxml import DefusedXmlException
from defusedxml.sax import parseString

from culling.common.errors import InputError

DEEPEST = 32
"""Elements within each other; label files have six."""


@dataclass
class Element:
    """One element; `at` is "file:line", of its start."""

    tag: str
    attributes: dict[str, str]
    at: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Element]:
        """Yield the elements of that name directly in it."""
        return (child for child in self.children if child.tag == tag)

    def first(self, tag: str) -> Element:
        """Return the first element of that name directly in it. Raises InputError where there is none."""
        for child in self.all(tag):
            return child
        raise InputError(f"{self.at}: <{self.tag}> has no <{tag}>")

    def attribute(self, name: str) -> str:
        """Return an attribute. Raises InputError where it has none of that name."""
        if name not in self.attributes:
            raise InputError(f'{self.at}: <{self.tag}> has no {name}="..."')
        return self.attributes[name]

    def number(self, name: str | None = None) -> float:
        """Return its text, or its attribute `name`, as a number. Raises InputError."""
        text = self.text if name is None else self.attribute(name)
        try:
            return float(text)
        except ValueError:
            what = f"<{self.tag}>" if name is None else name
            raise InputError(f"{self.at}: {what} is {text.strip()!r}, expected a number") from None

    def size(self, name: str | None = None) -> int:
        """Return the same as a whole number of pixels. Raises InputError."""
        value = self.number(name)
        if not value.is_integer():
            raise InputError(f"{self.at}: {name or f'<{self.tag}>'} is {value}, expected a whole number")
        return int(value)


def parse(data: bytes, file: Path) -> Element:
    """Return the root element of a file's bytes. Raises InputError for what is no XML, or has a DOCTYPE."""
    builder = _Builder(file)
    try:
        parseString(data, builder, forbid_dtd=True)
    except DefusedXmlException:
        raise InputError(f"{file}: has a DOCTYPE or entities, which label files have no use for: remove them") from None
    except SAXException as error:
        line = getattr(error, "getLineNumber", lambda: None)()
        told = error.getMessage()
        raise InputError(f"{file}:{line}: not XML: {told}" if line else f"{file}: not XML: {told}") from None
    except (UnicodeDecodeError, LookupError, ValueError) as error:  # an encoding that is not, or is not known
        raise InputError(f"{file}: not XML: {error}") from None
    return builder.root.children[0]


class _Builder(ContentHandler):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self.root = Element("", {}, str(file))
        self._open = [self.root]
        self._texts: list[list[str]] = [[]]
        self._locator: Locator | None = None

    def setDocumentLocator(self, locator: Locator) -> None:  # noqa: N802
        self._locator = locator

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802
        assert self._locator is not None, "expat always sets one"
        if len(self._open) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} elements within each other")
        element = Element(name, dict(attrs.items()), f"{self._file}:{self._locator.getLineNumber()}")
        self._open[-1].children.append(element)
        self._open.append(element)
        self._texts.append([])

    def characters(self, content: str) -> None:
        self._texts[-1].append(content)

    def endElement(self, name: str) -> None:  # noqa: N802
        self._open.pop().text = "".join(self._texts.pop())
