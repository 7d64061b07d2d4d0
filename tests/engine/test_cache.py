"""Where compiled kernels go: only where nobody else can put files."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.engine.compiling import cache, compiler, private
from hypervisor.engine.compiling.kernel_file import KernelFile, unpack
from hypervisor.engine.compiling.linking import Linked
from hypervisor.errors import EngineError
from tests import import_graph


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every place inside the test's directory."""
    for name, place in (("HYPERVISOR_CACHE", "own"), ("XDG_CACHE_HOME", "xdg"), ("HOME", "home")):
        monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(cache, "_instead", [])
    monkeypatch.setattr(cache, "_own_bases", [])
    cache._chosen.cache_clear()
    yield tmp_path
    cache._chosen.cache_clear()


def test_the_first_place_that_works(environment: Path) -> None:
    assert cache.directory() == environment / "own" / cache.digest()
    assert cache.directory().stat().st_mode & 0o777 == 0o700


def test_a_place_that_cannot_be_made_is_passed_over(environment: Path) -> None:
    (environment / "own").touch()
    assert cache.directory() == environment / "xdg" / "hypervisor" / cache.digest()


def test_a_place_that_others_can_write_is_passed_over(environment: Path) -> None:
    (environment / "own").mkdir(mode=0o777)
    (environment / "own").chmod(0o777)
    (environment / "xdg" / "hypervisor" / cache.digest()).mkdir(parents=True)
    (environment / "xdg" / "hypervisor" / cache.digest()).chmod(0o775)
    assert cache.directory() == environment / "home" / ".cache" / "hypervisor" / cache.digest()


def test_relative_places_are_not_used(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERVISOR_CACHE", "here")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "~")
    monkeypatch.chdir(environment)
    assert cache.directory().is_relative_to(environment / "tmp")
    assert sorted(path.name for path in environment.iterdir()) == ["tmp"]


def test_every_folder_on_the_way_counts(environment: Path) -> None:
    """Who may write one of them can put another folder in the place of ours."""
    for place, mode in (("own", 0o777), ("xdg", 0o770)):
        (environment / place / "a" / "b").mkdir(parents=True, mode=0o700)
        (environment / place).chmod(mode)
        with pytest.raises(private.NotPrivate, match=f"others may write {environment / place}$"):
            private.private_folder(environment / place / "a" / "b")
    (environment / "own").chmod(0o1777)  # sticky, as /tmp
    assert private.private_folder(environment / "own" / "a" / "b") == environment / "own" / "a" / "b"
    with pytest.raises(private.NotPrivate, match="is not this user's alone"):
        private.private_folder(environment / "own")


def test_nothing_is_made_where_others_may_write(environment: Path) -> None:
    (environment / "own").mkdir()
    (environment / "own").chmod(0o777)
    with pytest.raises(private.NotPrivate):
        private.private_folder(environment / "own" / "a" / "b")
    assert not list((environment / "own").iterdir())


def test_the_folders_behind_a_link_count(environment: Path) -> None:
    (environment / "open" / "deep").mkdir(parents=True)
    (environment / "open").chmod(0o777)
    (environment / "link").symlink_to("open/deep")
    with pytest.raises(private.NotPrivate, match=f"others may write {environment / 'open'}"):
        private.private_folder(environment / "link" / "a")
    (environment / "open").chmod(0o755)
    for target in ("open/deep", environment / "open" / "deep", "./open/../open//deep/."):
        (environment / "link").unlink()
        (environment / "link").symlink_to(target)
        assert private.private_folder(environment / "link" / "a") == environment / "open" / "deep" / "a"
    (environment / "loop").symlink_to("loop")
    with pytest.raises(private.NotPrivate, match="symbolic links without end"):
        private.private_folder(environment / "loop")


def test_what_belongs_to_another_user_is_not_ours(environment: Path) -> None:
    """As root with the HOME of somebody, or as somebody in a folder of another one's."""
    (environment / "link").symlink_to("tmp")
    somebody = os.geteuid() + 1
    with pytest.raises(private.NotPrivate, match=r"is another user's|is not this user's alone"):
        private.private_folder(environment / "tmp", user=somebody)
    if os.geteuid() == 0:
        for path in (environment / "tmp", environment / "link"):
            os.chown(path, 12345, 12345, follow_symlinks=False)
        with pytest.raises(private.NotPrivate, match=f"{environment / 'tmp'} is another user's"):
            private.private_folder(environment / "tmp" / "a")
        with pytest.raises(private.NotPrivate, match=f"the symbolic link {environment / 'link'} is another user's"):
            private.private_folder(environment / "link" / "a")


def test_a_user_uses_the_folders_that_root_made(environment: Path) -> None:
    """/ and /home are root's."""
    if os.geteuid() == 0:
        folder = environment / "home" / "mine"
        folder.mkdir(parents=True)
        os.chown(folder, 12345, 12345)
        assert private.private_folder(folder, user=12345) == folder
        with pytest.raises(private.NotPrivate, match="home is not this user's alone"):
            private.private_folder(environment / "home", user=12345)
    assert private.private_folder(environment / "tmp") == environment / "tmp"


@pytest.mark.parametrize("spoil", ["mode", "link", "pipe", "owner"])
def test_files_that_others_left_are_not_executed(environment: Path, spoil: str) -> None:
    file = cache.directory() / cache.FILE
    file.write_bytes(b"{}")
    assert cache.found() == file and cache.read(file) == b"{}"
    if spoil == "mode":
        file.chmod(0o666)
    elif spoil == "owner" and os.geteuid() == 0:
        os.chown(file, 12345, 12345)
    else:
        file.unlink()
        if spoil == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to(environment / "elsewhere")
    assert cache.found() == file  # and not passed over in silence
    with pytest.raises(EngineError, match=rf"(would be executed|cannot be read .*)\. Remove {cache.directory()}"):
        cache.read(file)


def test_without_a_safe_place_there_is_one_for_the_process(
    environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.chmod(0o777)
    try:
        place = cache.directory()
    finally:
        environment.chmod(0o700)
    assert place.name == cache.digest() and not place.is_relative_to(environment)
    said = capsys.readouterr().err
    assert "compiled kernels are kept for this process only" in said and f"others may write {environment}" in said
    assert not any((environment / "tmp").iterdir())
    cache._remove(place.parent, os.getpid() + 1)
    assert place.exists()
    cache._remove(place.parent, os.getpid())
    assert not place.parent.exists()


def test_a_place_that_was_asked_for_and_is_not_used_is_named(
    environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (environment / "own").mkdir()
    (environment / "own").chmod(0o777)
    place = cache.directory()
    assert capsys.readouterr().err == (
        f"hypervisor: HYPERVISOR_CACHE is not used (others may write {environment / 'own'}); "
        f"compiled kernels go to {place}.\n"
    )


@pytest.fixture
def full(environment: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders whose disk is full, as `compiler.write` finds them."""
    folders, write = [environment / "own"], compiler.write

    def write_or_not(path: Path, data: bytes) -> Path:
        if any(path.is_relative_to(folder) for folder in folders):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(compiler, "write", write_or_not)
    monkeypatch.setattr(compiler, "compile_kernels", lambda target: NOTHING)
    return folders


NOTHING = KernelFile("", "", "", Linked(b"", {}, [], {}, 0), {}, b"")


def test_a_full_disk_is_named_and_kernels_run_from_elsewhere(
    environment: Path, full: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = cache.directory()
    file = compiler.fill("asked to")
    place = file.parent
    try:
        assert place == cache.directory() and place.is_relative_to(environment / "tmp")
        assert cache.found() == file and unpack(cache.read(file)) == NOTHING
        assert capsys.readouterr().err == (
            "hypervisor: compiling the engine's kernels (once per install, about 20 s), as asked to ...\n"
            "hypervisor: compiled kernels are kept for this process only, set HYPERVISOR_CACHE to a folder with 2 MB "
            f"to keep them ({asked} cannot be written: No space left on device).\n"
        )
    finally:
        cache._remove(place.parent, os.getpid())
    assert not any((environment / "tmp").iterdir())


def test_where_all_is_full_the_sentence_says_what_to_set(environment: Path, full: list[Path]) -> None:
    full.append(environment / "tmp")
    with pytest.raises(EngineError, match=r"no room .*tmp.* No space left on device\)\. Set HYPERVISOR_CACHE"):
        compiler.fill("asked to")


def test_a_file_that_cannot_be_written_leaves_nothing(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        compiler.write(environment / "kernel.o", b"code")
    assert not [entry for entry in environment.iterdir() if entry.is_file()]


def test_the_digest_covers_whatever_machine_code_is_made_of() -> None:
    """A kernel's file, or one that it takes a constant from, that changes must not leave the old code in the cache."""
    known, graph = import_graph.modules(), import_graph.imports()
    rest = [f"hypervisor.engine.compiling.{name}" for name in ("hooks", "trampolines", "compiler", "shipping")]
    made_of: set[str] = set()
    while rest:
        name = rest.pop()
        if name not in made_of | _WITHOUT_EFFECT:
            made_of.add(name)
            rest += graph[name]
    covered = set(cache.sources())
    assert [name for name in sorted(made_of) if known[name] not in covered] == []
    assert len(made_of) > 60


_WITHOUT_EFFECT = {
    "hypervisor.errors",
    "hypervisor.engine.compiling.cache",
    "hypervisor.engine.compiling.choosing",
    "hypervisor.engine.compiling.host_processor",
    "hypervisor.engine.compiling.kernel_file",
    "hypervisor.engine.compiling.loading",
    "hypervisor.engine.compiling.plain",
}
"""What these import, and is not in any machine code."""


@pytest.mark.parametrize("name", ["numba", "llvmlite"])
def test_versions_are_those_of_the_installed_packages(name: str) -> None:
    assert cache._version(name) == importlib.metadata.version(name)


def test_a_compiler_that_is_not_there_is_none() -> None:
    """Kernels of the package run without it."""
    assert cache._version("surely_not_installed") == "none"


def test_looking_makes_nothing(environment: Path) -> None:
    before = sorted(environment.rglob("*"))
    assert cache.found() is None
    assert sorted(environment.rglob("*")) == before
