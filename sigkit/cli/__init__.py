"""The command line: parse, call, print. A file for each noun or verb; no logic."""
