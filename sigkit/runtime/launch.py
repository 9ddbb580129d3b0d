"""What the runtime starts for each container: `<absolute python> -I -S launch.py`, its descriptors by number.

As short as can be: a script has no compiled form, so everything else lies in modules beside it. sigkit's directory goes *last* into the
search path, after the standard library. Whatever happens, this process ends by `os._exit`: no handler, no finaliser, no traceback module.
"""

import ctypes  # noqa: F401 (all imports happen here, before any image is near)
import errno  # noqa: F401
import marshal  # noqa: F401
import os
import sys

try:
    sys.path.append(__file__.rpartition("/sigkit/")[0])
    from sigkit.runtime import init

    init.main(*(int(number) for number in sys.argv[1:]))
finally:
    os._exit(125)
