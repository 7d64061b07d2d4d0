"""``hypervisor init``: a folder to start from, out of the templates that lie beside this file."""
