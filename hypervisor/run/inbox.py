"""Where what comes from outside enters a machine: each message with a virtual time, so that their log is a recording.

Any thread may put a message in. Between two blocks the machine's own thread gives it a time to which no vCPU has come
yet, or just has, and a timer delivers it when all have: as if it had been known all along that something would come
then. So a second run that is told the messages with their times from the start goes as the first one did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.state import blob, deadline, record, several, text

if TYPE_CHECKING:
    from hypervisor.run.vm_clock import VmClock

MAX_MESSAGES, MAX_CONTENT, MAX_NAME = 1 << 20, 1 << 26, 1 << 8
NOT_YET = -1


class Message(NamedTuple):
    """``content`` came for ``to`` at this virtual time, in nanoseconds."""

    at: int
    to: str
    content: bytes


@record
class MessageState:
    """A `Message` that has not been delivered; ``at`` is -1 while it has no time."""

    at: int = deadline()
    to: str = text(MAX_NAME)
    content: bytes = blob(MAX_CONTENT)


@record
class InboxState:
    """All that wait, in order."""

    messages: list[MessageState] = several(MessageState, MAX_MESSAGES)


class Inbox:
    """What has come for one machine and is not in it yet."""

    def __init__(self, clock: VmClock, look: Callable[[], None]) -> None:
        """``look()`` has the run look here soon; it is called from any thread."""
        self._clock, self._look = clock, look
        self._receivers: dict[str, Callable[[bytes], object]] = {}
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._entered: deque[Message] = deque()
        self._timer = clock.timer("inbox", "next", self._deliver)
        self.recording: list[Message] | None = None
        """Where messages are noted as they are delivered, if somebody wants that."""

    def connect(self, name: str, receiver: Callable[[bytes], object]) -> None:
        """Let messages for ``name`` go there."""
        self._receivers[name] = receiver

    def put(self, to: str, content: bytes) -> None:
        """A message has come. May be called from any thread."""
        self._arrived.append((to, content))
        self._look()

    def replay(self, messages: Iterable[Message]) -> None:
        """Deliver a recording, at its times. Between runs. Raises `ConfigError` for a time that is over, and for a
        receiver that the machine has not.
        """
        for message in messages:
            if message.at < self._clock.now_ns or message.to not in self._receivers:
                raise ConfigError(
                    f"A message for {message.to} at {message.at} ns cannot be delivered: it is {self._clock.now_ns} ns "
                    f"now, and there are {', '.join(self._receivers) or 'no receivers'}."
                )
            self._entered.append(message)
        self._entered = deque(sorted(self._entered, key=lambda message: message.at))
        self._set()

    def waiting(self, to: str) -> list[bytes]:
        """What has come for ``to`` and has not been delivered."""
        return [m.content for m in self._entered if m.to == to] + [c for name, c in list(self._arrived) if name == to]

    def enter(self) -> bool:
        """Give a time to what has come, on the machine's own thread between two blocks; whether there was any."""
        if not self._arrived:
            return False
        now = self._clock.now_ns
        while self._arrived:
            self._entered.append(Message(now, *self._arrived.popleft()))
        self._set()
        return True

    def _set(self) -> None:
        self._timer.put_back(self._entered[0].at if self._entered else NOT_YET)

    def _deliver(self) -> None:
        passed = self._clock.passed_ns
        while self._entered and self._entered[0].at <= passed:
            message = self._entered.popleft()
            if self.recording is not None:
                self.recording.append(message)
            self._receivers[message.to](message.content)
        self._set()

    def state(self) -> InboxState:
        """All that wait."""
        waiting = [*self._entered, *(Message(NOT_YET, *one) for one in list(self._arrived))]
        return InboxState([MessageState(*message) for message in waiting])

    def restore(self, state: InboxState) -> None:
        """These wait, and no others. Raises `ConfigError` for one whose receiver the machine has not."""
        strangers = {message.to for message in state.messages} - self._receivers.keys()
        if strangers:
            raise ConfigError(f"the inbox: this machine has nothing that is called {', '.join(sorted(strangers))}.")
        timed = [Message(one.at, one.to, one.content) for one in state.messages if one.at != NOT_YET]
        self._entered = deque(sorted(timed, key=lambda message: message.at))
        self._arrived = deque((one.to, one.content) for one in state.messages if one.at == NOT_YET)
        self._set()


__all__ = ["Inbox", "InboxState", "Message", "MessageState"]
