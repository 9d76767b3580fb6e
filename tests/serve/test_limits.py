"""What a worker is held to, seen from outside of real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from farshore.serve import limits\n" + script],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_no_more_address_space_than_allowed():
    out = run("limits.confine(1 << 30)\ntry:\n    bytearray(2 << 30)\nexcept MemoryError:\n    print('bounded')")
    assert out == "bounded\n"


def test_no_core_files():
    out = run("limits.confine(0)\nimport resource\nprint(resource.getrlimit(resource.RLIMIT_CORE))")
    assert out == "(0, 0)\n"


def test_it_ends_with_its_parent():
    """A child that computes for ever, whose parent is killed."""
    inner = "import os, sys; from farshore.serve import limits; limits.tie_to_parent(os.getppid()); print(os.getpid(), flush=True)\nwhile True: pass"
    outer = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {inner!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        # The pipe closes when the last holder is gone: the child, too.
        assert parent.stdout.read() == b""
    for _ in range(1000):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.01)
    raise AssertionError("it outlived its parent")


def test_a_child_whose_parent_is_gone_already_ends_at_once():
    assert run("limits.tie_to_parent(1 << 22)\nprint('still here')") == ""


def test_interrupts_are_the_fronts_business():
    out = run("import os, signal\nlimits.tie_to_parent(os.getppid())\nos.kill(os.getpid(), signal.SIGINT)\nprint('on')")
    assert out == "on\n"


def test_priority_is_given_up_only_where_it_comes_back():
    script = """
import os, threading, time
before = os.getpriority(os.PRIO_PROCESS, 0)
gave = limits.stand_back(7)
lower = os.getpriority(os.PRIO_PROCESS, 0)
threads = [threading.Thread(target=time.sleep, args=(1,), daemon=True) for _ in range(3)]
for thread in threads: thread.start()
inherited = [os.getpriority(os.PRIO_PROCESS, thread.native_id) for thread in threads]
if gave: limits.stand_up(7)
after = [os.getpriority(os.PRIO_PROCESS, 0)] + [os.getpriority(os.PRIO_PROCESS, thread.native_id) for thread in threads]
print(gave, lower - before, {each - before for each in inherited}, {each - before for each in after})
"""
    told = run(script)
    assert told in {"7 7 {7} {0}\n", "0 0 {0} {0}\n"}


def test_no_more_priority_comes_back_than_was_given_up():
    """Whoever is almost last already can give up little."""
    script = """
import os
os.setpriority(os.PRIO_PROCESS, 0, 16)
gave = limits.stand_back(10)
print(os.getpriority(os.PRIO_PROCESS, 0) - 16 == gave)
if gave: limits.stand_up(gave)
print(os.getpriority(os.PRIO_PROCESS, 0))
"""
    assert run(script) == "True\n16\n"


def test_a_thread_that_is_just_being_started_gets_its_priority_back_too():
    """Started after the threads were listed, by one that had not been raised yet."""
    script = """
import os, threading, time
before = os.getpriority(os.PRIO_PROCESS, 0)
gave, late, listed = limits.stand_back(7), [], limits._threads
def list_and_start():
    found = listed()
    if len(late) < 3:
        late.append(threading.Thread(target=time.sleep, args=(30,), daemon=True))
        late[-1].start()
    return found
limits._threads = list_and_start
if gave: limits.stand_up(gave)
print(len(late) if gave else 3, {os.getpriority(os.PRIO_PROCESS, thread.native_id) - before for thread in late} or {0})
"""
    assert run(script) == "3 {0}\n"
