"""An oracle for the engine: page walks, segments and event delivery, written from the manuals alone.

It shares no code and no table with ``hypervisor``, is slow and plain on purpose, and is only ever compared with.
Sources: AMD64 Architecture Programmer's Manual (APM) volumes 2 and 3, Intel Software Developer's Manual (SDM)
volumes 2 and 3. Where the two differ the oracle follows AMD; where neither decides, the outcome carries a word in
``unsettled`` so that a comparison can leave that case out.
"""
