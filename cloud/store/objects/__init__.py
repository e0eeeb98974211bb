"""Bytes by name: pictures and models, in the data folder or in a bucket that several services share."""
