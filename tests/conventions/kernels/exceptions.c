/* Exception handlers that say what happened, as JamesM's tutorial has them: vector, error code, and where. */
#include "kernel.h"

struct frame {
    u32 ip, cs, flags;
};

static u32 resume;

static void report(const char *name, struct frame *frame, u32 code)
{
    print(name);
    print(", code ");
    hex(code, 8);
    print(", cs ");
    hex(frame->cs, 4);
    put('\n');
    frame->ip = resume;
}

__attribute__((interrupt)) static void on_divide(struct frame *f) { report("divide error", f, 0); }
__attribute__((interrupt)) static void on_overflow(struct frame *f) { report("overflow", f, 0); }
__attribute__((interrupt)) static void on_bound(struct frame *f) { report("bound", f, 0); }
__attribute__((interrupt)) static void on_opcode(struct frame *f) { report("invalid opcode", f, 0); }
__attribute__((interrupt)) static void on_device(struct frame *f) { report("no coprocessor", f, 0); }
__attribute__((interrupt)) static void on_segment(struct frame *f, u32 code) { report("segment not present", f, code); }
__attribute__((interrupt)) static void on_protection(struct frame *f, u32 code) { report("general protection", f, code); }

#define TRY(code) \
    __asm__ volatile("movl $1f, %0\n\t" code "\n1:" : "=m"(resume) : : "eax", "ecx", "edx", "cc", "memory")

u32 bounds[2] = {5, 6};

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    gdt[5] = 0x00cf12000000ffff; /* a data segment that is not present */
    load_gdt();
    set_gate(0, (void (*)(void))on_divide, 0x8e);
    set_gate(4, (void (*)(void))on_overflow, 0x8f);
    set_gate(5, (void (*)(void))on_bound, 0x8e);
    set_gate(6, (void (*)(void))on_opcode, 0x8e);
    set_gate(7, (void (*)(void))on_device, 0x8e);
    set_gate(11, (void (*)(void))on_segment, 0x8e);
    set_gate(13, (void (*)(void))on_protection, 0x8e);
    load_idt();
    TRY("xor %%ecx, %%ecx\n\tdiv %%ecx");
    TRY("mov $0x7fffffff, %%eax\n\tadd $1, %%eax\n\tinto");
    TRY("mov $7, %%eax\n\tbound %%eax, bounds");
    TRY("ud2");
    TRY("mov %%cr0, %%eax\n\tor $8, %%eax\n\tmov %%eax, %%cr0\n\tfnop");
    TRY("mov $40, %%eax\n\tmov %%ax, %%fs");
    TRY("mov $0x1234, %%eax\n\tmov %%ax, %%fs");
    TRY("int $0x50");
    print("still here");
}
