"""The dashboard as a browser without JavaScript sees it: pages parsed strictly, forms posted as browsers do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import html5lib

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
BROWSER = {"accept": ACCEPT}


class PageSeen:
    """An answer of the dashboard."""

    def __init__(self, answer) -> None:
        self.status = answer.status_code
        self.headers = answer.headers
        self.html = answer.text
        # Strict: a tag that is not closed, or an attribute given twice, is an error here.
        self.tree: Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(answer.text)

    def text_of(self, element_id: str) -> str:
        """Return the text of the element with an id; empty if there is none."""
        found = self.element(element_id)
        return "" if found is None else _words(found)

    def element(self, element_id: str) -> Element | None:
        """Return the element with an id."""
        return next((one for one in self.tree.iter() if one.get("id") == element_id), None)

    @property
    def text(self) -> str:
        """All text."""
        return _words(self.tree)

    def all(self, tag: str) -> list[Element]:
        """Return all elements of a kind."""
        return [one for one in self.tree.iter() if isinstance(one.tag, str) and one.tag.rpartition("}")[2] == tag]


def _words(element: Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def browse(api, path: str, **headers: str) -> PageSeen:
    """Look at a page."""
    return PageSeen(api.request("GET", path, headers={**BROWSER, **headers}))


def send_form(api, path: str, fields: dict[str, str] | None = None, **headers: str):
    """Post a form as a page of the dashboard does; returns the answer."""
    return api.request("POST", path, data=fields or {"": ""}, headers={**BROWSER, "origin": "http://api", **headers})
