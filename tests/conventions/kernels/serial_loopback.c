/* The serial port as OSDev's page has it: probe, loopback test, and a transmit interrupt. */
#include "kernel.h"

static volatile u32 sent;
static const char text[] = "sent by interrupts\n";

__attribute__((interrupt)) static void on_serial(void *frame)
{
    (void)frame;
    u8 why = inb(0x3fa);
    if ((why & 7) == 2 && text[sent])
        outb(0x3f8, (u8)text[sent++]);
    outb(0x20, 0x20);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    outb(0x3f9, 0);
    outb(0x3fb, 0x80);
    outb(0x3f8, 3);
    outb(0x3f9, 0);
    outb(0x3fb, 3);
    outb(0x3fa, 0xc7);
    outb(0x3fc, 0x0b);
    outb(0x3fc, 0x1e); /* loopback */
    outb(0x3f8, 0xae);
    u8 back = inb(0x3f8), modem = inb(0x3fe);
    outb(0x3fc, 0x0f);
    clear();
    print("back came ");
    hex(back, 2);
    print(", modem lines ");
    hex(modem & 0xf0, 2);
    outb(0x3ff, 0x5a);
    print("\nscratch ");
    hex(inb(0x3ff), 2);
    print(", fifo ");
    hex(inb(0x3fa) >> 6, 1);
    outb(0x3fb, 0x83);
    u8 divisor = inb(0x3f8);
    outb(0x3fb, 3);
    print(", divisor ");
    hex(divisor, 2);
    print(", line ");
    hex(inb(0x3fd) & 0x1e, 2);
    put('\n');
    load_gdt();
    set_gate(0x24, (void (*)(void))on_serial, 0x8e);
    load_idt();
    remap_pic(0xffef);
    outb(0x3f9, 2);
    WAIT_UNTIL(sent == sizeof text - 1);
    outb(0x3f9, 0);
    print("done");
}
