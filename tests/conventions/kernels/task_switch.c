/* Hardware multitasking: two task state segments, far jumps between them, and a task gate for an exception; without
   paging, and with it. */
#include "kernel.h"

struct __attribute__((packed)) tss {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs,
        ldt, trap_and_map;
};

static struct tss first, second, fault;
static u8 stacks[2][1024] __attribute__((aligned(16)));
static u32 directory[1024] __attribute__((aligned(4096)));

static u64 descriptor(struct tss *task)
{
    u32 base = (u32)task;
    return (u64)(sizeof *task - 1) | (u64)(base & 0xffffff) << 16 | (u64)0x89 << 40 | (u64)(base >> 24) << 56;
}

static void second_task(void)
{
    for (u32 round = 1;; round++) {
        print(" second ");
        number(round);
        __asm__ volatile("ljmp $40, $0");
    }
}

static void fault_task(void)
{
    for (;;) {
        u32 code;
        __asm__ volatile("pop %0" : "=r"(code));
        print("\nfault task: code ");
        hex(code, 4);
        print(", back link ");
        hex(fault.link, 4);
        first.eip += 2; /* ud2, or an instruction as long */
        __asm__ volatile("iret");
    }
}

static void prepare(struct tss *task, void (*code)(void), u8 *top)
{
    task->eip = (u32)code;
    task->esp = (u32)top;
    task->eflags = 2;
    task->cs = CODE;
    task->ds = task->es = task->fs = task->gs = task->ss = DATA;
}

static void paging_on(void)
{
    for (u32 n = 0; n < 1024; n++)
        directory[n] = n << 22 | 0x83; /* pages of 4 MiB, where they are */
    first.cr3 = second.cr3 = fault.cr3 = (u32)directory;
    __asm__ volatile("mov %0, %%cr4" : : "r"(1 << 4));
    __asm__ volatile("mov %0, %%cr3" : : "r"(directory));
    __asm__ volatile("mov %%cr0, %%eax; or $0x80000000, %%eax; mov %%eax, %%cr0" : : : "eax");
}

static void take_turns(void)
{
    for (u32 round = 1; round <= 3; round++) {
        print("first ");
        number(round);
        __asm__ volatile("ljmp $48, $0" : : : "memory");
        put('\n');
    }
    __asm__ volatile("mov %w0, %%gs" : : "a"(0x1238));
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    prepare(&second, second_task, stacks[0] + sizeof stacks[0]);
    prepare(&fault, fault_task, stacks[1] + sizeof stacks[1]);
    gdt[5] = descriptor(&first);
    gdt[6] = descriptor(&second);
    gdt[7] = descriptor(&fault);
    load_gdt();
    idt[13] = (struct gate){0, 56, 0, 0x85, 0};
    load_idt();
    __asm__ volatile("ltr %w0" : : "r"(TASK));
    take_turns();
    print("\nwith paging\n");
    paging_on();
    take_turns();
    print("\nthe first goes on");
}
