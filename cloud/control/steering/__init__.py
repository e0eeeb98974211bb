"""What steers a camera, from what is measured of it: when its next round is due, whose round goes first, its pace."""
