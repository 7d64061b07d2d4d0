"""Cases that begin again and again from one moment, without Python."""
