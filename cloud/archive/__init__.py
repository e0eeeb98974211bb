"""What a camera is judged by: which of its held-out frames are kept and used."""
