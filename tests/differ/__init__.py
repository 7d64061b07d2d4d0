"""Random programs under this hypervisor and under ``qemu-system-x86_64 -accel tcg``, compared.

``python -m tests.differ --programs 20000 --seed 1`` is the long form; ``--only NUMBER`` runs one program again.

An image of a harness and some hundred programs (`image`, harness.asm) is booted by both. For each program the
harness puts back all pages, descriptors and page tables that programs can reach, loads the state that the program
begins with, and goes to its mode (`modes`): 64-bit code and compatibility mode; protected mode without paging, with
two-level and with PAE paging, of 32 and 16 bits, each in ring 0 and 3; real mode. With and without TF. The program
ends at an exception, or at its last instruction, INT 81h. The handler of every vector keeps the state (`compare` says
what) and a checksum of each page; #DB of single steps folds the state into a hash and goes on.

Programs (`program`, `templates`) only branch forward, and repeated string instructions end at unmapped pages. Where
nothing stops a wild access, because there is no paging, addresses are of 16 bits and every segment's base is chosen
such that 64 KiB from there are the programs' own. They do not do what ends or hangs QEMU: LOCK BT with a register,
PG without PE, LA57. What differs is made shorter (`minimise`) and printed; where a
program differs only behind others, these are named (`leaks`). `known.ROWS` are QEMU's faults;
`known.OURS` are ours. Alignment, limits and transcendental functions are not compared, x87's last instruction and
its pointers neither.
"""
