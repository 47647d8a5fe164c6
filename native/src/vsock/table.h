/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of one guest by their host port.  All are made by the host,
 * so a host port alone names a connection; the guest's port is checked. */
#ifndef SAMPAN_VSOCK_TABLE_H
#define SAMPAN_VSOCK_TABLE_H

#include "vsock/connection.h"

#define VSOCK_MAX_CONNECTIONS 2048
/* Below are the well-known ports; above, VMADDR_PORT_ANY is never reached. */
#define VSOCK_FIRST_HOST_PORT (1u << 16)
#define VSOCK_LAST_HOST_PORT ((1u << 31) - 1)

struct vsock_table {
	unsigned count;
	uint32_t next_port;
	struct vsock_connection *slots[VSOCK_MAX_CONNECTIONS]; /* by port modulo size */
};

/* Adds a connection under a port that was not used for long.  0, or -ENOSPC. */
int vsock_table_add(struct vsock_table *t, struct vsock_connection *c, uint32_t *ret_host_port);
void vsock_table_remove(struct vsock_table *t, const struct vsock_connection *c);

/* Bounds: any pair of ports may be passed.  NULL: no such connection. */
struct vsock_connection *vsock_table_find(const struct vsock_table *t, uint32_t host_port,
					  uint32_t guest_port);

#endif
