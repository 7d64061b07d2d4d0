/* The timer's second channel: gated by port 61h, and a tone for the speaker. */
#include "kernel.h"

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    outb(0x61, inb(0x61) & ~3);
    outb(0x43, 0xb0); /* mode 0: the output rises at the end */
    outb(0x42, 0x9c);
    outb(0x42, 0x2e);
    print(inb(0x61) & 0x20 ? "output high\n" : "output low\n");
    outb(0x61, (inb(0x61) & ~2) | 1);
    while (!(inb(0x61) & 0x20))
        ;
    print("10 ms are over\n");
    outb(0x43, 0xb6);
    outb(0x42, 0xa9);
    outb(0x42, 0x04);
    outb(0x61, inb(0x61) | 3);
    u32 changes = 0;
    u8 last = inb(0x61) & 0x20;
    while (changes < 20) {
        u8 now = inb(0x61) & 0x20;
        changes += now != last;
        last = now;
    }
    outb(0x61, inb(0x61) & ~3);
    print("ten waves of 1 kHz\nport 61h: ");
    hex(inb(0x61) & 3, 1);
    outb(0x43, 0xe8); /* read back: the status of channel 2 */
    print(", status ");
    hex(inb(0x42) & 0x3f, 2);
}
