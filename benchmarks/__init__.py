"""What stratagem costs, side by side with its peers in one run, as ratios.

``python -m benchmarks`` runs every contest: its contenders in turn, each in a process of its own,
several rounds, medians. Absolute times are of one noisy machine; the ratios count.

The tree stands on itself without a circle, lowest first:

- ``contest``: contests, marks and rows; ``measure``, ``bound``: how figures are taken;
  ``work``, ``server``: what the tasks do.
- ``dispatch``, ``listening``, ``limits``, ``calls``, ``nested``, ``memory``, ``start``,
  ``command_line``: the contests; ``contests``: the table of all of them.
- ``alone``: runs one contender once; ``rounds``: runs a contest; ``machine``, ``page``: what is
  shown of it.
"""
