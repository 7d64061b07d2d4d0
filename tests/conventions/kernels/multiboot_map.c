/* What multiboot hands over: flags, memory, the command line's presence, the map's low part, a loader's name. */
#include "kernel.h"

void kernel_main(u32 magic, const u32 *info)
{
    clear();
    hex(magic, 8);
    u32 flags = info[0];
    print(flags & 1 ? " memory" : "");
    print(flags & 4 ? " command-line" : "");
    print(flags & 64 ? " map" : "");
    print(flags & 512 ? " loader" : "");
    print("\nlower ");
    number(info[1]);
    u32 upper = 0;
    for (u32 at = info[12]; at < info[12] + info[11];) {
        const u32 *entry = (const u32 *)at;
        if (entry[2] == 0 && entry[1] < 0x100000) {
            put('\n');
            hex(entry[1], 8);
            put('+');
            hex(entry[3], 8);
            put(' ');
            number(entry[5]);
        } else if (entry[5] == 1)
            upper += entry[3];
        at += entry[0] + 4;
    }
    print("\nupper MiB ");
    number((upper + 0xfffff) >> 20);
}
