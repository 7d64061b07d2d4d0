"""Files of streams: what was written is read, and nothing else is ever taken for it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import zstandard

from hypervisor.errors import ConfigError, ImageError
from hypervisor.vm.saved import chunk_codec, file_writer
from hypervisor.vm.saved.chunk_codec import CHUNK, Chunk, digest
from hypervisor.vm.saved.file_layout import HEAD, Head, Index
from hypervisor.vm.saved.file_reader import FileReader
from hypervisor.vm.saved.file_writer import FileWriter
from hypervisor.vm.saved.magic import is_saved

ABOUT = {"what": "a test", "numbers": [1, 2, 3]}


def written(path: Path, streams: dict[str, list[bytes]], *, compressed: bool = True) -> Path:
    with FileWriter(path, compressed=compressed) as writer:
        for name, pieces in streams.items():
            writer.add(name, pieces)
        writer.finish(ABOUT)
    return path


def read(path: Path) -> tuple[dict[str, bytes], object]:
    with FileReader(path) as reader:
        return {name: reader.content(name) for name in reader.streams}, reader.about


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_read_is_what_was_written(tmp_path: Path, compressed: bool, seed: int) -> None:
    rng = Random(seed)
    streams: dict[str, list[bytes]] = {"nothing": [], "empty": [b"", b""], "page": [bytes(CHUNK)]}
    for name in "abc":
        sizes = [rng.choice((1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK)) for _ in range(rng.randrange(1, 6))]
        streams[name] = [rng.randbytes(size) if rng.random() < 0.5 else bytes(size) for size in sizes]
    path = written(tmp_path / "file", streams, compressed=compressed)
    assert is_saved(path)
    assert read(path) == ({name: b"".join(pieces) for name, pieces in streams.items()}, ABOUT)
    size = sum(len(piece) for pieces in streams.values() for piece in pieces)
    assert (path.stat().st_size < size) == compressed


def test_a_stream_that_is_left_in_its_middle_holds_nothing_up(tmp_path: Path) -> None:
    path = written(tmp_path / "file", {"long": [bytes(200 * CHUNK)]})
    with FileReader(path) as reader:
        pieces = reader.pieces("long")
        assert len(next(pieces)) == CHUNK


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return written(tmp_path / "small", {"one": [b"hello" * 20], "none": [], "two": [bytes(300)]})


def everything(path: Path) -> None:
    with FileReader(path) as reader:
        reader.check()


def test_no_change_of_a_byte_goes_unnoticed(small: Path) -> None:
    good = small.read_bytes()
    everything(small)
    for at in range(len(good)):
        for flip in (1, 0x80, 0xFF):
            small.write_bytes(good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
            with pytest.raises(ImageError, match=r"damaged|is no snapshot"):
                everything(small)


def test_no_cut_and_no_addition_goes_unnoticed(small: Path) -> None:
    good = small.read_bytes()
    for end in range(len(good)):
        small.write_bytes(good[:end])
        with pytest.raises(ImageError, match=r"damaged|is no snapshot"):
            everything(small)
    small.write_bytes(good + b"\0")
    with pytest.raises(ImageError, match=r"it has .* bytes, and should have"):
        everything(small)


def test_what_is_no_file_of_ours_is_named(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    other = tmp_path / "other"
    other.write_text("a text")
    for path, said in ((tmp_path, "is a directory"), (fifo, "is a pipe"), (other, "is no snapshot of a machine")):
        assert not is_saved(path)
        with pytest.raises(ImageError, match=said):
            FileReader(path)
    with pytest.raises(ImageError, match="there is no such file"):
        FileReader(tmp_path / "none")


def test_a_newer_file_says_that_it_is_newer(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypervisor.vm.saved.file_layout.VERSION", 2)
    written(small, {})
    monkeypatch.undo()
    with pytest.raises(ImageError, match=r"version 2 of the format of snapshots, which is newer than .* here, 1"):
        FileReader(small)


# --- files that were made to harm -------------------------------------------------------------------------------------


def frame(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def bomb() -> bytes:
    return frame(bytes(1 << 28))


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (bomb, "it says that it has 268435456 bytes, and not 4096"),
        (lambda: frame(bytes(4096), write_content_size=False), "it says that it has"),
        (lambda: frame(bytes(4096)) + b"more", "cannot be decompressed"),
        (lambda: frame(bytes(4096)) + frame(bytes(4096)), "cannot be decompressed"),
        (lambda: frame(bytes(4095)), "it says that it has 4095 bytes"),
        (lambda: b"nonsense", "cannot be decompressed"),
        (lambda: b"", "cannot be decompressed"),
    ],
)
def test_a_chunk_that_lies_about_itself_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: Callable[[], bytes], said: str
) -> None:
    content = stored()
    monkeypatch.setattr(file_writer, "packed", lambda data, compressed: (Chunk(len(content), digest(content)), content))
    path = written(tmp_path / "file", {"one": [bytes(4096)]})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=said):
        everything(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def rewritten(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    """The same file with another index, whose digests are right."""
    from hypervisor.state import cbor

    content = path.read_bytes()
    head = Head.of_bytes(content[:HEAD], str(path), len(content))
    tree = cbor.decode(content[head.offset :])
    change(tree)
    index = cbor.encode(tree)
    path.write_bytes(Head(head.offset, len(index), digest(index)).to_bytes() + content[HEAD : head.offset] + index)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree["streams"][0].__setitem__(1, 1 << 60), "not as many chunks"),
        (lambda tree: tree["streams"][0].__setitem__(1, -1), "one that cannot be"),
        (lambda tree: tree["streams"].append(tree["streams"][0]), "one that cannot be"),
        (lambda tree: tree["streams"].append(["x"]), "no list of streams"),
        (lambda tree: tree.update(streams={}), "no list of streams"),
        (lambda tree: tree.update(streams=[[f"{n}", 0] for n in range(2000)]), "too many streams"),
        (lambda tree: tree.update(chunks=tree["chunks"][:-1]), "no table of chunks"),
        (lambda tree: tree.update(chunks=b""), "not as many chunks"),
        (lambda tree: tree.update(chunks=b"\xff" * len(tree["chunks"])), "not those of its index"),
        (lambda tree: tree.update(compression="lzma"), "no table of chunks"),
        (lambda tree: tree.update(about=[]), "does not say what is in it"),
        (lambda tree: tree.update(more=1), "has other parts"),
        (lambda tree: tree.pop("about"), "has other parts"),
    ],
)
def test_an_index_that_lies_is_found_out(small: Path, change: Callable[[dict[str, object]], object], said: str) -> None:
    rewritten(small, lambda tree: None)
    everything(small)
    rewritten(small, change)
    with pytest.raises(ImageError, match=said):
        everything(small)


def test_an_index_has_a_limit() -> None:
    with pytest.raises(ImageError, match="is the most"):
        Index({"x" * (17 << 20): 0}, [], True, {}).to_bytes()


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can have more than 1 MiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(small: Path, full_disk: None) -> None:
    before = small.read_bytes()
    with pytest.raises(ConfigError, match=r"small cannot be written \(.*\); nothing was saved"):
        written(small, {"much": [Random(0).randbytes(3 * CHUNK)]})
    assert small.read_bytes() == before and list(small.parent.iterdir()) == [small]


def test_the_file_is_there_when_it_is_whole(small: Path) -> None:
    before = small.read_bytes()

    def pieces() -> Iterator[bytes]:
        yield bytes(40 * CHUNK)
        assert small.read_bytes() == before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(small, {"interrupted": pieces()})  # type: ignore[dict-item]
    assert small.read_bytes() == before and list(small.parent.iterdir()) == [small]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(ConfigError, match="is no file"):
            written(path, {})
    with pytest.raises(ConfigError, match="cannot be written"):
        written(tmp_path / "no" / "folder", {})
    link = tmp_path / "link"
    link.symlink_to("target")
    written(link, {})
    assert link.is_symlink() and is_saved(tmp_path / "target")


def test_digests_are_compared_before_anything_is_decompressed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(small.read_bytes())
    content[HEAD] ^= 1
    small.write_bytes(content)
    monkeypatch.setattr(chunk_codec, "_tools", None)
    with pytest.raises(ImageError, match="not those that were written"):
        everything(small)
