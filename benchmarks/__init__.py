"""sampan compared with runc: `make bench`, or `python3 -m benchmarks` as root on a host
that has containerd with both runtimes.

compare    the run: rounds in turn, and the files written at the end measures   what one
round measures of one runtime ctr        containerd's client, with clocks phases where
the time of a start goes processes  which processes start, and when (the kernel's own
time stamps) memory     what a container costs while it idles report     figures to JSON
and Markdown (pure) host       the host that the figures come from network, files, qemu,
shimtest   runs of their own: networks, work on files, another monitor with the same
guest, containerd's own benchmarks of shims

A benchmark never fails because something is slow: it fails when something is
wrong.
"""
