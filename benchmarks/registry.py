"""The benchmarks by name, in the order in which they run."""

from benchmarks import busy, call_cost, idle, latency, memory, table_size, throughput, updates
from benchmarks.model import Benchmark

_MODULES: list[Benchmark] = [throughput, busy, call_cost, latency, updates, memory, table_size, idle]

BENCHMARKS = {benchmark.NAME: benchmark for benchmark in _MODULES}
