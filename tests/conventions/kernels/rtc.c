/* The real-time clock: set it to the last second of a century, and wait for the next by its update interrupt. */
#include "kernel.h"

static volatile int updates, periods;

static u8 cmos(u8 at) { outb(0x70, at | 0x80); return inb(0x71); }
static void set(u8 at, u8 value) { outb(0x70, at | 0x80); outb(0x71, value); }

__attribute__((interrupt)) static void on_clock(void *frame)
{
    (void)frame;
    u8 why = cmos(0x0c);
    updates += why >> 4 & 1;
    periods += why >> 6 & 1;
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

static void show(void)
{
    static const u8 order[] = {0x09, 0x08, 0x07, 0x04, 0x02, 0x00};
    for (u32 n = 0; n < sizeof order; n++) {
        hex(cmos(order[n]), 2);
        put(n == 2 ? ' ' : n < 2 ? '-' : n < 5 ? ':' : '\n');
    }
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(0x28, (void (*)(void))on_clock, 0x8e);
    load_idt();
    remap_pic(0xfefb);
    print("format ");
    hex(cmos(0x0b) & 7, 1);
    print(", valid ");
    hex(cmos(0x0d), 2);
    put('\n');
    set(0x0b, cmos(0x0b) | 0x80); /* no updates meanwhile */
    set(0x00, 0x59);
    set(0x02, 0x59);
    set(0x04, 0x23);
    set(0x07, 0x31);
    set(0x08, 0x12);
    set(0x09, 0x99);
    show();
    set(0x0b, (cmos(0x0b) & 0x7f) | 0x10);
    cmos(0x0c);
    WAIT_UNTIL(updates >= 1);
    show();
    set(0x0a, (cmos(0x0a) & 0xf0) | 9); /* 128 Hz */
    set(0x0b, (cmos(0x0b) & ~0x10) | 0x40);
    cmos(0x0c);
    WAIT_UNTIL(periods >= 32);
    set(0x0b, cmos(0x0b) & ~0x40);
    print("32 periods\nbase memory ");
    hex((u32)cmos(0x16) << 8 | cmos(0x15), 4);
}
