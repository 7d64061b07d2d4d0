"""The loops that `bench.loops` runs: what each does for ever, and what host time a virtual second of it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INFINITE = float("inf")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One loop: 16-bit code runs as a boot sector on the BIOS, other code as a flat image with an IDT whose gates all
    lead to ``handler``. With ``second`` there is a second vCPU, which runs that. Between ``least`` and ``most`` host
    seconds per virtual second are right.
    """

    name: str
    source: str
    mode: int = 64
    handler: str = "iretq"
    second: str = ""
    least: float = 0.2
    most: float = 3.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def band(self) -> str:
        """The band in words."""
        if self.most == INFINITE:
            return "no limit"
        return f"{self.least:g} to {self.most:g}" if self.least else f"below {self.most:g}"


def _loop(name: str, body: str, before: str = "", **more: Any) -> Row:
    return Row(
        name=name, source=f"{before}; again: {body}; jmp again" if before else f"again: {body}; jmp again", **more
    )


def _bios(name: str, body: str, before: str = "xor ax, ax; mov ds, ax; mov es, ax", **more: Any) -> Row:
    return _loop(name, body, before, mode=16, **more)


def _in_engine(name: str, body: str, before: str = "", **more: Any) -> Row:
    """An access that the engine serves in less than the time that it takes on a bus."""
    return _loop(name, body, before, least=0.01, **more)


def _idle(name: str, source: str, **more: Any) -> Row:
    return Row(name=name, source=source, least=0.0, most=0.05, **more)


def _apart(name: str, body: str, before: str = "", **more: Any) -> Row:
    return _loop(name, body, before, least=0.0, most=INFINITE, **more)


_SEND = "mov dword ptr [rbx + 0x310], {}; mov dword ptr [rbx + 0x300], 0x4040; hlt"
_IPI = "mov rbx, 0xfee00000; mov dword ptr [rbx + 0xf0], 0x1ff; sti; again: {}; jmp again"
_TICKS = "mov al, 0x34; out 0x43, al; mov al, 0; out 0x40, al; out 0x40, al; sti; "
_SPIN = "xor eax, eax; mov rbx, 0x300000; again: pause; cmp [rbx], eax; je again"
_SKIP_2 = "add qword ptr [rsp], 2; iretq"
_SKIP_2_CODED = "add rsp, 8; add qword ptr [rsp], 2; iretq"

ROWS: tuple[Row, ...] = (
    _bios("INT 10h, teletype, scrolling", "mov ax, 0x0e0a; mov bx, 7; int 0x10"),
    _bios("INT 10h, teletype, a line", "mov ax, 0x0e41; mov bx, 7; int 0x10"),
    _bios("INT 10h, scroll the screen", "mov ax, 0x0601; mov bh, 7; xor cx, cx; mov dx, 0x184f; int 0x10"),
    _bios("INT 10h, set the cursor", "mov ah, 2; mov bh, 0; xor dx, dx; int 0x10"),
    _bios("INT 10h, 2000 characters", "mov ax, 0x0941; mov bx, 7; mov cx, 2000; int 0x10"),
    _bios("INT 10h, set mode 3", "mov ax, 3; int 0x10"),
    _bios(
        "INT 10h, a pixel in mode 13h",
        "mov ax, 0x0c01; mov bh, 0; mov cx, 5; mov dx, 5; int 0x10",
        "mov ax, 0x13; int 0x10",
    ),
    _bios("INT 10h, a character in mode 12h", "mov ax, 0x0e41; mov bx, 7; int 0x10", "mov ax, 0x12; int 0x10"),
    _bios("INT 10h, a string of 40", "mov ax, 0x1301; mov bx, 7; mov cx, 40; xor dx, dx; mov bp, 0x7c00; int 0x10"),
    _bios("INT 13h, read 1 sector", "mov ax, 0x0201; mov cx, 1; mov dx, 0; mov bx, 0x8000; int 0x13"),
    _bios("INT 13h, read 18 sectors", "mov ax, 0x0212; mov cx, 1; mov dx, 0; mov bx, 0x8000; int 0x13"),
    _bios("INT 13h, parameters", "mov ah, 8; mov dl, 0; int 0x13; push 0; pop es"),
    _bios("INT 14h, status", "mov ah, 3; xor dx, dx; int 0x14"),
    _bios("INT 15h, E820", "mov eax, 0xe820; mov edx, 0x534d4150; xor ebx, ebx; mov ecx, 20; mov di, 0x8000; int 0x15"),
    _bios("INT 15h, A20 gate", "mov ax, 0x2402; int 0x15"),
    _bios("INT 16h, is there a key?", "mov ah, 1; int 0x16"),
    _bios("INT 1Ah, ticks", "mov ah, 0; int 0x1a"),
    _bios("INT 1Ah, time of day", "mov ah, 2; int 0x1a"),
    _bios("INT 1Ah, PCI BIOS", "mov ax, 0xb101; int 0x1a"),
    _loop("read CR0", "mov rax, cr0"),
    _loop("write CR0", "mov cr0, rax", "mov rax, cr0"),
    _loop("write CR3", "mov cr3, rax", "mov rax, cr3"),
    _loop("write CR4", "mov cr4, rax", "mov rax, cr4"),
    _loop("read CR8", "mov rax, cr8"),
    _loop("write CR8", "mov cr8, rax", "xor eax, eax"),
    _loop("CLTS", "clts"),
    _loop("read DR7", "mov rax, dr7"),
    _loop("write DR0", "mov dr0, rax", "xor eax, eax"),
    _loop("CPUID", "xor eax, eax; cpuid"),
    _apart("RDTSC", "rdtsc"),
    _apart("RDTSCP", "rdtscp"),
    _loop("RDMSR, EFER", "rdmsr", "mov ecx, 0xc0000080"),
    _loop("RDMSR, TSC", "rdmsr", "mov ecx, 0x10"),
    _loop("RDMSR, APIC base", "rdmsr", "mov ecx, 0x1b"),
    _loop("WRMSR, EFER", "wrmsr", "mov ecx, 0xc0000080; rdmsr"),
    _loop("WRMSR, LSTAR", "wrmsr", "mov ecx, 0xc0000082; rdmsr"),
    _loop("WRMSR, KERNEL_GS_BASE", "wrmsr", "mov ecx, 0xc0000102; rdmsr"),
    _loop("#UD and IRET", "ud2", handler=_SKIP_2),
    _loop("#DE and IRET", "div ecx", "xor ecx, ecx", handler=_SKIP_2),
    _loop("#PF and IRET", "mov al, [rbx]", "mov rbx, 0x200000000", handler=_SKIP_2_CODED),
    _loop("#GP and IRET", "mov ds, cx", "mov cx, 0xfff8", handler=_SKIP_2_CODED),
    _loop("#UD, RDRAND", "rdrand eax", handler="add qword ptr [rsp], 3; iretq"),
    _loop("INT n and IRET", "int 0x40"),
    _loop("INT3 and IRET", "int3"),
    _loop(
        "SYSCALL and jump back",
        "syscall; back: nop",
        "mov ecx, 0xc0000080; rdmsr; or eax, 1; wrmsr; mov ecx, 0xc0000081; rdmsr; mov edx, 0x8; wrmsr; "
        "mov ecx, 0xc0000082; lea rax, [back]; xor edx, edx; wrmsr",
    ),
    _loop("port, read the keyboard's status", "in al, 0x64"),
    _in_engine("port, read the PIT", "in al, 0x40"),
    _loop("port, write the PIC's mask", "out 0x21, al", "mov al, 0xff"),
    _loop("port, RTC index and data", "mov al, 0; out 0x70, al; in al, 0x71"),
    _loop("port, write 80h", "out 0x80, al"),
    _loop("port, read an unclaimed one", "in al, dx", "mov dx, 0x1234"),
    _loop("port, write an unclaimed one", "out dx, al", "mov dx, 0x1234"),
    _loop(
        "port, PCI configuration", "out dx, eax; add dx, 4; in eax, dx; sub dx, 4", "mov dx, 0xcf8; mov eax, 0x80000000"
    ),
    _loop("port, a byte to the UART", "out dx, al", "mov dx, 0x3f8; mov al, 0x41"),
    _in_engine("port, the UART's status", "in al, dx", "mov dx, 0x3fd"),
    _in_engine("port, ACPI timer", "in eax, dx", "mov dx, 0x608"),
    _loop(
        "port, REP INSW of a sector from IDE",
        "mov al, 0x20; mov dx, 0x1f7; out dx, al; wait: in al, dx; test al, 8; jz wait; mov dx, 0x1f0; "
        "mov ecx, 256; mov edi, 0x300000; rep insw",
        "mov dx, 0x1f6; mov al, 0xe0; out dx, al; mov dx, 0x1f2; mov al, 1; out dx, al",
        options={"disks": [bytes(1 << 20)]},
        least=0.05,
    ),
    _in_engine("MMIO, read the APIC's ID", "mov eax, [rbx]", "mov rbx, 0xfee00020"),
    _in_engine("MMIO, write the APIC's TPR", "mov [rbx], eax", "mov rbx, 0xfee00080; xor eax, eax"),
    _in_engine("MMIO, the APIC's EOI", "mov [rbx], eax", "mov rbx, 0xfee000b0; xor eax, eax"),
    _loop("MMIO, read the IOAPIC", "mov eax, [rbx]", "mov rbx, 0xfec00010"),
    _in_engine("MMIO, read the HPET's counter", "mov rax, [rbx]", "mov rbx, 0xfed000f0"),
    _loop("MMIO, read unclaimed", "mov eax, [rbx]", "mov rbx, 0xd0000000"),
    _loop("MMIO, write unclaimed", "mov [rbx], eax", "mov rbx, 0xd0000000"),
    _loop("MMIO, write a VGA plane", "mov es:[0], al", "mov ax, 0x12; int 0x10; mov ax, 0xa000; mov es, ax", mode=16),
    _loop("MMIO, read a VGA plane", "mov al, es:[0]", "mov ax, 0x12; int 0x10; mov ax, 0xa000; mov es, ax", mode=16),
    _loop("INVLPG", "invlpg [rbx]", "mov rbx, 0x300000"),
    _loop(
        "LTR",
        "ltr cx; and byte ptr [rbx + 5], 0xfd",
        "sub rsp, 64; sgdt [rsp]; mov rsi, [rsp + 2]; mov rdi, 0x300000; mov rcx, 64; rep movsb; "
        "mov rbx, 0x300040; mov dword ptr [rbx], 0x67; mov dword ptr [rbx + 4], 0x8900; mov qword ptr [rbx + 8], 0; "
        "mov word ptr [rsp], 0x7f; mov qword ptr [rsp + 2], 0x300000; lgdt [rsp]; mov cx, 0x40",
        least=0.1,
    ),
    _loop("PIT at 18 Hz, waiting in HLT", "hlt", "sti", mode=16, least=0.0, most=0.05),
    _loop(
        "PIT at 1 kHz, waiting in HLT",
        "hlt",
        "mov al, 0x34; out 0x43, al; mov al, 0xa9; out 0x40, al; mov al, 4; out 0x40, al; sti",
        mode=16,
        least=0.0,
        most=0.2,
    ),
    _loop(
        "PIT at 50 kHz, waiting in HLT",
        "hlt",
        "mov al, 0x34; out 0x43, al; mov al, 24; out 0x40, al; mov al, 0; out 0x40, al; sti",
        mode=16,
    ),
    _apart("self-modifying code", "mov byte ptr [patch + 1], al; inc al; patch: mov cl, 0"),
    _apart(
        "TLB misses, 512 pages after a write of CR3",
        "mov rax, cr3; mov cr3, rax; mov rbx, 0x400000; mov ecx, 512; touch: mov al, [rbx]; add rbx, 0x1000; "
        "dec ecx; jnz touch",
    ),
    _idle("jmp $ with interrupts on by a timer", "sti; nop; again: jmp again", mode=16, options={}),
    _idle("sti; jmp $", "sti; again: jmp again", mode=16),
    _idle("PAUSE and jump back", "sti; again: pause; jmp again", mode=16),
    _idle("HLT and jump back", "sti; again: hlt; jmp again", mode=16),
    Row(
        name="IPI to each other and HLT, 2 vCPUs",
        source=_IPI.format(_SEND.format("0x1000000")),
        second=_IPI.format(_SEND.format("0")),
        handler="mov dword ptr [rbx + 0xb0], 0; iretq",
    ),
    Row(name="PAUSE until a word changes, 2 vCPUs", source=_SPIN, second=_SPIN, least=0.01),
    Row(
        name="sti; jmp $, 2 vCPUs",
        source=_TICKS + "again: jmp again",
        second="sti; again: jmp again",
        least=0.0,
        most=0.2,  # 10,000 turns
    ),
)
