/* A PS/2 mouse: enable the auxiliary port, set defaults, switch reporting on, collect packets of three bytes on IRQ 12. */
#include "kernel.h"

static volatile u8 packet[3];
static volatile int filled, packets;
static volatile int x, y, clicks, held;

static void wait_in(void) { while (inb(0x64) & 2); }
static void wait_out(void) { while (!(inb(0x64) & 1)); }
static void command(u8 value) { wait_in(); outb(0x64, value); }

static u8 mouse(u8 value)
{
    command(0xd4);
    wait_in();
    outb(0x60, value);
    wait_out();
    return inb(0x60);
}

__attribute__((interrupt)) static void on_mouse(void *frame)
{
    (void)frame;
    packet[filled] = inb(0x60);
    if (filled == 0 && !(packet[0] & 8))
        filled = -1; /* out of step */
    if (++filled == 3) {
        filled = 0;
        packets++;
        x += packet[1] - ((packet[0] << 4) & 0x100);
        y += packet[2] - ((packet[0] << 3) & 0x100);
        if (packet[0] & 1 && !held)
            clicks++;
        held = packet[0] & 1;
    }
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

static void signed_number(int value)
{
    if (value < 0) {
        put('-');
        value = -value;
    }
    number((u32)value);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(0x2c, (void (*)(void))on_mouse, 0x8e);
    load_idt();
    remap_pic(0xffff);
    command(0xad);
    command(0xa8);
    while (inb(0x64) & 1)
        inb(0x60);
    command(0x20);
    wait_out();
    u8 byte = inb(0x60);
    command(0x60);
    wait_in();
    outb(0x60, (byte | 2) & ~0x20);
    print("reset ");
    hex(mouse(0xff), 2);
    wait_out();
    hex(inb(0x60), 2);
    wait_out();
    hex(inb(0x60), 2);
    print(", identity ");
    hex(mouse(0xf2), 2);
    wait_out();
    hex(inb(0x60), 2);
    print(", defaults ");
    hex(mouse(0xf6), 2);
    print(", on ");
    hex(mouse(0xf4), 2);
    remap_pic(0xeffb);
    print("\nmove and click\n");
    WAIT_UNTIL(clicks >= 1 && !held);
    print("at ");
    signed_number(x);
    print(", ");
    signed_number(y);
}
