"""Fixtures for all tests: files out of Debian packages, and an initramfs made from them.

A test that needs a file from a package that cannot be had is skipped with a sentence, which the end of the test run
repeats. With CI=true it fails instead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import debian
from tests.initramfs import initramfs as build_initramfs

MISSING = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MISSING] = []
    _hear_signals()


def _hear_signals() -> None:
    """What nohup, or a shell that runs this in the background, has us ignore is ignored by every process that a test
    starts, too, and tests send these signals.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL), (signal.SIGQUIT, signal.SIG_DFL),
    ):  # fmt: skip
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    missing = config.stash[MISSING]
    if missing:
        terminalreporter.section("REAL GUESTS NOT TESTED", red=True, bold=True)
        for sentence in dict.fromkeys(missing):
            terminalreporter.write_line(sentence)


def _or_skip(config: pytest.Config, find: Callable[[], Path]) -> Path:
    try:
        return find()
    except debian.PackageUnavailable as problem:
        sentence = f"A real guest is missing: {problem}."
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{sentence} With CI=true this is a failure.", pytrace=False)
        config.stash[MISSING].append(sentence)
        pytest.skip(sentence)


@pytest.fixture(scope="session")
def debian_file(pytestconfig: pytest.Config) -> Callable[[str, str], Path]:
    """``debian_file(package, glob)``: the path of a file of a Debian package, downloaded at its first use."""
    return lambda package, glob: _or_skip(pytestconfig, lambda: debian.debian_path(package, glob))


@pytest.fixture(scope="session")
def cloud_kernel(pytestconfig: pytest.Config) -> Path:
    """Debian's 6.1 kernel for virtual machines, an unmodified bzImage."""
    return _or_skip(pytestconfig, lambda: debian.debian_path(debian.kernel_package(), "boot/vmlinuz-*"))


@pytest.fixture(scope="session")
def initramfs(
    debian_file: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """``initramfs(init_script)``: the path of a cpio archive with busybox and that script as ``/init``."""
    busybox = debian_file("busybox-static", "bin/busybox").read_bytes()
    directory = tmp_path_factory.mktemp("initramfs")

    def build(init_script: str) -> Path:
        path = directory / f"{len(list(directory.iterdir()))}.cpio"
        path.write_bytes(build_initramfs(init_script, busybox))
        return path

    return build
