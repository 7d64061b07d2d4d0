"""An oracle for the engine: page walks, segments and event delivery, written from the manuals alone.

It shares no code and no table with ``hypervisor``, is slow and plain on purpose, and is only ever compared with.
Sources: AMD64 Architecture Programmer's Manual (APM) volumes 2 and 3, Intel Software Developer's Manual (SDM)
volumes 2 and 3. Where the two differ the oracle follows AMD. Where neither decides, it picks one way and puts a word
into ``unsettled``, so that a comparison can leave that case out:

=============================  ========================================================================================
partial-push                   a fault came after part of the frame (or an accessed bit) was written: the memory below
                               the stack pointer, and which of several faults came first
esp-high-half                  the upper half of ESP after a switch to a stack with B = 0 (here: from the TSS)
smap-inner-stack               AC let a stack switch out of ring 3 push onto a user page in spite of SMAP
tss-limit-padding              the TSS limit cuts off the padding after SS, which the manuals count differently
stack-at-the-canonical-edge    only a part of the frame is canonical
stack-or-rip-first             both are not canonical (here: the stack, #SS)
long-code-type-or-present      a handler's code segment is neither 64-bit nor present (here: #GP)
tss16-high-halves              the upper halves of registers after loading a 286 task (here: all ones)
tss-trap-bit                   the new task's T bit asks for a #DB that the caller has to raise
fault-in-new-task              a fault after a task switch's commit point: which check came first
=============================  ========================================================================================

``deliver`` never looks at DR7, alignment checks (CR0.AM) or the interrupt shadow, and takes the CR2 of a page fault
that it is given as already loaded.
"""
