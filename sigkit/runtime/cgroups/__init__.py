"""Control groups, version 1 and 2: limits of a container, and what is counted for it.

`find` reads how this host mounts them, `hierarchy` knows one directory tree, `v1` and `v2` know the files. Paths are computed for each
controller: a process may sit below the root in one hierarchy and at the root of another.
"""
