"""The service that labels, culls, retrains and publishes, and its commands.

`service.py` wires the rooms below; read it first.
"""
