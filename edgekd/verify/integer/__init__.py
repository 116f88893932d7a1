"""The integer simulator: a quantized graph in the arithmetic of its target, and what can be proven about its sums.

graph -> `lower.lower` -> `steps.Program` -> `simulator.Simulator` (values) or `bounds`, `certificate` (proofs).
"""
