"""The kernels that run while the guest's code is translated."""
