"""Files out of Debian packages, fetched without root and kept in a cache.

``apt-get download`` takes the packages, ``dpkg-deb -x`` unpacks them as ``rootmode/debian/NAME_VERSION`` below
``$XDG_CACHE_HOME``. Where the system's own package lists do not have the release we want (another release, empty
lists, no root to update them), apt runs on private lists below the same cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

RELEASE: Final = "bookworm"
VERSIONS: Final = {
    "memtest86+": "6.10", "linux-image-cloud-amd64": "6.1.", "busybox-static": "1:1.35", "ovmf": "2022.11",
    "u-boot-qemu": "2023.01", "xen-hypervisor-4.17-amd64": "4.17",
}  # fmt: skip
"""How the version of a package must begin: the guests that the tests were written against."""
SOURCES: Final = f"""deb http://deb.debian.org/debian {RELEASE} main
deb http://deb.debian.org/debian-security {RELEASE}-security main
"""
NETWORK_SECONDS: Final = 300.0

Options = tuple[str, ...]


class PackageUnavailable(Exception):
    """The package is neither in the cache nor to be had from a Debian mirror; the text says what was tried."""


def cache_directory() -> Path:
    """Where unpacked packages are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rootmode" / "debian"


@cache
def package_files(package: str) -> Path:
    """The directory that the package is unpacked in. Raises `PackageUnavailable`."""
    wanted = VERSIONS.get(package, "")
    problems: list[str] = []
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        for describe, options in _apt_setups():
            try:
                return _from_apt(package, wanted, options())
            except PackageUnavailable as problem:
                problems.append(f"{describe}: {problem}")
    else:
        problems.append("this machine has no apt-get or no dpkg-deb")
    kept = sorted(cache_directory().glob(f"{package}_{_quoted(wanted)}*"), key=lambda path: path.stat().st_mtime)
    if kept:
        return kept[-1]
    raise PackageUnavailable(f"the Debian package {package} {wanted}* cannot be had ({'; '.join(problems)})")


def debian_path(package: str, glob: str) -> Path:
    """The one file of ``package`` that matches ``glob``, such as ``boot/vmlinuz-*``. Raises `PackageUnavailable`."""
    found = sorted(path for path in package_files(package).glob(glob) if path.is_file())
    if not found:
        raise PackageUnavailable(f"the Debian package {package} has no file that matches {glob}")
    return found[-1]


def kernel_package() -> str:
    """The package with the kernel itself, which the meta package linux-image-cloud-amd64 depends on."""
    meta = "linux-image-cloud-amd64"
    control = package_files(meta) / "DEPENDS"
    names = [name.split("(")[0].strip() for name in control.read_text().replace("|", ",").split(",")]
    for name in names:
        if name.startswith("linux-image-6.1.0-"):
            return name
    raise PackageUnavailable(f"{meta} depends on {', '.join(names)}, none of which is a 6.1 kernel")


def _apt_setups() -> Iterator[tuple[str, Callable[[], Options]]]:
    """Ways to ask apt, the cheapest first, as (description, apt options)."""
    yield "the system's package lists", lambda: ()
    yield "fresh lists of the system's sources", lambda: _private_lists("system", None)
    yield f"fresh lists of Debian {RELEASE}", lambda: _private_lists(RELEASE, SOURCES)


@cache
def _private_lists(name: str, sources: str | None) -> Options:
    """Update package lists that need no root. Returns the apt options that use them."""
    root = cache_directory().parent / "apt" / name
    for directory in ("lists/partial", "archives/partial"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    options = [
        *("-o", f"Dir::State::lists={root / 'lists'}", "-o", f"Dir::Cache={root}"),
        *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="),
    ]
    if sources is not None:
        (root / "sources.list").write_text(sources)
        options += ["-o", f"Dir::Etc::sourcelist={root / 'sources.list'}", "-o", "Dir::Etc::sourceparts=-"]
    _run(["apt-get", *options, "-q", "update"])
    return tuple(options)


def _from_apt(package: str, wanted: str, options: Options) -> Path:
    """The directory of the newest version that begins with ``wanted``, downloaded if it is not in the cache."""
    version = next((line for line in _versions(package, options) if line.startswith(wanted)), None)
    if version is None:
        raise PackageUnavailable(f"no version {wanted}*")
    target = cache_directory() / f"{package}_{_quoted(version)}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Unpacked beside its place and renamed: a second test process sees all of it or nothing.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        _run(["apt-get", *options, "-q", "-o", "APT::Sandbox::User=", "download", f"{package}={version}"], cwd=scratch)
        archive = next(Path(scratch).glob("*.deb"))
        files = Path(scratch) / "files"
        _run(["dpkg-deb", "-x", str(archive), str(files)])
        (files / "DEPENDS").write_text(_run(["dpkg-deb", "-f", str(archive), "Depends"]))
        # mkdtemp made the parent private; the files themselves keep the package's modes.
        try:
            files.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _versions(package: str, options: Options) -> list[str]:
    """The versions that apt's lists offer, newest first."""
    lines = _run(["apt-cache", *options, "madison", package]).splitlines()
    return [line.split("|")[1].strip() for line in lines if line.count("|") >= 2]


def _quoted(version: str) -> str:
    """A version as a file name: the colon of an epoch is not welcome everywhere."""
    return version.replace(":", "%3a")


def _run(command: Sequence[str], cwd: str | None = None) -> str:
    """Run a program to its end. Raises `PackageUnavailable` with the last line it said if it fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=NETWORK_SECONDS, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise PackageUnavailable(f"{command[0]} did not work: {problem}") from problem
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise PackageUnavailable(f"{command[0]} failed: {said}")
    return done.stdout
