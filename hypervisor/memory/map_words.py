"""What the frame table and the page maps hold, as data: the kernels and Python read and write the same words.

All words have 64 bits. A frame is named by its host-physical address, which has twelve zero bits below: that is where a
map's bits go.
"""

from __future__ import annotations

# --- a word of a page map: the frame's address | bits -----------------------------------------------------------------
MAP_RAM = 1
"""There is memory. A word without it is a hole."""
MAP_WRITE = 2
"""Stores reach it."""
MAP_SHARED = 4
"""Others show the frame too: `own` before a store."""
MAP_TRAP_READ = 8
MAP_TRAP_WRITE = 16
MAP_TRAP_EXECUTE = 32
MAP_ALIAS = 64
"""Of the shown map alone, without `MAP_RAM`: the address is that of a page of the base map, whose word says the rest.
"""

MAP_TRAPS = MAP_TRAP_READ | MAP_TRAP_WRITE | MAP_TRAP_EXECUTE
FRAME = ~0xFFF
"""The frame's part of a word."""

LEAF_SHIFT = 9
LEAF_PAGES = 1 << LEAF_SHIFT
"""Pages of a zone, whose words lie in one frame: a leaf."""

# --- words that say where a VM's maps are -----------------------------------------------------------------------------
SHOWN = 0
"""Address of the shown map's directory: for each zone the address of a leaf, which is the frame of zeros where the map
shows nothing.
"""
BASE = 8
"""Address of the base map's directory: for each zone the address of a leaf, or 0."""
ELSEWHERE = 16
"""Address of the zones of the base map that show in zones whose leaf shows nothing, 0 for none."""
PAGES = 24
"""Pages of the shown map. The base map goes on behind them."""
ZONES = 32
"""Zones of the base map."""
CHARGE = 40
"""Address of two words: how many frames the map has for itself alone, and how many it has been promised for sure."""
MAP_SIZE = 48

# --- the frame table: its own words ----------------------------------------------------------------------------------
MEMORY = 0
"""Process address of host-physical 0."""
REFERENCES = 8
"""Address of a word for each frame: how many words of leaves, or directories, lead to it."""
GENERATIONS = 16
"""Address of a word for each frame: odd while engines may have translated code of what is in it; it becomes even before
that changes.
"""
POOL = 24
"""Address of a word for each frame: free frames, those that are zero from the beginning on, the others from the end."""
LOCK = 32
"""1 while somebody changes the words below."""
FRESH = 40
"""The first frame that has never been used: it and all behind it are free, and zero."""
END = 48
"""The end of all frames."""
CLEAN = 56
"""How many free frames are zero."""
DIRTY = 64
"""How many are not."""
ZERO_LEAF = 72
"""Process address of a leaf whose pages all show the frame of zeros."""
YIELD = 80
"""A function that lets another thread run (sched_yield)."""
ADVISE = 88
"""madvise, or 0 where the host has none that clears memory."""
LEFT = 96
"""How many frames may still be taken for pages."""
RESERVED = 104
"""How many of these maps have for sure, and have not taken yet."""
MARKS = 112
"""Address of a byte for each frame: `REFERENCED` and `MERGED`."""
LOW = 120
"""When there are fewer frames that anybody may take, a guest that takes one is left at the end of its block, so that
room is made: `NEVER` where there is no swap file.
"""
SLOTS_END = 128
"""The end of the slots of the swap file, which are the frames from `END` on: they are in the tables as others are, and
can be read as they can; nobody can store to one.
"""
SLOTS_FRESH = 136
"""The first slot that has never been used."""
SLOTS_FREE = 144
"""How many slots before that are free. They are in the pool from the first slot's place on."""
LOST = 152
"""How many slots could not be read from the disk."""
LOST_AT = 160
"""Address of a byte for each slot: 1 where that was so. It reads as zeros, and is never used again."""
TABLE_SIZE = 168

NEVER = -(1 << 60)
"""For `LOW`."""

REFERENCED = 1
"""Somebody used the frame since this was cleared: a TLB got an entry for it, or it was taken."""
MERGED = 2
"""It stands for all frames that hold the same: the index of merged frames has a reference to it, too."""

# --- the index of merged frames ---------------------------------------------------------------------------------------
ROWS = 0
"""Address of its rows, in buckets of `BUCKET` rows each: a hash, and either a frame | 1, or the round in which a frame
with that hash was seen << 1.
"""
BUCKETS = 8
"""How many buckets there are, less one."""
ROUND = 16
"""The round through all VMs that goes on, from 1."""
LOOKED_AT, HOT, ZEROED, SHARED_NOW, REPLACED = 24, 32, 40, 48, 56
"""Counts: of pages whose contents were looked at, that were in use, that show the frame of zeros now, whose frames came
into the index, and that show another frame of the index now.
"""
INDEX_SIZE = 64

BUCKET = 8
ROW = 16
"""Bytes of a row."""

TO_WORD = 9
"""A frame shifted right by this is the place of its word in such a table."""

# --- pages that are about to be swapped -------------------------------------------------------------------------------
PICKED = 0
"""How many pages were picked."""
IN_USE, EMPTY = 8, 16
"""How many were left because they had been used, and how many were all zeros."""
SPARE = 24
"""How many more frames the map has for itself alone than were promised to it for sure: no others make room."""
PICKS = 32
"""For each page its number, its frame and its slot."""
PICK = 24
PICKS_SIZE = PICKS + PICK * LEAF_PAGES

# --- frames that are always there -------------------------------------------------------------------------------------
ZERO, ONES = 0, 0x1000
"""The first frames: one of zeros, which every page shows until it is stored to, and one of FFh bytes. Neither is
counted, and nobody can store to them.
"""
FIRST = 0x2000
"""The first frame that can be had."""
