/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: the PCI bus and the device models; meanings and lifetimes are in
 * the headers of native/src. */

/* --- pci_window.h, virtio_pci.h ------------------------------------------- */

#define PCI_WINDOW_SLOTS ...
#define PCI_ECAM_BYTES ...
#define PCI_BAR_BYTES ...
#define VIRTIO_PCI_MAX_QUEUES ...
#define VIRTIO_PCI_MAX_CONFIG_BYTES ...
#define VIRTIO_PCI_NAME_BYTES ...
#define VIRTQUEUE_MAX_SIZE ...

struct pci_device_description {
	char name[...];
	uint16_t virtio_type;
	uint32_t class_code;
	uint64_t features;
	unsigned queue_count;
	uint16_t queue_sizes[...];
	unsigned config_bytes;
	uint8_t config[...];
	uint64_t bar_gpa;
	...;
};

struct pci_device_counters {
	uint64_t status_writes;
	uint64_t status_ns;
	uint64_t reset_ns;
	uint64_t activations;
	uint64_t notify_exits;
	uint64_t chains;
	uint64_t signals;
	...;
};

struct virtio_device;
struct pci_window;

void virtio_device_destroy(struct virtio_device *dev);

int pci_window_new(const struct kvm_calls *calls, int vm_fd, bool ioapic,
		   const struct guest_memory *mem, struct machine_events *events,
		   struct pci_window **ret_window);
void pci_window_free(struct pci_window *window);
int pci_window_attach_ecam(struct pci_window *window, struct bus *bus, uint64_t gpa);
int pci_window_attach_memory(struct pci_window *window, struct bus *bus, uint64_t gpa,
			     uint64_t len);
int pci_window_add(struct pci_window *window, unsigned slot,
		   const struct pci_device_description *description, struct virtio_device *model);
void pci_window_stop(struct pci_window *window);
struct virtio_pci_state {
	...;
};

int pci_window_save(struct pci_window *window, unsigned slot, struct virtio_pci_state *ret_state);
int pci_window_stage_routes(struct pci_window *window, unsigned slot,
			    const struct virtio_pci_state *state);
int pci_window_commit_routes(struct pci_window *window);
int pci_window_restore(struct pci_window *window, unsigned slot,
		       const struct virtio_pci_state *state);
int pci_window_set_config(struct pci_window *window, unsigned slot, unsigned offset,
			  const void *data, unsigned len);
int pci_window_read_counters(struct pci_window *window, unsigned slot,
			     struct pci_device_counters *ret_counters);

/* --- vsock_device.h ------------------------------------------------------- */

#define VSOCK_STREAM_PREFIX_MAX ...
#define VSOCK_TO_GUEST ...
#define VSOCK_FROM_GUEST ...

struct vsock_event {
	uint64_t stream;
	uint64_t bytes;
	int error;
	...;
};

struct vsock_device;

int vsock_device_new(uint64_t guest_cid, struct vsock_device **ret_device);
struct virtio_device *vsock_device_virtio(struct vsock_device *dev);
int vsock_device_listen(struct vsock_device *dev, int listen_fd, uint32_t guest_port);
int vsock_device_open_stream(struct vsock_device *dev, uint64_t stream, uint32_t guest_port,
			     int direction, int fd, const void *prefix, size_t prefix_len);
unsigned vsock_device_connections(const struct vsock_device *dev);
int vsock_device_event_fd(const struct vsock_device *dev);
int vsock_device_next_event(struct vsock_device *dev, struct vsock_event *ret_event);

/* --- net_device.h ----------------------------------------------------------- */

struct net_device;

int net_device_new(unsigned pairs, struct net_device **ret_device);
struct virtio_device *net_device_virtio(struct net_device *dev);
uint64_t net_device_features(unsigned pairs);
unsigned net_device_queues(unsigned pairs);
int net_device_attach(struct net_device *dev, const int *tap_fds, const int *vhost_fds,
		      unsigned count);

/* --- balloon_device.h ------------------------------------------------------- */

#define BALLOON_QUEUES ...

int balloon_device_new(struct virtio_device **ret_device);
uint64_t balloon_device_features(void);

/* --- fs_device.h, fuse_server.h ------------------------------------------- */

#define FUSE_OPCODES ...

struct fuse_server_config {
	int root_fd;
	bool read_only;
	uint64_t entry_valid_ns, attr_valid_ns;
	bool exclusive;
	uint64_t keep_after_ns;
	bool announce_submounts;
	bool own_mount_writable;
	...;
};

struct fuse_server;

int fuse_server_new(const struct fuse_server_config *config, struct fuse_server **ret_server);
void fuse_server_free(struct fuse_server *server);
int fs_device_new(struct fuse_server *server, unsigned request_queues, unsigned worker_count,
		  struct virtio_device **ret_device);
ptrdiff_t fs_device_save(const struct virtio_device *device, void *buffer, size_t bytes);
int fs_device_restore(struct virtio_device *device, const void *state, size_t bytes);
void fs_device_counters(const struct virtio_device *device, uint64_t *ret_counts);
