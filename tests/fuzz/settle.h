/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPAN_FUZZ_SETTLE_H
#define SAMPAN_FUZZ_SETTLE_H

/* Lets the devices do what there is to do.  With threads of their own (the build for
 * TSan): waits a moment for the interrupt of `call_fd`. */
void settle(int call_fd);

#endif
