"""Parts of a start at hardware speed, on a machine whose KVM need not run Linux.

What is measured is named in the table, beside runc and crun in the same run.  The guest's own
work is not in it: exits, interrupts, page walks, fresh pages.
"""
