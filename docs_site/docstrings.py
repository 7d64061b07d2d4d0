"""Docstrings are written for Python's own help: what Markdown has no word for is taken out for the site."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Literal(griffe.Extension):
    """reStructuredText's ``::`` before an indented block, which needs none here."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called with each object that has been read."""
        if obj.docstring:
            text = re.sub(r"^::\n", "", obj.docstring.value, flags=re.M)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.M)
