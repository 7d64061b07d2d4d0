/* CPUID: is it there, and the features that kernels ask for. */
#include "kernel.h"

static void cpuid(u32 leaf, u32 *out)
{
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

static void has(const char *name, u32 word, int bit)
{
    print(name);
    print(word >> bit & 1 ? "+ " : "- ");
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    u32 before, after, out[4];
    clear();
    __asm__ volatile("pushf\n\tpop %0\n\tmov %0, %1\n\txor $0x200000, %1\n\tpush %1\n\tpopf\n\tpushf\n\tpop %1"
                     : "=&r"(before), "=&r"(after));
    print((before ^ after) & 0x200000 ? "CPUID is there\n" : "no CPUID\n");
    cpuid(0, out);
    print(out[0] >= 1 ? "" : "no leaf 1\n");
    for (int n = 0; n < 12; n++)
        put((char)(out[n < 4 ? 1 : n < 8 ? 3 : 2] >> 8 * (n & 3)));
    put('\n');
    cpuid(1, out);
    has("fpu", out[3], 0);
    has("pse", out[3], 3);
    has("tsc", out[3], 4);
    has("msr", out[3], 5);
    has("pae", out[3], 6);
    has("cx8", out[3], 8);
    has("apic", out[3], 9);
    has("sep", out[3], 11);
    has("pge", out[3], 13);
    has("cmov", out[3], 15);
    has("mmx", out[3], 23);
    has("fxsr", out[3], 24);
    has("sse", out[3], 25);
    has("sse2", out[3], 26);
    has("sse3", out[2], 0);
    has("hypervisor", out[2], 31);
    cpuid(0x80000000, out);
    print(out[0] >= 0x80000008 ? "\nextended leaves\n" : "\nno extended leaves\n");
    cpuid(0x80000001, out);
    has("syscall", out[3], 11);
    has("nx", out[3], 20);
    has("lm", out[3], 29);
    cpuid(0x80000008, out);
    print("\nlinear address bits ");
    number(out[0] >> 8 & 0xff);
}
