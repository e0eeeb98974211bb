"""Rounds in a cluster of Ray, which runs them and keeps nothing: index and bucket know everything (ADR 0021)."""
