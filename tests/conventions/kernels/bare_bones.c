/* Bare Bones: the smallest kernel in C. A terminal in VGA text memory, with colours, that scrolls. */
#include "kernel.h"

static u16 entry(char c, u8 colour) { return (u16)(colour << 8 | (u8)c); }

void kernel_main(u32 magic, const u32 *info)
{
    clear();
    print("Hello, kernel World!\n");
    print("magic ");
    hex(magic, 8);
    print(info[0] & 1 ? ", memory is known\n" : ", memory is not known\n");
    for (u8 colour = 0; colour < 16; colour++)
        screen[160 + colour] = entry((char)('a' + colour), colour);
    for (int line = 0; line < 40; line++) {
        print("line ");
        number((u32)line);
        put('\n');
    }
}
