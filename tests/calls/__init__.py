"""Which system calls the threads of vmms make, beside those that the jail allows them."""
