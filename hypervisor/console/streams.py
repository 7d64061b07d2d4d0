"""What one device of a VM wrote, as text to wait for: ``vm.serial[0]``, ``vm.debugcon``, ``vm.bios_tty``."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.backends.console import KEPT, Console
from hypervisor.console.attachment import Attachment
from hypervisor.console.expecting import EXPECT_S, Match, Wait, compiled, exact, expect, literal, shown
from hypervisor.console.stream_log import LIMIT, StreamLog
from hypervisor.errors import DeviceError
from hypervisor.state import blob, number, record

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine


LONGEST_LINE = 1000
"""Characters of a line before and behind what was found in it that `Stream.search` gives."""


class Found(NamedTuple):
    """A place in a stream: its position, and the lines that it is in."""

    position: int
    line: str


@record
class StreamState:
    """What was written and is kept, how much before it is not, and where waits for text ended (see `Stream`)."""

    content: bytes = blob(2 * KEPT)
    dropped: int = number(0, 1 << 62)
    expected: int = number(0, 1 << 62)
    seen: int = number(0, 1 << 62)


class Stream(Console):
    """A console of one device, that can be waited for. Positions count bytes from the first one ever written."""

    def __init__(self, name: str, vm: Machine) -> None:
        super().__init__()
        self.name = name
        self._vm = vm
        self.expected = 0
        """Where the last match of a wait for this stream alone ended."""
        self.seen = 0
        """The same for waits for any stream."""
        self.attachments: tuple[Attachment, ...] = ()
        """Who reads it."""

    def state(self) -> StreamState:
        """All that it remembers."""
        dropped, content = self.kept_from(0)
        return StreamState(content, dropped, self.expected, self.seen)

    def is_still(self, state: StreamState) -> bool:
        """Whether `state` would give just this."""
        marks = self.expected, self.seen
        return marks == (state.expected, state.seen) and self.is_what(state.content, state.dropped)

    def restore(self, state: StreamState) -> None:
        """Go on from ``state``; nobody hears what is in it."""
        self.put_back(state.content, state.dropped)
        self.expected, self.seen = state.expected, state.seen

    # --- who is there -------------------------------------------------------------------------------------------------

    def attach(self, before: int = 0) -> Attachment:
        """Read what comes from now on, and ``before`` bytes of what is there, when it is convenient."""
        made = Attachment(self, before)
        self.attachments = (*self.attachments, made)
        return made

    def left(self, attachment: Attachment) -> None:
        """See `Attachment.detach`."""
        self.attachments = tuple(one for one in self.attachments if one is not attachment)

    def log(self, path: str | os.PathLike[str], limit: str | int = LIMIT) -> StreamLog:
        """Write what comes from now on into a file; it and a second one beside it (``path.1``, what came before) have
        at most ``limit`` bytes together. Closing the VM finishes it. Raises `ConfigError`.
        """
        made = StreamLog(path, limit)
        made.stop = self.listen(made.written)
        self._vm.on_close.append(made.close)
        return made

    def search(self, regex: str | re.Pattern[str], most: int = 100) -> list[Found]:
        """Where text that matches ``regex`` is in what is kept: the first ``most`` places. At any time."""
        position, data = self.kept_from(0)
        text, at, found = data.decode("utf-8", "surrogateescape"), 0, []
        for match in compiled(regex).finditer(text):
            position += len(text[at : match.start()].encode("utf-8", "surrogateescape"))
            at = match.start()
            begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", match.end())
            line = text[max(begin, at - LONGEST_LINE) : min(len(text) if end < 0 else end, at + LONGEST_LINE)]
            found.append(Found(position, line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")))
            if len(found) >= most:
                break
        return found

    def send(self, data: bytes | str) -> None:
        """Input, where the device takes some; raises `DeviceError`."""
        raise DeviceError(f"{self.name} takes no input.")

    # --- waiting ------------------------------------------------------------------------------------------------------

    def contains(self, text: str) -> Wait:
        """For ``until=``: ``text`` comes on this stream, after what was waited for here before."""
        return self.waiting_for(exact(text), named=True)

    def matches(self, regex: str | re.Pattern[str]) -> Wait:
        """For ``until=``: text that matches ``regex`` comes on this stream, after what was waited for here before."""
        return self.waiting_for(compiled(regex), named=True)

    def expect(
        self, regex: str | re.Pattern[str], timeout: float | None = EXPECT_S, virtual_timeout: float | None = None
    ) -> Match:
        """Run the VM until text that matches ``regex`` comes on this stream; returns the match and the text before it.

        The search begins where the last match on this stream ended, so text that is there already counts.
        ``timeout`` is in host seconds, ``virtual_timeout`` in guest seconds. Raises `ExpectError`, with the end of the
        text, when time is up or the run ends otherwise.
        """
        return expect(self._vm, [self], self.matches(regex), timeout, virtual_timeout)

    def waiting_for(self, pattern: re.Pattern[str], *, named: bool) -> Wait:
        """See `hypervisor.console.expecting.Source`."""
        return StreamWait(self, pattern, named)

    def matched(self, end: int, *, named: bool) -> None:
        """A wait ended on text that ends at position ``end``: what follows is new."""
        if named:
            self.expected = end
            self.seen = max(self.seen, end)
        else:
            self.seen = end
            self.expected = max(self.expected, end)

    def catch_up(self) -> None:
        """See `hypervisor.console.expecting.Source`."""
        self.seen = len(self)

    def look(self) -> None:
        """Have the run look at its conditions at the guest's next block."""
        runner = self._vm.runner
        if runner is not None:
            runner.ask()


class StreamWait(Wait):
    """Text that matches a pattern was written to a stream.

    Plain text ends the run right at its last character; a pattern with operators is tried at the end of each line, and
    whenever the guest waits or its slice of time is over.
    """

    looks_at_guest = False

    def __init__(self, stream: Stream, pattern: re.Pattern[str], named: bool) -> None:
        self._stream, self._pattern, self._named = stream, pattern, named
        self._looked_to = -1
        plain = literal(pattern)
        self._plain = None if plain is None else plain.encode()
        self._last = b"\n" if self._plain is None else self._plain[-1:]
        self.text = f"{stream.name} shows {shown(pattern)!r}"

    def holds(self) -> bool:
        """Whether the text came."""
        stream, before, end = self._stream, self._looked_to, len(self._stream)
        if end == before:
            return False
        self._looked_to = end
        start = stream.expected if self._named else stream.seen
        if self._plain is not None and stream.find(self._plain, max(start, before - len(self._plain) + 1)) < 0:
            return False
        # Bytes that are not UTF-8 become lone surrogates, so that a place in the text is one in the bytes, too.
        start = max(start, stream.dropped)
        text = stream.since(start).decode("utf-8", "surrogateescape")
        match = self._pattern.search(text)
        if match is None:
            return False
        self._looked_to = -1  # the next wait may find more
        shown_before = text[: match.start()].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self.found = Match(stream.name, shown_before, match)
        stream.matched(start + len(text[: match.end()].encode("utf-8", "surrogateescape")), named=self._named)
        return True

    def went_back(self) -> None:
        """See `Condition`."""
        self._looked_to = -1

    def __enter__(self) -> StreamWait:
        self._stop = self._stream.listen(self._written)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def _written(self, data: bytes) -> None:
        if self._last in data:
            self._stream.look()
