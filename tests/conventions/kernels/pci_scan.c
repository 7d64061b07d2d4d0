/* PCI by configuration mechanism 1: every function of bus 0 with its class, and the size of the display's first window. */
#include "kernel.h"

static u32 config(u32 device, u32 function, u32 at)
{
    outl(0xcf8, 0x80000000u | device << 11 | function << 8 | at);
    return inl(0xcfc);
}

static void set_config(u32 device, u32 at, u32 value)
{
    outl(0xcf8, 0x80000000u | device << 11 | at);
    outl(0xcfc, value);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    for (u32 device = 0; device < 32; device++) {
        for (u32 function = 0; function < 8; function++) {
            u32 id = config(device, function, 0);
            if ((id & 0xffff) == 0xffff)
                continue;
            hex(device, 2);
            put('.');
            number(function);
            put(' ');
            hex(id & 0xffff, 4);
            put(':');
            hex(id >> 16, 4);
            print(" class ");
            hex(config(device, function, 8) >> 8, 6);
            print(" header ");
            hex(config(device, function, 12) >> 16 & 0xff, 2);
            if (config(device, function, 8) >> 24 == 3) {
                u32 window = config(device, 0x10, 0);
                (void)window;
                u32 old = config(device, function, 0x10);
                set_config(device, 0x10, 0xffffffff);
                u32 mask = config(device, function, 0x10);
                set_config(device, 0x10, old);
                print(" window ");
                hex(~(mask & ~15u) + 1, 8);
                print(*(volatile u32 *)(old & ~15u) == 0xffffffff ? " nothing there" : " memory");
            }
            put('\n');
            if (function == 0 && !(config(device, 0, 12) >> 16 & 0x80))
                break;
        }
    }
}
