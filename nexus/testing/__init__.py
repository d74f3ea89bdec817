"""The kit for plugin authors: scripted servers, builders, fixtures and contract classes.

pytest is imported by `fixtures` and `contracts` only: the doubles of inference servers are also what `nexus demo` runs.
"""
