"""x86 facts as data: registers, control bits, MSRs, CPUID leaves, page-table formats, exception vectors, exit kinds. No
behaviour.
"""
