/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes: on a volume a client sets and sees what a container of the host
 * could, which has CAP_SETFCAP but not CAP_SYS_ADMIN. */
#include <sys/xattr.h>

#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID

static struct client c;
static const uint8_t capability[20] = {1, 0, 0, 2, 0, 4};

static int set(uint64_t node, const char *name, const void *value, uint32_t size)
{
	const struct fuse_setxattr_in in = {.size = size};

	return client_call(&c, FUSE_SETXATTR, node, BODY(in), STRING(name), value, (size_t)size,
			   END);
}

static int get(uint64_t node, const char *name)
{
	const struct fuse_getxattr_in in = {.size = 1000};

	return client_call(&c, FUSE_GETXATTR, node, BODY(in), STRING(name), END);
}

static int list(uint64_t node, uint32_t size)
{
	const struct fuse_getxattr_in in = {.size = size};

	return client_call(&c, FUSE_LISTXATTR, node, BODY(in), END);
}

static int remove_attribute(uint64_t node, const char *name)
{
	return client_call(&c, FUSE_REMOVEXATTR, node, STRING(name), END);
}

static bool lists(const char *name)
{
	for (size_t at = 0; at < c.reply_bytes; at += strlen(REPLY(&c, char) + at) + 1)
		if (strcmp(REPLY(&c, char) + at, name) == 0)
			return true;
	return false;
}

/* A file whose host has set one of each; 0: its file system or the test's user cannot. */
static uint64_t make_file(enum policy policy)
{
	char path[64];

	client_new(&c, policy);
	client_write_host(&c, "file", "contents");
	snprintf(path, sizeof(path), "%s/file", c.share);
	if (setxattr(path, "user.a", "a", 1, 0) < 0 || setxattr(path, "trusted.b", "b", 1, 0) < 0 ||
	    setxattr(path, "security.c", "c", 1, 0) < 0 ||
	    setxattr(path, "trusted.d", "d", 1, 0) < 0 || setxattr(path, "user.e", "e", 1, 0) < 0) {
		client_free(&c);
		return 0;
	}
	return client_lookup(&c, ROOT, "file");
}

static void trusted_attributes_of_a_volume_are_the_hosts(void)
{
	const uint64_t file = make_file(SHARED);

	if (file == 0)
		return;
	CHECK_EQUAL(set(file, "trusted.b", "x", 1), -EPERM);
	CHECK_EQUAL(set(file, "trusted.overlay.opaque", "y", 1), -EPERM);
	CHECK_EQUAL(remove_attribute(file, "trusted.b"), -EPERM);
	CHECK_EQUAL(get(file, "trusted.b"), -ENODATA);
	client_free(&c);
}

static void a_list_leaves_out_what_is_not_to_be_seen(void)
{
	const uint64_t file = make_file(SHARED);
	size_t bytes;

	if (file == 0)
		return;
	CHECK_EQUAL(list(file, 1000), 0);
	CHECK(lists("user.a") && lists("security.c") && lists("user.e"));
	CHECK(!lists("trusted.b") && !lists("trusted.d"));
	bytes = c.reply_bytes;
	CHECK_EQUAL(list(file, 0), 0);
	CHECK_EQUAL(REPLY(&c, struct fuse_getxattr_out)->size, bytes);
	CHECK_EQUAL(list(file, (uint32_t)bytes), 0);
	CHECK_EQUAL(list(file, (uint32_t)bytes - 1), -ERANGE);
	client_free(&c);
}

static void security_attributes_are_read_and_only_capabilities_set(void)
{
	const uint64_t file = make_file(SHARED);

	if (file == 0)
		return;
	CHECK_EQUAL(get(file, "security.c"), 0);
	CHECK(client_replied(&c, "c"));
	CHECK_EQUAL(set(file, "security.c", "x", 1), -EPERM);
	CHECK_EQUAL(set(file, "security.selinux", "x", 1), -EPERM);
	CHECK_EQUAL(set(file, "security.capabilityx", "x", 1), -EPERM);
	CHECK_EQUAL(remove_attribute(file, "security.c"), -EPERM);
	CHECK_EQUAL(set(file, "security.capability", capability, sizeof(capability)), 0);
	CHECK_EQUAL(get(file, "security.capability"), 0);
	CHECK_EQUAL(remove_attribute(file, "security.capability"), 0);
	client_free(&c);
}

static void a_containers_root_has_them_all(void)
{
	const uint64_t file = make_file(EXCLUSIVE);

	if (file == 0)
		return;
	CHECK_EQUAL(get(file, "trusted.b"), 0);
	CHECK(client_replied(&c, "b"));
	CHECK_EQUAL(set(file, "trusted.new", "x", 1), 0);
	CHECK_EQUAL(set(file, "security.c", "x", 1), 0);
	CHECK_EQUAL(remove_attribute(file, "trusted.b"), 0);
	CHECK_EQUAL(list(file, 1000), 0);
	CHECK(lists("trusted.new") && lists("security.c") && !lists("trusted.b"));
	client_free(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(trusted_attributes_of_a_volume_are_the_hosts),
		TEST(a_list_leaves_out_what_is_not_to_be_seen),
		TEST(security_attributes_are_read_and_only_capabilities_set),
		TEST(a_containers_root_has_them_all),
	};
	return RUN_TESTS(tests, argc, argv);
}
