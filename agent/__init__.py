"""PID 1 of the guest: mounts; runs containers by crun, moves their stdio, reports
their ends.

Imports nothing from the host side; they share only `proto`.
"""
