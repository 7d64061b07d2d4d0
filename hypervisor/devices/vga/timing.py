"""Where the beam is: input status 1 from the clock and the CRTC's registers, in the VM's own time."""

from __future__ import annotations

from hypervisor.devices.vga import vga_registers as r


def status(now_ns: int, misc: int, sequencer: bytes | bytearray, crtc: bytes | bytearray) -> int:
    """The retrace bits of input status 1 at ``now_ns``.

    IBM PS/2 Hardware Interface Technical Reference, "CRT controller registers": totals are stored less 5 characters
    and less 2 lines, ends of display less 1; the retrace ends where the line counter's low 4 bits match.
    """
    character = 8 if r.SEQ_EIGHT_DOTS.of(sequencer) else 9
    dots = (crtc[r.CRTC_H_TOTAL] + 5) * character
    shown_dots = (crtc[r.CRTC_H_SHOWN] + 1) * character
    lines = r.scan_count(crtc, r.CRTC_V_TOTAL, 0, 5) + 2
    shown_lines = r.scan_count(crtc, r.CRTC_V_SHOWN, 1, 6) + 1
    start = r.scan_count(crtc, r.CRTC_V_RETRACE, 2, 7)
    length = (crtc[r.CRTC_V_RETRACE_END] - start) % 16 or 16
    khz = r.DOT_KHZ[misc >> r.MISC_CLOCK_SHIFT & 3] >> r.SEQ_HALF_CLOCK.of(sequencer)
    line, column = divmod(now_ns * khz // 1_000_000 % (dots * lines), dots)
    bits = r.STATUS_BLANK if line >= shown_lines or column >= shown_dots else 0
    return bits | r.STATUS_RETRACE if start <= line < start + length else bits
