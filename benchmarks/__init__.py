"""What stratagem costs, side by side with its peers in one run, as ratios.

``python -m benchmarks`` runs every contest: its contenders in turn, each in a process of its own,
several rounds, medians. Absolute times are of one noisy machine; the ratios count.
"""
