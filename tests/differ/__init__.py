"""Random programs under this hypervisor and under ``qemu-system-x86_64 -accel tcg``, compared.

``python -m tests.differ --programs 20000 --seed 1`` is the long form; ``--only NUMBER`` runs one program again.

An image of a harness and some hundred programs (`image`, harness.asm) is booted by both. For each program the
harness puts back all pages, descriptors and page tables that programs can reach, loads the state that the program
begins with, and goes to its mode: 64-bit code and compatibility mode of 32 bits in ring 0 and 3, of 16 bits in ring
3, with and without TF. The program ends at an exception, or at its last instruction, INT 81h. The handler of every
vector keeps the state (`compare` says what) and a checksum of each page; #DB of single steps folds the state into a
hash and goes on.

Programs (`program`, `templates`) only branch forward, and repeated string instructions end at unmapped pages. They
do not do what ends or hangs QEMU: LOCK BT with a register, PG without PE, LA57. What differs is made shorter
(`minimise`) and printed. `known.ROWS` are QEMU's faults; `known.OURS` are ours, documented or open. Alignment,
limits and transcendental functions are not compared, x87's last instruction and its pointers neither.
"""
