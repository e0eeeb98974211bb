"""What leaves the camera: frames are recorded to disk, wait in the spool, and are sent until the cloud acks them."""
