"""Shipped weights, and how weights are kept: safetensors beside a card."""
