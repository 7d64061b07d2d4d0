"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.session import Session


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """The engine's kernels, so that no command under test is the one that says it compiles them."""
    from hypervisor.engine.compiling.compiler import code

    code()


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    started: list[Session] = []
    yield started
    for session in started:
        session.end()
