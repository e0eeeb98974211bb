"""Which frames a camera's student looks at, by the profile that the cloud ordered, and what audits tell of the others.

After Chameleon (Jiang et al., SIGCOMM 2018).
"""
