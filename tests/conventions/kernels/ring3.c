/* Paging and user mode: identity-mapped pages, a task state segment, IRET to ring 3, system calls by INT 80h. */
#include "kernel.h"

static u32 directory[1024] __attribute__((aligned(4096)));
static u32 tables[2][1024] __attribute__((aligned(4096)));
static u8 user_page[4096] __attribute__((aligned(4096)));
static u8 user_stack[4096] __attribute__((aligned(4096)));
static u32 tss[26];

void on_call(u32 *frame)
{
    u32 number_of_call = frame[7], argument = frame[6];
    if (number_of_call == 1)
        put((char)argument);
    else if (number_of_call == 2)
        frame[7] = argument * 2;
    else {
        print("\nthe user has finished with ");
        number(argument);
        print(" from ring ");
        number(frame[9] & 3);
        __asm__ volatile("cli\n1:\thlt\n\tjmp 1b");
    }
}

/* EAX is the call, ECX its argument. PUSHA leaves EDI lowest and EAX highest. */
__attribute__((naked)) static void call_entry(void)
{
    __asm__("pusha\n\tpush %esp\n\tcall on_call\n\tadd $4, %esp\n\tpopa\n\tiret");
}

void on_fault(u32 code, u32 ip)
{
    u32 address;
    __asm__ volatile("mov %%cr2, %0" : "=r"(address));
    print("\npage fault, code ");
    hex(code, 2);
    print(address == 0x400000 ? ", at 4 MiB" : ", elsewhere");
    (void)ip;
    tables[1][0] = 0x400000 | 7;
    __asm__ volatile("invlpg 0x400000");
}

__attribute__((naked)) static void fault_entry(void)
{
    __asm__("pusha\n\tpush 36(%esp)\n\tpush 36(%esp)\n\tcall on_fault\n\tadd $8, %esp\n\tpopa\n\tadd $4, %esp\n\tiret");
}

__attribute__((naked, aligned(4096))) static void user(void)
{
    __asm__(
        "mov $1, %eax\n\tmov $'u', %ecx\n\tint $0x80\n\t"
        "mov $1, %eax\n\tmov $'3', %ecx\n\tint $0x80\n\t"
        "movl $21, 0x400000\n\t"
        "mov $2, %eax\n\tmov 0x400000, %ecx\n\tint $0x80\n\t"
        "mov %eax, %ecx\n\tmov $3, %eax\n\tint $0x80");
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    for (u32 page = 0; page < 1024; page++)
        tables[0][page] = page << 12 | 3;
    tables[0][(u32)user >> 12] |= 4;
    tables[0][(u32)user_page >> 12] |= 4;
    tables[0][(u32)user_stack >> 12] |= 4;
    directory[0] = (u32)tables[0] | 7;
    directory[1] = (u32)tables[1] | 7;
    tss[1] = (u32)(stack + sizeof stack);
    tss[2] = DATA;
    u32 base = (u32)tss;
    gdt[5] = (u64)(sizeof tss - 1) | (u64)(base & 0xffffff) << 16 | (u64)0x89 << 40 | (u64)(base >> 24) << 56;
    load_gdt();
    set_gate(14, fault_entry, 0x8e);
    set_gate(0x80, call_entry, 0xee);
    load_idt();
    __asm__ volatile("ltr %w0" : : "r"(TASK));
    __asm__ volatile("mov %0, %%cr3\n\tmov %%cr0, %%eax\n\tor $0x80000000, %%eax\n\tmov %%eax, %%cr0" : : "r"(directory) : "eax");
    print("paging is on\n");
    __asm__ volatile("mov %w0, %%ds\n\tmov %w0, %%es\n\tpush %0\n\tpush %1\n\tpushf\n\tpush %2\n\tpush %3\n\tiret"
                     : : "r"(USER_DATA), "r"(user_stack + sizeof user_stack), "i"(USER_CODE), "r"(user));
    __builtin_unreachable();
}
