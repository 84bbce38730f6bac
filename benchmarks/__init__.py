"""The benchmark suite: twelve questions, each answered beside the peers in one run.

``python -m benchmarks`` asks them all, one module for each question. Nothing here gates: a figure below its aim is
printed as such, and only a benchmark that crashes makes the exit status non-zero.
"""
