"""What both sides share: settings, errors, metrics, logs, frames, and the student's graph.

`selection/` decides about frames, `wire/` carries them. It imports neither the edge nor the cloud.
"""

from importlib.metadata import version

__version__ = version("culling")
