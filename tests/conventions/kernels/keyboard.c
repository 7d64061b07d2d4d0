/* The keyboard's interrupt: scan codes become characters, up to Enter. */
#include "kernel.h"

static const char map[] = "\0\0331234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static volatile char typed[32];
static volatile u32 length, releases;

__attribute__((interrupt)) static void on_key(void *frame)
{
    (void)frame;
    u8 code = inb(0x60);
    if (code & 0x80)
        releases++;
    else if (code < sizeof map && map[code] && length < sizeof typed)
        typed[length++] = map[code];
    outb(0x20, 0x20);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(0x21, (void (*)(void))on_key, 0x8e);
    load_idt();
    remap_pic(0xfffd);
    while (inb(0x64) & 1)
        inb(0x60);
    print("type: ");
    u32 shown = 0;
    while (releases < 6) {
        WAIT_UNTIL(shown < length || releases >= 6);
        for (; shown < length; shown++)
            put(typed[shown]);
    }
    print("keys: ");
    number(length);
}
