"""Folders that this user alone can write, and nobody can put another in their place: what lies there is executed.

A folder is as safe as each one on the way to it. Whoever may write a folder may rename what is in it, so each must be
this user's or root's and closed to others, or sticky as ``/tmp`` is, where only an entry's owner renames it. Symbolic
links are followed by hand, as the folders that they lead through count, too. Each step opens what it then checks, below
the folder that was checked before: nothing can be exchanged in between, and nothing afterwards.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_OPEN = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_MAX_LINKS = 40
_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotPrivate(Exception):
    """Somebody else could put files there. The text says why."""


def private_folder(path: Path, user: int | None = None, make: bool = True) -> Path:
    """The folder ``path`` (absolute) without symbolic links, made where it is missing if ``make``. Only ``user`` can
    write it; by default the one whose rights this process has.

    Raises `NotPrivate`, and `OSError` where a folder is missing and cannot be, or is not to be, made.
    """
    user = os.geteuid() if user is None else user
    here, left, links = Path("/"), list(reversed(path.parts[1:])), 0
    folder = os.open(here, _OPEN)
    try:
        facts = _check(folder, here, user)
        while left:
            name = left.pop()
            target = _link(name, folder, here, user, make)
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise NotPrivate(f"{path} leads through symbolic links without end")
                left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
                name = "/" if target.is_absolute() else "."
            below = os.open(name, _OPEN, dir_fd=folder)
            os.close(folder)
            folder = below
            here = Path(os.path.normpath(here / name))
            facts = _check(folder, here, user)
        if facts.st_uid != user or facts.st_mode & _FOR_OTHERS:
            raise NotPrivate(f"{here} is not this user's alone")
        return here
    finally:
        os.close(folder)


def read_private(path: Path) -> bytes:
    """The contents of a file in a private folder. Raises `NotPrivate` for one that others left there, when they could,
    or may change.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & _FOR_OTHERS:
            raise NotPrivate(f"{path} is not this user's alone")
        return file.read()


def _link(name: str, folder: int, here: Path, user: int, make: bool) -> Path | None:
    """Where an entry of ``folder`` leads if it is a symbolic link, else None; a folder is made if there is nothing, and
    it is wanted.
    """
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if not make:
            raise
        with contextlib.suppress(FileExistsError):  # another process of ours was quicker; or somebody else: see below
            os.mkdir(name, 0o700, dir_fd=folder)
        return None
    if not stat.S_ISLNK(facts.st_mode):
        return None
    if facts.st_uid not in (0, user):
        raise NotPrivate(f"the symbolic link {here / name} is another user's")
    return Path(os.readlink(name, dir_fd=folder))


def _check(folder: int, here: Path, user: int) -> os.stat_result:
    """What an open folder is; raises `NotPrivate` if others can put something else in the place of what is in it."""
    facts = os.fstat(folder)
    if facts.st_uid not in (0, user):
        raise NotPrivate(f"{here} is another user's")
    if facts.st_mode & _FOR_OTHERS and not facts.st_mode & stat.S_ISVTX:
        raise NotPrivate(f"others may write {here}")
    return facts
