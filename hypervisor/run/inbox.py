"""Where what comes from outside enters a machine: each message with a virtual time, so that their log is a recording.

Any thread may put a message in. Between two blocks the machine's own thread gives it a time to which no vCPU has come
yet, or just has, and a timer delivers it when all have: as if it had been known all along that something would come
then. So a second run that is told the messages with their times from the start goes as the first one did.

What must be done before its caller goes on (bytes stored by another thread, a reset between runs) does not wait for
all vCPUs. It is noted with the *point* where the machine stood: which vCPU had its turn, how far that had come, and how
far all together (one stands where it is for a while, when others have their turns). A second run stops there, too, and
does the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.state import blob, deadline, flag, number, record, several, text, time_ns

if TYPE_CHECKING:
    from hypervisor.run.sharing.turns import Turns
    from hypervisor.run.vm_clock import VmClock

MAX_MESSAGES, MAX_CONTENT, MAX_NAME = 1 << 20, 1 << 26, 1 << 8
NOT_YET = -1
NOTHING = "nothing"
"""Who gets a message that was taken back."""
ALL = -1


class Message(NamedTuple):
    """``content`` came for ``to`` when all vCPUs had come to this virtual time, in nanoseconds; or, at once, when this
    ``vcpu`` had its turn and had come to it, and the sum of how far they had come was ``together``; ``early`` if that
    was before the timers that were due then.
    """

    at: int
    to: str
    content: bytes
    vcpu: int = ALL
    together: int = 0
    early: bool = False


@record
class MessageState:
    """A `Message` that has not been delivered; ``at`` is -1 while it has no time."""

    at: int = deadline()
    to: str = text(MAX_NAME)
    content: bytes = blob(MAX_CONTENT)
    vcpu: int = number(ALL, 255, ALL)
    together: int = time_ns()
    early: bool = flag()


@record
class InboxState:
    """All that wait, in order."""

    messages: list[MessageState] = several(MessageState, MAX_MESSAGES)


class _Placed(NamedTuple):
    """A message that has a time, and its number in the recording that it is of; -1 if it is of none."""

    message: Message
    number: int = -1


class Inbox:
    """What has come for one machine and is not in it yet."""

    def __init__(self, clock: VmClock, turns: Turns, look: Callable[[], None]) -> None:
        """``look()`` has the run look here soon; it is called from any thread."""
        self._clock, self._turns, self._look = clock, turns, look
        self._receivers: dict[str, Callable[[bytes], object]] = {NOTHING: lambda content: None}
        self._asked: set[str] = set()
        self.arrived: deque[tuple[str, bytes]] = deque()
        """What has come and has no time yet."""
        self._entered: deque[_Placed] = deque()
        self._timer = clock.timer("inbox", "next", self._deliver)
        self.points: deque[_Placed] = deque()
        """What of a recording comes at once, in order: the run looks for the place of the next."""
        self._numbered = 0
        """How many messages of recordings there have been."""
        self.early = False
        """Whether timers that are due where the machine stands have not fired yet."""
        self._unheard = 0
        self.earliest_ns: Callable[[int], int] = lambda now_ns: now_ns
        """When what has come may enter, of a machine that stands at this time; others may rely on that it sleeps."""
        self.recording: list[Message] | None = None
        """Where messages are noted as they are delivered, if somebody wants that."""
        self.repeats = False
        """Whether the machine was told a recording: nothing else comes to it by the host's own doing."""

    def connect(self, name: str, receiver: Callable[[bytes], object]) -> None:
        """Let messages for ``name`` go there."""
        self._receivers[name] = receiver

    def put(self, to: str, content: bytes) -> None:
        """A message has come. May be called from any thread."""
        self.arrived.append((to, content))
        self._look()

    def note(self, to: str, content: bytes) -> None:
        """Somebody from outside does at once, between two blocks, what this message would: for the recording."""
        if self.recording is None or self._unheard == threading.get_ident():
            return
        if self._clock.wall:  # such a run does not repeat
            self.recording.append(Message(self._clock.now_ns, to, content))
            return
        at, vcpu = self._clock.progress_ns, self._turns.current.number
        self.recording.append(Message(at, to, content, vcpu, self._together(), self.early))

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Nothing that this thread does is noted during the block: it follows from what has been."""
        self._unheard = threading.get_ident()
        try:
            yield
        finally:
            self._unheard = 0

    def replay(self, messages: Iterable[Message]) -> None:
        """Deliver a recording, at its times. Between runs. Raises `ConfigError` for a time that is over, and for a
        receiver that the machine has not.
        """
        messages = list(messages)
        for message in messages:
            if message.to not in self._receivers.keys() | self._asked or message.at < self._come_to(message.vcpu):
                raise ConfigError(
                    f"A message for {message.to} at {message.at} ns cannot be delivered: it is {self._clock.now_ns} ns "
                    f"now, and there are {', '.join(self._receivers) or 'no receivers'}."
                )
        self.repeats = True
        self._expect(messages)

    def _expect(self, messages: Iterable[Message]) -> None:
        """What of a recording came at once comes where it did, the rest at its times: all in their order."""
        entered = list(self._entered)
        for message in messages:
            (entered if message.vcpu == ALL else self.points).append(_Placed(message, self._numbered))
            self._numbered += 1
        self._entered = deque(sorted(entered, key=lambda one: one.message.at))
        self._set()

    def _next_point(self) -> Message:
        """Take the next of `points`."""
        message = self.points.popleft().message
        self._set()
        return message

    def _come_to(self, vcpu: int) -> int:
        """How far a vCPU has come, or all."""
        if vcpu == ALL:
            return self._clock.now_ns
        if vcpu >= len(self._turns.vcpus):
            return 1 << 63
        found = self._turns.vcpus[vcpu]
        return self._clock.progress_ns if found is self._turns.current else found.position

    def _together(self) -> int:
        """The sum of how far all vCPUs have come."""
        current = self._turns.current
        return self._clock.progress_ns + sum([vcpu.position for vcpu in self._turns.vcpus if vcpu is not current])

    def next_point(self) -> int | None:
        """Where the vCPU whose turn it is meets the next message, if that comes at once in this turn; it may be here.
        In the middle of a turn, and only while there are `points`.
        """
        (message, number), progress = self.points[0], self._clock.progress_ns
        if message.vcpu != self._turns.current.number or message.to in self._asked:
            return None
        if message.at > progress:  # by then others may have come further: one that this one starts
            return message.at
        if message.together > self._together() or any(0 <= one.number < number for one in self._entered):
            return None
        return message.at

    @property
    def here(self) -> bool:
        """Whether the next message comes at once where the machine stands."""
        if not self.points:
            return False
        point = self.next_point()
        return point is not None and point <= self._clock.progress_ns

    def arrive(self, *, early: bool) -> bool:
        """Hand over the next message if it came at once where the machine stands. Whether it did."""
        if not self.here or self.points[0].message.early < early:
            return False
        self._hand_over(self._next_point())
        return True

    def asking(self, name: str, ask: Callable[[], bytes]) -> Callable[[], bytes]:
        """``ask``, as the machine calls it in the middle of an instruction: answers are noted under this name, and
        those of a recording that is played come first.
        """
        self._asked.add(name)

        def asked() -> bytes:
            points = self.points
            if points and points[0].message.to == name and points[0].message.together <= self._together():
                message = self._next_point()
                if self.recording is not None:
                    self.recording.append(message)
                return message.content
            answer = ask()
            if answer:
                self.note(name, answer)
            return answer

        return asked

    def connected(self, name: str) -> bool:
        """Whether there is a receiver of this name."""
        return name in self._receivers

    def take_back(self, to: str) -> bool:
        """Forget what has come for ``to`` and is not delivered; whether there was any. Between runs.

        What has a time has made turns of vCPUs end there, so that nothing comes then.
        """
        timed = self.waiting(to)
        self._entered = deque(
            one._replace(message=Message(one.message.at, NOTHING, b"")) if one.message.to == to else one
            for one in self._entered
        )
        arrived = [self.arrived.popleft() for _ in range(len(self.arrived))]
        self.arrived.extendleft(reversed([one for one in arrived if one[0] != to]))
        return bool(timed)

    def waiting(self, to: str) -> list[bytes]:
        """What has come for ``to`` and has not been delivered."""
        entered, arrived = list(self._entered), list(self.arrived)
        timed = [message.content for message, _ in entered if message.to == to]
        return timed + [content for name, content in arrived if name == to]

    def enter(self) -> bool:
        """Give a time to what has come, on the machine's own thread between two blocks; whether there was any."""
        if not self.arrived:
            return False
        now = self.earliest_ns(self._clock.now_ns)
        while self.arrived:
            self._entered.append(_Placed(Message(now, *self.arrived.popleft())))
        self._set()
        return True

    def _set(self) -> None:
        self._timer.put_back(self._entered[0].message.at if self._entered else NOT_YET)

    def _deliver(self) -> None:
        passed = self._clock.passed_ns
        while self._entered and self._entered[0].message.at <= passed:
            if self.points and self._entered[0].number > self.points[0].number:  # which is here
                return
            self._hand_over(self._entered.popleft().message)
        self._set()

    def _hand_over(self, message: Message) -> None:
        if self.recording is not None:
            self.recording.append(message)
        self._receivers[message.to](message.content)

    def state(self) -> InboxState:
        """All that wait."""
        waiting = [one.message for one in sorted([*self._entered, *self.points], key=lambda one: one.number)]
        waiting += [Message(NOT_YET, *one) for one in list(self.arrived)]
        return InboxState([MessageState(*message) for message in waiting])

    def is_still(self, state: InboxState) -> bool:
        """See `hypervisor.state.InRecord`."""
        if self._entered or self.points or self.arrived:
            return self.state() == state
        return not state.messages

    def restore(self, state: InboxState) -> None:
        """These wait, and no others. Raises `ConfigError` for one whose receiver the machine has not."""
        strangers = {message.to for message in state.messages} - self._receivers.keys() - self._asked
        if strangers:
            raise ConfigError(f"the inbox: this machine has nothing that is called {', '.join(sorted(strangers))}.")
        self._entered, self.points, self.repeats = deque(), deque(), False
        self._expect(Message(*astuple(one)) for one in state.messages if one.at != NOT_YET)
        self.arrived = deque((one.to, one.content) for one in state.messages if one.at == NOT_YET)


__all__ = ["Inbox", "InboxState", "Message", "MessageState"]
