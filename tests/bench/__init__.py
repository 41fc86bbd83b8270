"""Benchmarks: the numbers the design asks for, each beside the limit measured in the same run.

`make bench` prints them. Nothing here asserts a time: two noisy cores tell ratios, not truths.
"""
