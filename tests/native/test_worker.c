/* SPDX-License-Identifier: Apache-2.0 */
/* A worker serves descriptors on its own thread, and stops when told. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "check.h"
#include "virtio/worker.h"

struct served {
	struct worker *worker;
	struct worker_source source, other;
	int done_fd;
	atomic_uint calls, other_calls;
	atomic_bool on_own_thread, signals_blocked;
	pthread_t starter;
};

static void count(void *context, uint32_t events)
{
	struct served *s = context;
	sigset_t mask;

	CHECK(events & EPOLLIN);
	take(s->source.fd);
	atomic_store(&s->on_own_thread, !pthread_equal(pthread_self(), s->starter));
	CHECK_EQUAL(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
	atomic_store(&s->signals_blocked,
		     sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT));
	atomic_fetch_add(&s->calls, 1);
	eventfd_write(s->done_fd, 1);
}

static void count_other(void *context, uint32_t events)
{
	struct served *s = context;

	(void)events;
	take(s->other.fd);
	atomic_fetch_add(&s->other_calls, 1);
	eventfd_write(s->done_fd, 1);
}

static void setup(struct served *s, source_handler handle)
{
	memset(s, 0, sizeof(*s));
	s->starter = pthread_self();
	s->source = (struct worker_source){eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), handle, s};
	s->other = (struct worker_source){eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), count_other, s};
	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK_EQUAL(worker_new("test", JAIL_MEMORY, &s->worker), 0);
	CHECK_EQUAL(worker_add(s->worker, &s->source, EPOLLIN), 0);
	CHECK_EQUAL(worker_add(s->worker, &s->other, EPOLLIN), 0);
}

static void teardown(struct served *s)
{
	worker_free(s->worker);
	close(s->source.fd);
	close(s->other.fd);
	close(s->done_fd);
}

static void kick(struct served *s)
{
	eventfd_write(s->source.fd, 1);
	wait_readable(s->done_fd);
	take(s->done_fd);
}

static void a_source_is_served_on_the_workers_thread(void)
{
	struct served s;

	setup(&s, count);
	CHECK_EQUAL(worker_start(s.worker), 0);
	for (unsigned i = 0; i < 100; i++)
		kick(&s);
	CHECK_EQUAL(atomic_load(&s.calls), 100);
	CHECK(atomic_load(&s.on_own_thread));
	CHECK(atomic_load(&s.signals_blocked));
	teardown(&s);
}

static void what_came_before_the_start_is_served_after_it(void)
{
	struct served s;

	setup(&s, count);
	eventfd_write(s.source.fd, 1);
	CHECK_EQUAL(worker_start(s.worker), 0);
	wait_readable(s.done_fd);
	CHECK_EQUAL(atomic_load(&s.calls), 1);
	teardown(&s);
}

static void a_stopped_worker_serves_nothing_until_it_is_started_again(void)
{
	struct served s;

	setup(&s, count);
	CHECK_EQUAL(worker_start(s.worker), 0);
	CHECK_EQUAL(worker_start(s.worker), -EALREADY);
	kick(&s);
	worker_stop(s.worker);
	worker_stop(s.worker);
	eventfd_write(s.source.fd, 1);
	CHECK(!is_readable(s.done_fd));
	CHECK_EQUAL(atomic_load(&s.calls), 1);
	CHECK_EQUAL(worker_start(s.worker), 0);
	wait_readable(s.done_fd);
	CHECK_EQUAL(atomic_load(&s.calls), 2);
	teardown(&s);
}

/* Both are ready in one round, and the first removes the second. */
static void remove_other(void *context, uint32_t events)
{
	struct served *s = context;

	worker_remove(s->worker, &s->other);
	count(context, events);
}

static void a_removed_source_is_not_served_from_an_old_report(void)
{
	struct served s;

	setup(&s, remove_other);
	eventfd_write(s.source.fd, 1);
	eventfd_write(s.other.fd, 1);
	CHECK_EQUAL(worker_start(s.worker), 0);
	wait_readable(s.done_fd);
	take(s.done_fd);
	kick(&s);
	CHECK_EQUAL(atomic_load(&s.other_calls), 0);
	teardown(&s);
}

static void a_descriptor_that_cannot_be_watched_is_told(void)
{
	struct served s;
	struct worker_source none = {.fd = -1};

	setup(&s, count);
	CHECK_EQUAL(worker_add(s.worker, &none, EPOLLIN), -EBADF);
	CHECK_EQUAL(worker_add(s.worker, &s.source, EPOLLIN), -EEXIST);
	CHECK_EQUAL(worker_modify(s.worker, &none, EPOLLIN), -EBADF);
	teardown(&s);
}

static const struct test tests[] = {
	TEST(a_source_is_served_on_the_workers_thread),
	TEST(what_came_before_the_start_is_served_after_it),
	TEST(a_stopped_worker_serves_nothing_until_it_is_started_again),
	TEST(a_removed_source_is_not_served_from_an_old_report),
	TEST(a_descriptor_that_cannot_be_watched_is_told),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
