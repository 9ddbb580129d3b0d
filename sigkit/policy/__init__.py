"""Trust policy: which images may start, who must have signed them, and what they may be granted.

Pure but for `load`, which reads the files that it is given.
"""
