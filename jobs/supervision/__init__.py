"""Supervision of stream groups: the pure decision, the lease and records around it, the host loop it watches."""
