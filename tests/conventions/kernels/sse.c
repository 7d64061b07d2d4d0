/* Switching on the x87, MMX and SSE, and a little arithmetic with each. */
#include "kernel.h"

static u8 area[512] __attribute__((aligned(16)));
static float four[4] __attribute__((aligned(16))) = {1, 2, 3, 4};
static double result;
static u32 words[2] = {0x00010002, 0x7fff0004};

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    u32 cr0, cr4, control;
    clear();
    __asm__ volatile("mov %%cr0, %0\n\tmov %%cr4, %1" : "=r"(cr0), "=r"(cr4));
    cr0 = (cr0 & ~4u) | 2;
    cr4 |= 3 << 9;
    __asm__ volatile("mov %0, %%cr0\n\tmov %1, %%cr4" : : "r"(cr0), "r"(cr4));
    __asm__ volatile("stmxcsr %0" : "=m"(control));
    print("mxcsr ");
    hex(control, 4);
    __asm__ volatile("movaps %0, %%xmm0\n\taddps %%xmm0, %%xmm0\n\tsqrtps %%xmm0, %%xmm1\n\tmovaps %%xmm1, %0" : "+m"(four));
    print("\nroots ");
    for (int n = 0; n < 4; n++) {
        hex(((u32 *)four)[n], 8);
        put(' ');
    }
    __asm__ volatile("fninit\n\tfldpi\n\tfsqrt\n\tfstpl %0\n\tfnstsw %%ax" : "=m"(result) : : "ax");
    print("\nroot of pi ");
    hex(((u32 *)&result)[1], 8);
    hex(((u32 *)&result)[0], 8);
    __asm__ volatile("movq %0, %%mm0\n\tpaddsw %%mm0, %%mm0\n\tmovq %%mm0, %0\n\temms" : "+m"(words));
    print("\nsaturated ");
    hex(words[1], 8);
    hex(words[0], 8);
    __asm__ volatile("fninit\n\tfxsave %0" : "=m"(area));
    print("\nfxsave ");
    hex(*(u16 *)area, 4);
    put(' ');
    hex(*(u16 *)(area + 2), 4);
    put(' ');
    hex(area[4], 2);
    put(' ');
    hex(*(u32 *)(area + 24) & ~0x3fu, 4); /* without what happened, which this emulator does not keep */
}
