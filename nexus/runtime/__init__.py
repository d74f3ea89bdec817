"""What a process of our own does with Python itself: its event loop, the sockets that this takes on in a turn, its memory, what it need not read.

An application that embeds Nexus has its own ways, and no plugin is asked.
"""
