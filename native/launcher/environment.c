/* SPDX-License-Identifier: Apache-2.0 */
#include "environment.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FNV_OFFSET 0xcbf29ce484222325u /* FNV-1a, 64 bits */
#define FNV_PRIME 0x100000001b3u
#define MAX_FILE_BYTES 16384

static const char *const LINKS[] = {
	"/proc/self/ns/cgroup", "/proc/self/ns/ipc", "/proc/self/ns/mnt",  "/proc/self/ns/net",
	"/proc/self/ns/pid",	"/proc/self/ns/uts", "/proc/self/ns/user",
};

static const char *const CGROUP = "/proc/self/cgroup";
static const char *const LIMITS = "/proc/self/limits";

/* Exists only with a security module that labels processes. */
static const char *const LABEL = "/proc/self/attr/current";

/* proc(5), /proc/PID/status. */
static const char *const STATUS_LINES[] = {
	"Uid:",	    "Gid:",	     "Groups:",	      "SigIgn:", "CapInh:",
	"CapPrm:",  "CapEff:",	     "CapBnd:",	      "CapAmb:", "NoNewPrivs:",
	"Seccomp:", "Cpus_allowed:", "Mems_allowed:",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void add(uint64_t *digest, const void *data, size_t length)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < length; i++)
		*digest = (*digest ^ bytes[i]) * FNV_PRIME;
}

static ssize_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buffer + length, size - length)) > 0)
		length += (size_t)n;
	if (n < 0)
		n = -errno;
	close(fd);
	return n < 0 ? n : (ssize_t)length;
}

static int add_file(uint64_t *digest, const char *path)
{
	char buffer[MAX_FILE_BYTES];
	ssize_t length = read_file(path, buffer, sizeof(buffer));

	if (length < 0)
		return (int)length;
	add(digest, buffer, (size_t)length);
	return 0;
}

static int add_link(uint64_t *digest, const char *path)
{
	char target[PATH_MAX];
	ssize_t length = readlink(path, target, sizeof(target));

	if (length < 0)
		return -errno;
	add(digest, target, (size_t)length);
	return 0;
}

static bool is_inherited(const char *line)
{
	for (size_t i = 0; i < COUNT(STATUS_LINES); i++) {
		if (strncmp(line, STATUS_LINES[i], strlen(STATUS_LINES[i])) == 0)
			return true;
	}
	return false;
}

static int add_status(uint64_t *digest)
{
	char buffer[MAX_FILE_BYTES + 1];
	ssize_t length = read_file("/proc/self/status", buffer, MAX_FILE_BYTES);
	char *rest = NULL;

	if (length < 0)
		return (int)length;
	buffer[length] = '\0';
	for (char *line = strtok_r(buffer, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (is_inherited(line))
			add(digest, line, strlen(line));
	}
	return 0;
}

static int add_stat(uint64_t *digest, const char *path, bool with_content)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	add(digest, &st.st_dev, sizeof(st.st_dev));
	add(digest, &st.st_ino, sizeof(st.st_ino));
	if (with_content) {
		add(digest, &st.st_size, sizeof(st.st_size));
		add(digest, &st.st_mtim, sizeof(st.st_mtim));
	}
	return 0;
}

int environment_digest(const char *exe, bool with_cgroup, uint64_t *ret_digest)
{
	uint64_t digest = FNV_OFFSET;
	int r;

	for (size_t i = 0; i < COUNT(LINKS); i++) {
		r = add_link(&digest, LINKS[i]);
		if (r < 0)
			return r;
	}
	r = with_cgroup ? add_file(&digest, CGROUP) : 0;
	if (r == 0)
		r = add_file(&digest, LIMITS);
	if (r < 0)
		return r;
	add_file(&digest, LABEL);
	r = add_status(&digest);
	if (r == 0)
		r = add_stat(&digest, "/", false);
	if (r == 0)
		r = add_stat(&digest, exe, true);
	if (r == 0)
		*ret_digest = digest;
	return r;
}
