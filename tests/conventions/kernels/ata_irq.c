/* The hard disk with interrupts: several sectors are written with IRQ 14, read back, and the cache is flushed. */
#include "kernel.h"

static volatile u32 interrupts;
static u16 out[512], in[512];

__attribute__((interrupt)) static void on_disk(void *frame)
{
    (void)frame;
    inb(0x1f7);
    interrupts++;
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

static void address(u32 sector, u8 count)
{
    while (inb(0x1f7) & 0x80);
    outb(0x1f6, 0xe0);
    outb(0x1f2, count);
    outb(0x1f3, (u8)sector);
    outb(0x1f4, (u8)(sector >> 8));
    outb(0x1f5, (u8)(sector >> 16));
}

static void wait_for_data(void)
{
    while ((inb(0x3f6) & 0x88) != 8);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(0x2e, (void (*)(void))on_disk, 0x8e);
    load_idt();
    remap_pic(0xbffb);
    outb(0x3f6, 0);
    for (int n = 0; n < 512; n++)
        out[n] = (u16)(n * 321 + 7);
    address(100, 2);
    outb(0x1f7, 0x30);
    for (int sector = 0; sector < 2; sector++) {
        wait_for_data();
        for (int n = 0; n < 256; n++)
            outw(0x1f0, out[sector * 256 + n]);
        WAIT_UNTIL(interrupts == (u32)sector + 1);
    }
    print("written, interrupts: ");
    number(interrupts);
    outb(0x1f7, 0xe7);
    WAIT_UNTIL(interrupts == 3);
    address(100, 2);
    outb(0x1f7, 0x20);
    for (int sector = 0; sector < 2; sector++) {
        WAIT_UNTIL(interrupts == 4 + (u32)sector);
        wait_for_data();
        for (int n = 0; n < 256; n++)
            in[sector * 256 + n] = inw(0x1f0);
    }
    int same = 1;
    for (int n = 0; n < 512; n++)
        same &= in[n] == out[n];
    print(same ? "\nread back: the same" : "\nread back: something else");
    address(0x0fffff, 1); /* far behind the end */
    outb(0x1f7, 0x20);
    WAIT_UNTIL(interrupts == 6);
    print(inb(0x3f6) & 1 ? "\nbehind the end: an error" : "\nbehind the end: no error");
}
