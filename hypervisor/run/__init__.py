"""Running a machine: its parts, its time, its place on a pCPU, and the loop that serves exits."""
