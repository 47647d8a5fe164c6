/* SPDX-License-Identifier: Apache-2.0 */
/* Devices with threads of their own, as they are. */
#include "settle.h"

#include <poll.h>

#define TIMEOUT_MS 1

void settle(int call_fd)
{
	struct pollfd p = {.fd = call_fd, .events = POLLIN};

	(void)poll(&p, 1, TIMEOUT_MS);
}
