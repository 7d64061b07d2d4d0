"""A gdb stub: the real gdb debugs a guest over TCP, on the loopback interface.

The socket is in `server`, framing in `packets`, what packets mean in `commands`, how the guest stops and steps in
`session` and `stops`, the registers in `description` (as data) and `registers`.
"""

from hypervisor.debug.gdb.server import GdbServer

__all__ = ["GdbServer"]
