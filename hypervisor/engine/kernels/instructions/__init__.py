"""The kernels that decode an instruction, or carry one out in place of Unicorn."""
