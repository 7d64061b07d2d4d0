"""The kernels: how each is built, what it boots from, what a person does to it, and what it must say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Medium(Enum):
    """What a kernel boots from: a drive with its image, or the loader for multiboot kernels."""

    FLOPPY = "floppy"
    DISK = "disk"
    CD = "cd"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Act:
    """Once the kernel has said ``after`` on its serial port, do this: keys to press one by one (names as
    ``vm.keyboard.press`` has them), or steps of the mouse: (dx, dy, is the left button down?).
    """

    after: str
    keys: tuple[str, ...] = ()
    mouse: tuple[tuple[int, int, bool], ...] = ()


@dataclass(frozen=True)
class Kernel:
    """One kernel. ``shows`` is text that its screen, serial port or debug console must have at the end.

    ``here`` is the medium under this hypervisor where it is not the one under QEMU (whose own loader knows multiboot 1
    only). ``status`` is the exit status that QEMU's own process must end with, for kernels that leave through
    isa-debug-exit; nobody can look at their screen then. ``drive`` gives a kernel that is loaded otherwise a diskette
    or a disk, whose sectors differ.
    """

    name: str
    medium: Medium
    shows: str
    stands_for: str
    ending: str = "halted"
    acts: tuple[Act, ...] = ()
    cpus: int = 1
    picture: bool = False
    here: Medium | None = None
    status: int | None = None
    drive: Medium | None = None


FLOPPY, DISK, CD, KERNEL = Medium

KERNELS = (
    Kernel("hello", FLOPPY, "Hello from a boot sector", "the first lesson of every tutorial: INT 10h and a loop"),
    Kernel("stage2_chs", FLOPPY, "stage 2 runs", "a second stage by INT 13h AH=02h, with retries, from a diskette"),
    Kernel("stage2_lba", DISK, "block 2000: 20002000", "a second stage by INT 13h AH=42h, from a hard disk"),
    Kernel("e820", FLOPPY, "003F MiB", "detecting memory: E820h, and the older calls"),
    Kernel("a20_bios", FLOPPY, "switched off: off", "the A20 line, by INT 15h AX=24xxh"),
    Kernel("a20_8042", FLOPPY, "switched off: off", "the A20 line, by the keyboard controller"),
    Kernel("a20_port92", FLOPPY, "switched off: off", "the A20 line, by port 92h"),
    Kernel("unreal", FLOPPY, "at 2 MiB: 12345678", "unreal mode"),
    Kernel("bare_bones", KERNEL, "line 39", "OSDev's Bare Bones in C, with a terminal that scrolls"),
    Kernel("interrupts", KERNEL, "tick 30", "GDT, IDT, PIC and PIT, as every 32-bit tutorial sets them up"),
    Kernel(
        "lone_timer",
        KERNEL,
        "ticks at vector 20: 2",
        "a kernel that never programs the timer: 18.2 Hz, as firmware does",
    ),
    Kernel("exceptions", KERNEL, "still here", "exception handlers with error codes, as in JamesM's tutorial"),
    Kernel("keyboard", KERNEL, "keys: 6", "a keyboard driver on IRQ 1", acts=(Act("type: ", (*"hello", "enter")),)),
    Kernel(
        "ring3", KERNEL, "the user has finished with 42 from ring 3", "paging, ring 3, a TSS, system calls by INT 80h"
    ),
    Kernel("long_mode", KERNEL, "OKAY", "the way to 64 bits as os.phil-opp.com's first edition goes it"),
    Kernel(
        "debug_exit", KERNEL, "arithmetic::trivial_assertion...\t[ok]", "blog_os's test runner", "exit 33", status=33
    ),
    Kernel(
        "bios_keyboard",
        FLOPPY,
        "typed: hi",
        "a prompt with INT 16h",
        acts=(Act(">", ("h", "x", "backspace", "i", "enter")),),
    ),
    Kernel("int8_chain", FLOPPY, "and it goes on", "hooking INT 8 and INT 1Ch, and chaining to what was there"),
    Kernel("floppy_write", FLOPPY, "the same", "writing to the boot diskette by INT 13h AH=03h"),
    Kernel("vga_text", FLOPPY, "row 01", "the BIOS's screen: cursor, attributes, scrolling windows"),
    Kernel("mode13", FLOPPY, "", "mode 13h with a palette", picture=True),
    Kernel("vbe", FLOPPY, "", "a VESA mode with a linear frame buffer", picture=True),
    Kernel("ata_pio", DISK, "as INT 13h would have read it", "OSDev's ATA PIO driver"),
    Kernel("apm_off", FLOPPY, "APM 0102", "power off by APM", "power-off"),
    Kernel(
        "acpi_off", KERNEL, "ACPI is on", "power off by ACPI, as the forum's well-known snippet does it", "power-off"
    ),
    Kernel("reset_8042", FLOPPY, "rebooting", "reboot by the keyboard controller", "reset"),
    Kernel("triple_fault", KERNEL, "Oh!", "reboot by a triple fault", "reset"),
    Kernel(
        "mouse",
        KERNEL,
        "at 30, -20",
        "a PS/2 mouse driver",
        acts=(Act("move and click\n", mouse=((10, 5, False), (20, 15, False), (0, 0, True), (0, 0, False))),),
    ),
    Kernel("rtc", KERNEL, "32 periods", "the CMOS clock and its interrupts"),
    Kernel("serial_loopback", KERNEL, "back came ae", "OSDev's serial port, tested in loopback"),
    Kernel("cpuid", KERNEL, "CPUID is there", "asking for features"),
    Kernel("smp", KERNEL, "processor 3 runs", "starting the other processors", cpus=4),
    Kernel("task_switch", KERNEL, "the first goes on", "hardware tasks, by jumps and by a task gate"),
    Kernel("sse", KERNEL, "saturated 7fff", "switching on the x87, MMX and SSE"),
    Kernel("port_e9", KERNEL, "Hello from port E9", "the debug port of Bochs"),
    Kernel("pci_scan", KERNEL, "1234:1111", "enumerating PCI"),
    Kernel("multiboot2", CD, "36d76289", "a multiboot 2 kernel", here=KERNEL),
    Kernel(
        "multiboot2_framebuffer", CD, "00000320 00000258 ", "a multiboot 2 kernel with a framebuffer tag", picture=True
    ),
    Kernel("grub_iso", CD, "loaded by multiboot", "an ISO made by grub-mkrescue"),
    Kernel("floppy_dma", KERNEL, "seek 2001", "OSDev's floppy driver: 82077AA and DMA", drive=FLOPPY),
    Kernel("long_boot", FLOPPY, "Hello from 64 bits", "a boot sector that enters long mode directly"),
    Kernel("higher_half", KERNEL, "running at c", "a higher-half kernel, by the a.out kludge of multiboot"),
    Kernel("apic_timer", KERNEL, "PIT through the I/O APIC: 5 ticks", "the local APIC's timer, and the I/O APIC"),
    Kernel("hpet", KERNEL, "a single one: 1", "the HPET, in place of the PIT"),
    Kernel(
        "int9_chain", FLOPPY, "events: 06", "a hook on INT 9 before the BIOS", acts=(Act(">", ("a", "1", "enter")),)
    ),
    Kernel("bios_services", FLOPPY, "600DC0DE", "INT 1Ah's calendar, INT 15h AH=87h, INT 11h"),
    Kernel("bios_entries", FLOPPY, "tick: 1", "the fixed entry points of the IBM PC's BIOS, and its font"),
    Kernel("mode12", FLOPPY, "", "planar graphics: the write modes of the VGA", picture=True),
    Kernel("crtc", KERNEL, "retraces 3", "the hardware cursor and the retrace, by ports"),
    Kernel("debug_registers", KERNEL, "steps 5", "hardware breakpoints and single steps"),
    Kernel("ata_irq", KERNEL, "read back: the same", "a disk driver on IRQ 14", drive=DISK),
    Kernel("ipi", KERNEL, "at edges: 1", "messages between processors, as kernels send and order them", cpus=4),
    Kernel("syscall64", KERNEL, "ok ", "SYSCALL, SYSRET, SWAPGS and NX"),
    Kernel("speaker", KERNEL, "ten waves", "the timer's second channel and the speaker"),
    Kernel("multiboot_map", KERNEL, "2badb002 memory", "multiboot's information structure"),
    Kernel("back_to_real", KERNEL, "", "a multiboot kernel that calls the BIOS in real mode", picture=True),
    Kernel("bios_serial", FLOPPY, "sent by INT 14h", "the serial port by INT 14h"),
)
