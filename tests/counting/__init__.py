"""What the guest did against what arrived: counted, for each kind of instruction and each way into a running engine."""
