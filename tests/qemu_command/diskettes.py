"""Guests that say what they find of diskette drives: a kernel that asks CMOS memory and the controller, and boot code
that asks the BIOS.
"""

from __future__ import annotations

from pathlib import Path

from tests.qemu_command.images import HALT, START
from tests.sectors import boot_sector

CONTROLLER = (
    START
    + r"""
static void print(const char *text)
{
    for (; *text; text++)
        out(0x3f8, *text);
}

static void hex(unsigned value)
{
    out(0x3f8, "0123456789abcdef"[value >> 4 & 15]);
    out(0x3f8, "0123456789abcdef"[value & 15]);
    out(0x3f8, ' ');
}

static void cmos(unsigned char number)
{
    out(0x70, number);
    hex(in(0x71));
}

static unsigned waited(unsigned mask, unsigned value)
{
    unsigned tries = 6000000;
    while ((in(0x3f4) & mask) != value && --tries)
        ;
    return tries;
}

static void send(unsigned char byte)
{
    waited(0xc0, 0x80);
    out(0x3f5, byte);
}

static void first_result(void)
{
    waited(0xc0, 0xc0);
    hex(in(0x3f5));
    while ((in(0x3f4) & 0xc0) == 0xc0)
        in(0x3f5);
}

static void command(const char *name, int size, unsigned bytes, unsigned more)
{
    print("\n  ");
    print(name);
    print(": ");
    for (int n = 0; n < size; n++)
        send((n < 4 ? bytes >> 8 * n : n < 8 ? more >> 8 * (n - 4) : 0xff));
}

static void changed(void)
{
    print("DIR ");
    hex(in(0x3f7) & 0x80);
}

static void sense(void) /* behind a seek, whose interrupt takes its time */
{
    for (int tries = 2000; tries--;) {
        in(0x80);
        send(8);
        waited(0xc0, 0xc0);
        unsigned status = in(0x3f5);
        if (status == 0x80)
            continue;
        hex(status);
        hex(in(0x3f5));
        return;
    }
    print("no interrupt ");
}

void kmain(void)
{
    print("GUEST ");
    cmos(0x10);
    cmos(0x14);
    out(0x3f2, 0);
    for (int n = 0; n < 1000; n++)
        in(0x80);
    out(0x3f2, 0x0c);
    for (int n = 0; n < 4; n++)
        sense();
    out(0x3f2, 0x1c);
    changed();
    command("specify", 3, 0x03af03, 0);
    command("recalibrate", 2, 0x0007, 0);
    sense();
    changed();
    command("seek", 3, 0x05000f, 0);
    sense();
    changed();
    command("drive status", 2, 0x0004, 0);
    first_result();
    command("read", 9, 0x00050046, 0x1b240230);
    first_result();
    command("back", 2, 0x0007, 0);
    sense();
    changed();
    print("~");
}
"""
)
"""Sector 48 is read, which no track has: ST0 is what an empty drive and a diskette have in common. ST1 is not: QEMU
leaves it 0 where the data sheet has "missing address mark" (82077AA, 3.2). Nor is a drive that is not there asked: a
seek ends without equipment check under QEMU, which "TRK0 not activated" is to set (5.2.1).
"""

_HEX = """
digits: mov cx, 4
next:   rol bx, 4
        mov al, bl
        and al, 15
        cmp al, 10
        sbb al, 0x69
        das
        mov dx, 0x3f8
        out dx, al
        loop next
        mov al, ' '
        out dx, al
        ret
"""
"""BX as four digits on COM1."""


def asks_the_bios(path: Path) -> Path:
    """A hard disk whose boot code calls INT 11h and functions of INT 13h for the diskette drives, but for AH=16h: to
    SeaBIOS every diskette has been changed.
    """
    functions = (0x0000, 0x0800, 0x1500, 0x0201, 0x0100)
    calls = [*((ax, 0) for ax in functions), (0x0800, 1), (0x1500, 1)]
    table = "\n".join(f".word {ax}, {dl}" for ax, dl in calls)
    code = f"""
        mov dx, 0x3f8
        {"".join(f"mov al, {byte}; out dx, al;" for byte in b"GUEST ")}
        int 0x11
        mov bx, ax
        and bx, 0xc1
        call digits
        mov si, table
again:  mov ax, [si]
        mov dx, [si + 2]
        push si
        mov bx, 0x8000
        mov cx, 1
        int 0x13
        push dx
        push cx
        push bx
        pushf
        mov bx, ax
        call digits
        pop bx
        and bx, 1
        call digits
        pop bx
        call digits
        pop bx
        call digits
        pop bx
        call digits
        mov al, 10
        out dx, al
        pop si
        add si, 4
        cmp si, table + {4 * len(calls)}
        jb again
        mov al, '~'
        out dx, al
        {HALT}
{_HEX}
table:  {table}
    """
    path.write_bytes(boot_sector(code).ljust(1 << 20, b"\0"))
    return path
