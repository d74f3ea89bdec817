"""The wire formats that ship with the core.  Each file here knows one format and nothing of routing."""
