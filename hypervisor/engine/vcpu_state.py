"""A vCPU's memory: what the engine knows of it, on a pCPU and off."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from hypervisor.arch.apic_page import ApicPage
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.shared_words.scheduling import VcpuWords
from hypervisor.engine.state import State, Views
from hypervisor.engine.vcpu_tlb import VcpuTlb
from hypervisor.memory.frames import mapping


class Image(NamedTuple):
    """A vCPU's registers, the block's words for it, and its own."""

    registers: bytes
    extra: bytes
    words: bytes


class VcpuState:
    """A vCPU that is not on a pCPU: its saved registers, and its TLB behind the block's vCPU words."""

    def __init__(self, template: bytes, number: int) -> None:
        self.memory = (ctypes.c_ubyte * layout.STATE_SIZE).from_buffer_copy(template)
        self._room = mapping(b.GUEST_TLB_AT + b.GUEST_TLB_SIZE)
        self.tlb = VcpuTlb(self._room)
        self.extra = (ctypes.c_int64 * ((b.VCPU_END - b.VCPU) >> 3)).from_buffer(self._room)
        self.extra[(b.SKIP - b.VCPU) >> 3] = -1
        self.extra[(b.NUMBER - b.VCPU) >> 3] = number
        self.extra[(b.GUEST_TLB_AGE - b.VCPU) >> 3] = 1
        self.words = VcpuWords()
        """What is known of it wherever its registers are."""
        self.views = Views.over(self.memory, memoryview(self.extra).cast("B").cast("Q"))
        self.at = self.words.state_at, self.words.extra_at = (
            ctypes.addressof(self.memory), ctypes.addressof(self.extra),
        )  # fmt: skip
        self.registers = State(self.views)

    def set_aside(self) -> None:
        """It is on no pCPU, and will not be soon: let it take as little memory as it can. See `VcpuTlb.set_aside`."""
        self.tlb.set_aside(self.extra[(b.GUEST_TLB_AGE - b.VCPU) >> 3])

    def image(self) -> Image:
        """Its memory, while it is on no pCPU: for itself alone, as there may be addresses of the host in it."""
        return Image(bytes(self.memory), bytes(self.extra), bytes(self.words))

    def put_image(self, image: Image) -> None:
        """Have the memory that `image` gave."""
        ctypes.memmove(self.memory, image.registers, len(image.registers))
        ctypes.memmove(self.extra, image.extra, len(image.extra))
        ctypes.memmove(ctypes.addressof(self.words), image.words, len(image.words))

    def serve_apic(self, page: ApicPage) -> None:
        """Let the engine serve this local APIC, which is the vCPU's interrupt controller. Before it runs."""
        self.words.apic_at = ctypes.addressof(page)
        self.words.own_apic = True
