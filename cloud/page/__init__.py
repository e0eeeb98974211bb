"""What people see: the live page, `culling watch`, and the reports of a camera."""
