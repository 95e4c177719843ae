"""Measurements behind the README's figures: ratios within one run, medians, after a check of equality."""
