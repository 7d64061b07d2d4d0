"""The kernels: what runs at every TLB miss, exit and block, written as plain functions over machine words."""
