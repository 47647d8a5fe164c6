"""PID 1 of the guest: mounts, containers by crun, their stdio, their ends.

Imports nothing of the host side; both know `proto` alone.
"""
