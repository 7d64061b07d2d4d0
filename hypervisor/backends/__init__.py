"""What stands behind a device on the host: byte streams now, disk images and switches later."""
