/* The timer as the firmware left it: 18.2 Hz on IRQ 0, first at vector 8 where the firmware put it, then remapped. */
#include "kernel.h"

static volatile u32 early, late;

__attribute__((interrupt)) static void on_early(void *frame) { (void)frame; early++; outb(0x20, 0x20); }
__attribute__((interrupt)) static void on_late(void *frame) { (void)frame; late++; outb(0x20, 0x20); }

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(8, (void (*)(void))on_early, 0x8e);
    set_gate(0x20, (void (*)(void))on_late, 0x8e);
    load_idt();
    outb(0x21, 0xfe);
    WAIT_UNTIL(early >= 2);
    print("ticks at vector 8: 2\n");
    remap_pic(0xfffe);
    WAIT_UNTIL(late >= 2);
    print("ticks at vector 20: 2\n");
}
