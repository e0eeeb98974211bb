"""Which frames leave a camera: the confidence loss, the selector and its budget, the learned ranker.

It does no I/O; both sides use it.
"""
