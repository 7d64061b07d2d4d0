"""REX.R does nothing where a register is an MMX register (AMD64 APM volume 3, 1.2.7): there are eight."""

from __future__ import annotations

from random import Random

import hypervisor as hv

_CODE, _DATA = 0x10000, 0x20000
_OPCODES = [bytes((0x0F, 0x38, op)) for op in (*range(12), 0x1C, 0x1D, 0x1E)] + [b"\x0f\x3a\x0f"]
_REX_R = b"\x44"


def test_every_operation_on_every_register() -> None:
    """The whole x87 and SSE state is the same with the prefix as without it."""
    random = Random(1)
    image = bytearray(random.randbytes(512))
    image[:32] = bytes.fromhex("7f03 0000 ff00").ljust(24, b"\0") + bytes.fromhex("801f0000 ffff0000")
    code, count = bytearray(), 0
    for opcode in _OPCODES:
        for number in range(8):
            for prefix in (b"", _REX_R):
                count += 1
                code += _fx(b"\xae\x0c\x25", _DATA)  # fxrstor
                code += prefix + opcode + bytes((0xC0 | number << 3 | (number + 3) % 8,))
                if opcode[1] == 0x3A:
                    code += b"\x05"
                code += _fx(b"\xae\x04\x25", _DATA + 512 * count)  # fxsave
    with hv.Host("8M") as host:
        vm = host.create_vm(bytes(code) + b"\xf4", memory="1M", format="flat", at=_CODE, mode=64)
        vm.vcpu.cr4 |= 0x600
        vm.memory.write(_DATA, bytes(image))
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        images = [vm.memory.read(_DATA + 512 * n, 512) for n in range(1, count + 1)]
    assert len(code) < _DATA - _CODE
    for n in range(0, count, 2):
        assert images[n] == images[n + 1], f"instruction {n // 2}"
        assert images[n] != bytes(image)


def _fx(code: bytes, address: int) -> bytes:
    return b"\x0f" + code + address.to_bytes(4, "little")
