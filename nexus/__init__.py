"""Nexus: one API endpoint in front of any mix of LLM servers.  Nothing but the version lives here."""

__version__ = "0.1.0"
