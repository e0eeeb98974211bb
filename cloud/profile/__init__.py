"""Which frames a camera's student is to look at: profiles scored by audits, and one chosen for each part of the day.

After Chameleon (Jiang et al., SIGCOMM 2018); rules alone, without I/O.
"""
