/* The HPET: found by its ACPI table, its counter, and timer 0 in place of the PIT. */
#include "kernel.h"

enum { ENABLE = 1, LEGACY = 2, INTERRUPT = 1 << 2, PERIODIC = 1 << 3, SET_VALUE = 1 << 6, ONLY_32_BITS = 1 << 8 };

static volatile u32 ticks;
static u32 base;

__attribute__((interrupt)) static void on_timer(void *frame)
{
    (void)frame;
    ticks++;
    outb(0x20, 0x20);
}

static volatile u32 *at(u32 offset) { return (volatile u32 *)(base + offset); }

static u32 table(u32 signature)
{
    for (const char *root = (const char *)0xe0000; root < (const char *)0x100000; root += 16) {
        const u32 *words = (const u32 *)root;
        if (words[0] != 0x20445352 || words[1] != 0x20525450) /* RSD PTR */
            continue;
        const u32 *rsdt = (const u32 *)words[4];
        for (u32 n = 9; n < rsdt[1] / 4; n++)
            if (*(const u32 *)rsdt[n] == signature)
                return rsdt[n];
    }
    return 0;
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(0x20, (void (*)(void))on_timer, 0x8e);
    load_idt();
    remap_pic(0xfffe);
    u32 found = table(0x54455048); /* HPET */
    print("block ");
    hex(*(u32 *)(found + 36), 8);
    base = *(u32 *)(found + 44);
    print(" at ");
    hex(base, 8);
    print(" ticks of ");
    number(*at(4) / 1000000);
    print(" ns, timers ");
    number((*at(0) >> 8 & 31) + 1);
    u32 millisecond = 1000000000 / (*at(4) / 1000);
    *at(0x10) = 0;
    *at(0xf0) = 0;
    *at(0xf4) = 0;
    *at(0x100) = INTERRUPT | PERIODIC | SET_VALUE | ONLY_32_BITS;
    *at(0x108) = millisecond;
    *at(0x108) = millisecond;
    *at(0x10) = ENABLE | LEGACY; /* the PIT's own ticks are cut off */
    ticks = 0;
    WAIT_UNTIL(ticks >= 20);
    u32 passed = *at(0xf0);
    print(passed >= 19 * millisecond ? "\n20 ticks, not too soon" : "\n20 ticks, too soon");
    *at(0x100) = 0;
    ticks = 0;
    *at(0x108) = *at(0xf0) + 5 * millisecond;
    *at(0x100) = INTERRUPT | ONLY_32_BITS;
    WAIT_UNTIL(ticks >= 1);
    u32 end = *at(0xf0) + 10 * millisecond;
    __asm__ volatile("sti");
    while ((int)(end - *at(0xf0)) > 0)
        ;
    __asm__ volatile("cli");
    print("\na single one: ");
    number(ticks);
    *at(0x10) = 0;
    u32 stopped = *at(0xf0);
    print(stopped == *at(0xf0) ? "\nthe counter stands still\n" : "\nthe counter runs on\n");
}
