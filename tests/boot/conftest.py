"""Readable names for tests that are parametrised by whole images."""

from __future__ import annotations

import pytest


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None
