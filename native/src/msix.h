#error "native helper: the lead overwrote your msix.h by mistake; please write it again as virtio_pci.h needs it (reference implementations by the lead: /tmp/mine)"
