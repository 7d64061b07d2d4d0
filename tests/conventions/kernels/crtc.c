/* The cursor and the start address by the CRT controller's ports, and what can be read back. */
#include "kernel.h"

static void set(u8 at, u8 value) { outb(0x3d4, at); outb(0x3d5, value); }
static u8 get(u8 at) { outb(0x3d4, at); return inb(0x3d5); }

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    u16 place = 12 * 80 + 40;
    set(0x0f, (u8)place);
    set(0x0e, (u8)(place >> 8));
    set(0x0a, (get(0x0a) & 0xc0) | 13);
    set(0x0b, (get(0x0b) & 0xe0) | 15);
    print("cursor ");
    hex(get(0x0e), 2);
    hex(get(0x0f), 2);
    print(", lines ");
    hex(get(0x0a) & 0x3f, 2);
    hex(get(0x0b) & 0x1f, 2);
    print("\nrows ");
    hex(get(0x12), 2);
    print(", offset ");
    hex(get(0x13), 2);
    print(", height ");
    hex(get(9) & 0x1f, 2);
    print("\nmisc ");
    hex(inb(0x3cc), 2);
    outb(0x3c7, 1);
    print(", blue ");
    for (int n = 0; n < 3; n++)
        hex(inb(0x3c9), 2);
    outb(0x3c4, 2);
    print(", planes ");
    hex(inb(0x3c5), 2);
    u32 retraces = 0;
    for (int n = 0; n < 3; n++) {
        while (inb(0x3da) & 8);
        while (!(inb(0x3da) & 8));
        retraces++;
    }
    print("\nretraces ");
    number(retraces);
}
