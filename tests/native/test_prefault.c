/* SPDX-License-Identifier: Apache-2.0 */
/* Pages mapped before a vCPU runs: exactly those requested, as requested. */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/mman.h>

#include "check.h"
#include "kvm/prefault.h"

#define PAGES 16u
#define VCPU_FD 77

static uint64_t page;

struct fixture {
	struct kvm_calls calls;
	struct guest_memory mem;
	uint8_t *hva;
	int answers[8]; /* of KVM, in turn; then 0 */
	unsigned asked;
	uint64_t first_gpa, last_size;
};

/* As KVM: one page for each call; gpa advances and size shrinks. */
static int fake_kvm(const struct kvm_calls *calls, int fd, unsigned long request, void *arg)
{
	struct fixture *f = (struct fixture *)(uintptr_t)calls;
	uint64_t *gpa_and_size = arg;
	unsigned turn = f->asked++;

	(void)request;
	CHECK_EQUAL(fd, VCPU_FD);
	if (turn == 0)
		f->first_gpa = gpa_and_size[0];
	f->last_size = gpa_and_size[1];
	if (turn < 8 && f->answers[turn] != 0)
		return f->answers[turn];
	gpa_and_size[0] += page;
	gpa_and_size[1] -= page;
	return 0;
}

static void setup(struct fixture *f)
{
	void *hva;

	page = (uint64_t)sysconf(_SC_PAGESIZE);
	memset(f, 0, sizeof(*f));
	f->calls.ioctl = fake_kvm;
	CHECK_EQUAL(guest_memory_map(PAGES * page, &hva), 0);
	f->hva = hva;
	CHECK_EQUAL(guest_memory_add(&f->mem, 0, PAGES * page, hva), 0);
	/* One huge page would hide which were requested. */
	madvise(hva, PAGES * page, MADV_NOHUGEPAGE);
}

static void teardown(struct fixture *f)
{
	CHECK_EQUAL(guest_memory_unmap(f->hva, PAGES * page), 0);
}

static unsigned count_present(const struct fixture *f)
{
	unsigned char there[PAGES];
	unsigned count = 0;

	CHECK_EQUAL(mincore(f->hva, PAGES * page, there), 0);
	for (unsigned i = 0; i < PAGES; i++)
		count += there[i] & 1;
	return count;
}

static void what_is_asked_for_is_there_and_nothing_else(void)
{
	struct fixture f;

	setup(&f);
	const struct prefault_range ranges[] = {{page, 2 * page, 1}, {8 * page, page, 1}};
	CHECK_EQUAL(guest_memory_prefault(&f.calls, &f.mem, VCPU_FD, ranges, 2), 0);
	CHECK_EQUAL(count_present(&f), 3);
	CHECK_EQUAL(f.asked, 3);
	CHECK_EQUAL(f.first_gpa, page);
	teardown(&f);
}

static void kvm_is_asked_again_for_what_it_left(void)
{
	struct fixture f;

	setup(&f);
	const struct prefault_range range = {0, 3 * page, 1};
	f.answers[0] = -EINTR;
	f.answers[2] = -EAGAIN;
	CHECK_EQUAL(guest_memory_prefault(&f.calls, &f.mem, VCPU_FD, &range, 1), 0);
	CHECK_EQUAL(f.asked, 5);
	CHECK_EQUAL(f.last_size, page);
	teardown(&f);
}

static void a_kvm_that_cannot_is_not_asked_twice(void)
{
	struct fixture f;

	setup(&f);
	const struct prefault_range ranges[] = {{0, page, 1}, {4 * page, page, 0}};
	f.answers[0] = -ENOTTY;
	CHECK_EQUAL(guest_memory_prefault(&f.calls, &f.mem, VCPU_FD, ranges, 2), 0);
	CHECK_EQUAL(f.asked, 1);
	CHECK_EQUAL(count_present(&f), 2);
	teardown(&f);
}

static void a_range_outside_of_memory_is_refused(void)
{
	struct fixture f;

	setup(&f);
	const struct prefault_range ranges[] = {{(PAGES - 1) * page, 2 * page, 1}};
	CHECK_EQUAL(guest_memory_prefault(&f.calls, &f.mem, VCPU_FD, ranges, 1), -EFAULT);
	CHECK_EQUAL(f.asked, 0);
	teardown(&f);
}

static const struct test tests[] = {
	TEST(what_is_asked_for_is_there_and_nothing_else),
	TEST(kvm_is_asked_again_for_what_it_left),
	TEST(a_kvm_that_cannot_is_not_asked_twice),
	TEST(a_range_outside_of_memory_is_refused),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
