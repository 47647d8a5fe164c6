/* SPDX-License-Identifier: Apache-2.0 */
/* Taps of the kernel, in a network namespace of the process' own (root).  Include it
 * after net_driver.h, which says how many queues they have. */
#ifndef SAMPAN_TESTS_TAP_H
#define SAMPAN_TESTS_TAP_H

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define MTU 65521 /* a tap's greatest */

static inline void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static inline int open_tap(struct ifreq *link)
{
	const int header = NET_HEADER_BYTES;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	CHECK(fd >= 0);
	link->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (DRIVER_PAIRS > 1)
		link->ifr_flags |= IFF_MULTI_QUEUE;
	CHECK_EQUAL(ioctl(fd, TUNSETIFF, link), 0);
	CHECK_EQUAL(ioctl(fd, TUNSETVNETHDRSZ, &header), 0);
	return fd;
}

/* Up, and able to carry a frame of any size. */
static inline void raise_link(struct ifreq *link, int socket_fd)
{
	link->ifr_mtu = MTU;
	CHECK_EQUAL(ioctl(socket_fd, SIOCSIFMTU, link), 0);
	link->ifr_flags = IFF_UP;
	CHECK_EQUAL(ioctl(socket_fd, SIOCSIFFLAGS, link), 0);
}

static inline int open_wire(struct ifreq *link)
{
	const int yes = 1, room = 64 << 20;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	CHECK(fd >= 0);
	raise_link(link, fd);
	CHECK_EQUAL(ioctl(fd, SIOCGIFINDEX, link), 0);
	address.sll_ifindex = link->ifr_ifindex;
	CHECK_EQUAL(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)), 0);
	CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)), 0);
	CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)), 0);
	CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline int open_vhost(void)
{
	const int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

/* The kernel sends nothing by itself on the links in it. */
static inline void enter_network(void)
{
	CHECK_EQUAL(unshare(CLONE_NEWNET), 0);
	write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

#endif
