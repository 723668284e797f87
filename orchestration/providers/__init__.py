"""Adapters: one module per wire format, behind one small protocol."""
