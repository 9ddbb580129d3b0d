"""Run one command and print what it used, as JSON: a small parent, because a child's peak memory is never below its parent's.

Usage: python -I -S spawn.py COMMAND…
"""

import os
import resource
import sys
import time

null = os.open(os.devnull, os.O_RDWR)
started = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)])
status = os.wait4(child, 0)[1]
wall = time.perf_counter() - started
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = usage.ru_utime + usage.ru_stime
print(f'{{"status": {os.waitstatus_to_exitcode(status)}, "wall": {wall}, "cpu": {cpu}, "peak": {usage.ru_maxrss}}}')
