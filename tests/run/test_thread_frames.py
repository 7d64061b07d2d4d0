"""Looking at what other threads execute, while the collector runs finalizers and threads are started."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

from hypervisor.run.threads.thread_frames import frame_of

ROUNDS = 300
PROGRAM = """
import gc, sys, threading, time
from hypervisor.run.threads.thread_frames import frame_of

class Slow:
    def __del__(self):
        time.sleep(0.0005)  # whoever wants the interpreter lock gets it

over = threading.Event()

def starts():
    while not over.is_set():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

threads = [threading.Thread(target=starts) for _ in range(3)]
for thread in threads:
    thread.start()
gc.set_threshold(1)
for _ in range({rounds}):
    slow = Slow()
    slow.itself = slow
    del slow
    assert frame_of(threads[0].ident) is not None
gc.set_threshold(700)
over.set()
print(gc.isenabled())
"""


def test_the_process_lives_though_finalizers_run_and_threads_start() -> None:
    program, root = PROGRAM.format(rounds=ROUNDS), Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"True\n"


def test_the_collector_is_what_it_was() -> None:
    """On or off, and within a call that a signal's handler makes there."""
    for collects in (True, False):
        (gc.enable if collects else gc.disable)()
        try:
            frame = frame_of(threading.get_ident())
            assert frame is not None and frame.f_code is frame_of.__code__
            assert gc.isenabled() is collects
        finally:
            gc.enable()
    assert frame_of(0) is None


def test_a_process_that_forks_meanwhile_looks_too() -> None:
    """Whatever another thread was about in the first one."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            frame_of(0)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                frame_of(0)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        over.set()
        thread.join()
