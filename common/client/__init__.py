"""A client of the page's API, for programs: `from culling.common.client import Client`."""

from culling.common.client.client import Client

__all__ = ["Client"]
