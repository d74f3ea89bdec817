"""The witnesses that Nexus brings along: log, history, feed, totals.  Each sees every event; none can change traffic.

Counting for Prometheus is a plugin of its own.
"""
