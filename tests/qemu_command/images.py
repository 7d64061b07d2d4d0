"""Kernels of these tests: each begins what it says with the mark, and ends in its own way."""

from __future__ import annotations

from pathlib import Path

from tests.conventions import build
from tests.programs import run
from tests.sectors import boot_sector

HALT = "stop: hlt; jmp stop"
POWER_OFF = "mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt"
RESET = "mov al, 0xfe; out 0x64, al; hlt"
TRIPLE_FAULT = "lidt [nothing]; int 3; nothing: .word 0; .long 0"
DISK_SIZE = 1 << 20

START = r"""
__asm__(".section .multiboot, \"a\"\n.balign 4\n.long 0x1badb002, 3, -(0x1badb002 + 3)\n"
        ".text\n.globl start\nstart: mov $stack + 4096, %esp\npush %ebx\ncall kmain\n"
        "1: hlt\njmp 1b\n.comm stack, 4096, 16\n");

__attribute__((unused)) static unsigned char in(unsigned short port)
{
    unsigned char value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void out(unsigned short port, unsigned char value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

"""
KERNEL = (
    START
    + r"""
static int at;

static void print(const char *text)
{
    for (; *text; text++) {
        ((volatile unsigned short *)0xb8000)[at++] = 0x0700 | (unsigned char)*text;
        out(0x3f8, *text);
    }
}

void kmain(const unsigned *info)
{
    const unsigned *modules = (const unsigned *)info[6];
    for (int n = 0; n < 80 * 25; n++)
        ((volatile unsigned short *)0xb8000)[n] = 0x0720;
    print("GUEST ");
    if (info[0] & 4)
        print((const char *)info[4]);
    for (unsigned n = 0; info[0] & 8 && n < info[5]; n++) {
        print("; ");
        print((const char *)modules[n * 4 + 2]);
        print(" = ");
        print((const char *)modules[n * 4]);
    }
    print("~");
}
"""
)
SHELL = (
    START
    + r"""
static void print(const char *text)
{
    for (; *text; text++) {
        while (!(in(0x3fd) & 0x20))
            ;
        out(0x3f8, *text);
    }
}

void kmain(const unsigned *info)
{
    char line[80];
    print("GUEST ");
    print((const char *)info[4]);
    for (;;) {
        unsigned length = 0;
        print("\n# ");
        do {
            while (!(in(0x3fd) & 1))
                ;
            line[length] = in(0x3f8);
        } while (line[length] != '\n' && ++length < sizeof(line) - 1);
        line[length] = 0;
        print("you said: ");
        print(line);
    }
}
"""
)
DRIVES = (
    START
    + r"""
static unsigned short word(unsigned short port)
{
    unsigned short value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void print(const char *text)
{
    for (; *text; text++)
        out(0x3f8, *text);
}

static void hex(unsigned value, int digits)
{
    while (digits--)
        out(0x3f8, "0123456789abcdef"[value >> 4 * digits & 15]);
    out(0x3f8, ' ');
}

static unsigned base;

static unsigned wait(void)
{
    unsigned status, tries = 1000000;
    while ((status = in(base + 7)) & 0x80 && --tries)
        ;
    return status;
}

static unsigned short data[4096];

static unsigned receive(void)
{
    unsigned count = 0, status;
    while ((status = wait()) & 8)
        for (unsigned left = 256; left-- && count < 4096 && in(base + 7) & 8;)
            data[count++] = word(base);
    print(count ? "got " : "");
    return count;
}

static unsigned identify(unsigned command)
{
    out(base + 7, command);
    unsigned status = wait();
    hex(status & 0x89, 2);
    if (!status) /* nobody */
        return 0;
    hex(in(base + 5) << 8 | in(base + 4), 4);
    return receive();
}

static unsigned packet(const char *name, unsigned operation, unsigned one, unsigned two, unsigned room)
{
    unsigned char bytes[12] = {operation, one, two};
    if (operation == 0x4a)
        bytes[4] = 0x10;
    if (operation == 0x03 || operation == 0x1b)
        bytes[4] = room;
    else
        bytes[8] = room;
    print("\n  ");
    print(name);
    print(": ");
    out(base + 1, 0);
    out(base + 4, 0);
    out(base + 5, 8);
    out(base + 7, 0xa0);
    wait();
    for (int n = 0; n < 6; n++)
        __asm__ volatile("outw %0, %1" : : "a"((unsigned short)(bytes[2 * n] | bytes[2 * n + 1] << 8)),
                         "Nd"((unsigned short)base));
    unsigned status = wait();
    hex(status & 0x89, 2);
    hex(status & 1 ? in(base + 1) >> 4 : 0, 1); /* the sense key */
    return receive();
}

static void sense(void)
{
    packet("sense", 0x03, 0, 0, 18);
    hex(data[1] & 15, 2);
    hex(data[6], 4);
}

void kmain(void)
{
    print("GUEST");
    for (int drive = 0; drive < 4; drive++) {
        base = drive & 2 ? 0x170 : 0x1f0;
        out(base + 0x206, 2);
        out(base + 6, 0xa0 | (drive & 1) << 4);
        for (int n = 0; n < 4; n++)
            in(base + 7);
        print("\ndrive ");
        hex(drive, 1);
        out(base + 2, 0x55);
        out(base + 3, 0xaa);
        hex(in(base + 2) << 8 | in(base + 3), 4);
        out(base + 0x206, 6);
        out(base + 0x206, 2);
        for (int tries = 100000; in(base + 2) == 0x55 && --tries;) /* the reset takes its time */
            ;
        wait();
        out(base + 6, 0xa0 | (drive & 1) << 4);
        for (int n = 2; n < 6; n++)
            hex(in(base + n), 2);
        hex(in(base + 7) & 0x89, 2); /* not whether it is ready, which firmware sees to, nor what is obsolete */
        if (identify(0xec)) {
            hex(data[0] & 0x8000, 4);
            hex(data[60], 4);
            continue;
        }
        if (in(base + 4) != 0x14 || in(base + 5) != 0xeb)
            continue;
        print("\n  packet device: ");
        identify(0xa1);
        hex(data[0] & 0xdf83, 4);
        packet("test unit ready", 0x00, 0, 0, 0);
        sense();
        packet("capacity", 0x25, 0, 0, 0);
        sense();
        packet("read", 0x28, 0, 0, 1);
        sense();
        packet("contents", 0x43, 0, 0, 12);
        sense();
        packet("disc", 0x51, 0, 0, 34);
        sense();
        if (packet("configuration", 0x46, 0, 0, 8))
            hex(data[3], 4);
        if (packet("event", 0x4a, 1, 0, 8))
            hex(data[2], 4);
        packet("start", 0x1b, 0, 0, 1);
        packet("unit", 0x00, 0, 0, 0);
        sense();
    }
    print("~");
}
"""
)
_FLAGS = (
    "-m32 -O1 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -fno-pie -no-pie -fno-stack-protector "
    "-fno-asynchronous-unwind-tables -fcf-protection=none -mgeneral-regs-only -Wno-pointer-sign "
    "-Wl,-Ttext=0x100000,--build-id=none,-n,-e,start,--no-warn-rwx-segments"
)


def said(text: str) -> str:
    """16-bit code that says this on COM1."""
    return "mov dx, 0x3f8\n" + "\n".join(f"mov al, {byte}; out dx, al" for byte in text.encode())


def disk(path: Path, text: str, ending: str, first: str = "") -> Path:
    """A hard disk that boots, does something ``first``, says the text and ends."""
    path.write_bytes(boot_sector(f"{first}\n{said(f'GUEST {text}')}\n{ending}").ljust(DISK_SIZE, b"\0"))
    return path


def exits(port: int, value: int) -> str:
    """16-bit code that writes to a debug exit."""
    return f"mov dx, {port}; mov al, {value}; out dx, al; hlt"


CHANGES_SECOND = """
    mov ax, 0x0201             # INT 13h: read one sector of the second disk
    mov bx, 0x8000
    mov cx, 1
    mov dx, 0x0081
    int 0x13
    mov ax, 0x0301             # and write it back, changed
    xchg dh, [bx]
    mov byte ptr [bx], 'W'
    push dx
    mov dh, 0
    int 0x13
    pop dx
    mov [0x8000], dh
    cli                        # SeaBIOS writes the end of its own line to COM1 when it is called, or by its timer
"""
SAYS_SECOND = f"""
    mov cx, 16
    mov si, 0x8000
next: lodsb
    out dx, al
    loop next
    mov al, '~'
    out dx, al
    {HALT}
"""


def kernel(folder: Path, text: str = KERNEL) -> Path:
    """A multiboot kernel: `KERNEL`, `SHELL` or `DRIVES`. The first says its command line and modules on COM1 and on the
    screen, and halts; the second says its command line on COM1, and what it is sent there; the third what IDE drives
    answer.
    """
    source, made = folder / "kernel.c", folder / "myos.bin"
    source.write_text(text)
    run("gcc", *_FLAGS.split(), "-o", made, source)
    return made


def iso(folder: Path) -> Path:
    """A CD with GRUB and that kernel."""
    return build._iso(kernel(folder), folder / "iso")


PAGED = r"""
    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002
    .text
    .globl start
start:
    lgdt gdtr
    lidt idtr
    ljmp $8, $1f
1:  mov $16, %eax
    mov %eax, %ds; mov %eax, %es; mov %eax, %fs; mov %eax, %gs; mov %eax, %ss
    mov $0x10, %eax                 # CR4.PSE
    mov %eax, %cr4
    mov $directory, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    movl $0x12345678, 0x401010      # sets accessed and dirty bits
    mov 0x403000, %eax
    mov $1, %ebx; mov $2, %ecx; mov $3, %edx; mov $4, %esi; mov $5, %edi; mov $6, %ebp; mov $0x9000, %esp
    fld1
    xor %eax, %eax
    mov $0x3f8, %dx
    mov $0x47, %al; out %al, %dx; mov $0x55, %al; out %al, %dx; mov $0x45, %al; out %al, %dx
    mov $0x53, %al; out %al, %dx; mov $0x54, %al; out %al, %dx; mov $0x7e, %al; out %al, %dx
    cli
    hlt
gdt:  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr: .word 23; .long gdt
idtr: .word 0; .long 0
    .data
    .balign 4096
directory:
    .long 0x083, table + 0x007      # a large page, and a table
    .fill 1021, 4, 0
    .long 0x00000097 + 0            # the same large page at the end, cache disabled
table:
    .long 0x200003, 0x201003, 0x202001, 0x203005, 0, 0x205007
    .fill 1018, 4, 0
"""


TWO_HEADERS = r"""
    .text
    .balign 8
    .long 0xe85250d6, 0, 16, -(0xe85250d6 + 16), 0, 8
header:
    .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
    .long header, header - 24, 0, 0, start
    .globl start
    .code32
start:
    mov %eax, %ebx
    mov $0x3f8, %dx
    mov $0x47, %al; out %al, %dx; mov $0x55, %al; out %al, %dx; mov $0x45, %al; out %al, %dx
    mov $0x53, %al; out %al, %dx; mov $0x54, %al; out %al, %dx; mov %bl, %al; out %al, %dx
    mov $0x7e, %al; out %al, %dx
    cli
    hlt
"""


def two_headers(folder: Path, bits: int, *, addresses: bool) -> Path:
    """An ELF file with headers of both versions of Multiboot, which says the last byte of the magic that it finds."""
    source, made = folder / "two.s", folder / "two.bin"
    source.write_text(TWO_HEADERS.replace("FLAGS", "0x10000" if addresses else "0"))
    run("gcc", *_FLAGS.replace("-m32", f"-m{bits}").split(), "-z", "noexecstack", "-o", made, source)
    return made


def paged(folder: Path) -> Path:
    """A multiboot kernel with pages of all kinds, which says that it is there and halts with known registers."""
    source, made = folder / "paged.s", folder / "paged.bin"
    source.write_text(PAGED)
    run("gcc", *_FLAGS.split(), "-o", made, source)
    return made
