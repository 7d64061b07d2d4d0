/* An ISO by grub-mkrescue: the kernel is loaded by GRUB from a CD, and reads its name and memory map from it. */
#include "kernel.h"

void kernel_main(u32 magic, const u32 *info)
{
    outb(0x3c4, 1); /* GRUB leaves the text mode that was there */
    clear();
    print(magic == 0x2badb002 ? "loaded by multiboot\n" : "not loaded by multiboot\n");
    print("flags: ");
    hex(info[0] & 0x241, 3);
    print(info[0] & 0x200 ? "\nloader: " : "\nno loader");
    if (info[0] & 0x200)
        print((const char *)info[16]);
    print("\nlower memory ");
    number(info[1]);
    print(" KiB");
}
