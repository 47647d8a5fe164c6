"""containerd's own suite for shims, and the versions of containerd that are served."""
