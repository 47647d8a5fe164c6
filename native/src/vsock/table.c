/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/table.h"

#include <errno.h>

int vsock_table_add(struct vsock_table *t, struct vsock_connection *c, uint32_t *ret_host_port)
{
	uint32_t port;

	if (t->count == VSOCK_MAX_CONNECTIONS)
		return -ENOSPC;
	do {
		if (t->next_port < VSOCK_FIRST_HOST_PORT || t->next_port > VSOCK_LAST_HOST_PORT)
			t->next_port = VSOCK_FIRST_HOST_PORT;
		port = t->next_port++;
	} while (t->slots[port % VSOCK_MAX_CONNECTIONS]);

	t->slots[port % VSOCK_MAX_CONNECTIONS] = c;
	t->count++;
	*ret_host_port = port;
	return 0;
}

void vsock_table_remove(struct vsock_table *t, const struct vsock_connection *c)
{
	t->slots[c->host_port % VSOCK_MAX_CONNECTIONS] = NULL;
	t->count--;
}

struct vsock_connection *vsock_table_find(const struct vsock_table *t, uint32_t host_port,
					  uint32_t guest_port)
{
	struct vsock_connection *c = t->slots[host_port % VSOCK_MAX_CONNECTIONS];

	if (!c || c->host_port != host_port || c->guest_port != guest_port)
		return NULL;
	return c;
}
