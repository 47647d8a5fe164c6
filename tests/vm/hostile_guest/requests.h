/* SPDX-License-Identifier: Apache-2.0 */
/* What a device is for: requests, packets and reports that it understands, with some of
 * their fields changed. */
#ifndef SAMPAN_HOSTILE_REQUESTS_H
#define SAMPAN_HOSTILE_REQUESTS_H

#include "virtio.h"

/* After bring_up: what comes before anything else of a driver's. */
void greet(struct device *device, struct random *r);
void request_something(struct device *device, struct random *r);

#endif
