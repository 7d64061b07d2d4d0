"""Plugins: finding them, giving them their options, attaching them."""
