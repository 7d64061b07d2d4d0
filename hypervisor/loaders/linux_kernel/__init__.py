"""The Linux boot protocol."""
