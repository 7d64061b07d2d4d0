"""The block's words: each name is one place, in the module as in the table."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from hypervisor.engine import block
from hypervisor.errors import InternalError


def test_no_name_is_given_twice() -> None:
    """A second assignment to a name would give two uses one word, and neither would notice."""
    tree = ast.parse(Path(block.__file__).read_text())
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    names = Counter(one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))
    assert [name for name, count in names.items() if count > 1] == []
    with pytest.raises(InternalError, match="two words of the block are called now"):
        block._word("now")
