"""Weights: their files, their keys, and the families of networks that they are for."""
