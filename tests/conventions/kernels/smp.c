/* Starting the other processors: INIT and two start-up messages to each, a trampoline below 1 MiB, a lock. */
#include "kernel.h"
#include "trampoline.h"

enum { APIC = 0xfee00000 };

static volatile u32 running, lock, counter;

static volatile u32 *apic(u32 at) { return (volatile u32 *)(APIC + at); }

void other_main(void)
{
    u32 mine;
    __asm__ volatile("1:\tmov $1, %0\n\txchg %0, %1\n\ttest %0, %0\n\tpause\n\tjnz 1b" : "=&r"(mine), "+m"(lock) : : "memory");
    for (int n = 0; n < 1000; n++)
        counter = counter + 1;
    running = running + 1;
    lock = 0;
    __asm__ volatile("1:\tcli\n\thlt\n\tjmp 1b");
}

static void send(u32 to, u32 what)
{
    *apic(0x310) = to << 24;
    *apic(0x300) = what;
    while (*apic(0x300) & 0x1000)
        __asm__ volatile("pause");
}

static void wait_us(u32 us)
{
    while (us--)
        inb(0x80);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    copy_trampoline();
    *apic(0xf0) = 0x1ff;
    print("boot processor ");
    number(*apic(0x20) >> 24);
    for (u32 other = 1; other < 4; other++) {
        send(other, 0x4500);
        wait_us(10000);
        send(other, 0x4600 | TRAMPOLINE >> 12);
        wait_us(200);
        send(other, 0x4600 | TRAMPOLINE >> 12);
        while (running < other)
            __asm__ volatile("pause");
        print("\nprocessor ");
        number(other);
        print(" runs");
    }
    print("\ncounted ");
    number(counter);
}
