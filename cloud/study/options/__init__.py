"""Studies of the named options: what each brings, beside itself being off."""
