"""What the engine does to the host's frames, for `hypervisor.memory`, which lies below it."""

from __future__ import annotations

from hypervisor.engine.compiling.compiler import code
from hypervisor.memory import FrameKernels


def frame_kernels() -> FrameKernels:
    """The kernels that change the frame table and page maps; any thread may call them."""
    call = code().call
    return FrameKernels(
        take=call["take_frame"],
        own=call["own_frame"],
        own_several=call["own_frames"],
        lay=call["lay_pages"],
        clear=call["clear_pages"],
        add_leaf=call["add_leaf"],
        remove_leaf=call["remove_leaf"],
        release=call["release_zones"],
        trim=call["trim_frames"],
        freeze=call["freeze_map"],
        adopt=call["adopt_zones"],
        put_back=call["put_back_zones"],
        drop=call["drop_leaves"],
        keep_for=call["keep_frames"],
        merge_zone=call["merge_zone"],
        prune=call["prune_merged"],
        pick=call["pick_pages"],
        swap=call["swap_pages"],
        drop_slots=call["drop_slots"],
    )
