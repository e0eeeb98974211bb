"""Whoever labels: one interface, the kinds that come with Culling, and how any other package brings its own."""
