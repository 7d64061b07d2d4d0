/* The diskette drive without the BIOS: reset, calibrate, and read a sector by DMA channel 2, with IRQ 6. */
#include "kernel.h"

enum { BUFFER = 0x9000 };

static volatile u32 interrupts;

__attribute__((interrupt)) static void on_floppy(void *frame) { (void)frame; interrupts++; outb(0x20, 0x20); }

static void send(u8 byte)
{
    while ((inb(0x3f4) & 0xc0) != 0x80)
        ;
    outb(0x3f5, byte);
}

static u8 receive(void)
{
    while ((inb(0x3f4) & 0xc0) != 0xc0)
        ;
    return inb(0x3f5);
}

static void sense(void)
{
    send(8);
    u8 status = receive(), cylinder = receive();
    hex(status, 2);
    hex(cylinder, 2);
    put(' ');
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(0x26, (void (*)(void))on_floppy, 0x8e);
    load_idt();
    remap_pic(0xffbf);
    outb(0x3f2, 0);
    outb(0x3f2, 0x0c);
    WAIT_UNTIL(interrupts == 1);
    print("reset ");
    for (int drive = 0; drive < 4; drive++)
        sense();
    outb(0x3f7, 0);
    send(3);
    send(0xdf);
    send(2);
    outb(0x3f2, 0x1c); /* the motor of drive 0 */
    send(7);
    send(0);
    WAIT_UNTIL(interrupts == 2);
    print("\ncalibrated ");
    sense();
    send(15);
    send(0);
    send(1);
    WAIT_UNTIL(interrupts == 3);
    print("\nseek ");
    sense();
    outb(0x0a, 6); /* DMA channel 2: 512 bytes to the buffer */
    outb(0x0c, 0xff);
    outb(0x04, (u8)BUFFER);
    outb(0x04, (u8)(BUFFER >> 8));
    outb(0x81, 0);
    outb(0x0c, 0xff);
    outb(0x05, 0xff);
    outb(0x05, 1);
    outb(0x0b, 0x46);
    outb(0x0a, 2);
    static const u8 command[] = {0x46, 0, 1, 0, 5, 2, 18, 0x1b, 0xff};
    for (u32 n = 0; n < sizeof command; n++)
        send(command[n]);
    WAIT_UNTIL(interrupts == 4);
    print("\nread ");
    for (int n = 0; n < 7; n++)
        hex(receive(), 2);
    print("\nbuffer ");
    for (u32 n = 0; n < 8; n++)
        hex(((volatile u8 *)BUFFER)[n], 2);
    outb(0x3f2, 0x0c);
}
