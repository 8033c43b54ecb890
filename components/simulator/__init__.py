"""Simulated limbs and their radiographs: bodies in millimetres, seen along parallel rays."""
