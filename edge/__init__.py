"""The agent beside the cameras: it detects, forwards the hard frames, and swaps retrained students in.

`agent.py` wires the stages; read it first.
"""
