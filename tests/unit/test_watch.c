#include "names/watch.h"

#include "base/cursor.h"
#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/sock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- an engine that is as nasty as the real one on a bad day
 * ---------------------------------------- */

enum { CONTAINERS = 4, REQUEST_BYTES = 1024, PATIENCE_TURNS = 2000 };

static const char ids[CONTAINERS][65] = {
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
    "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
};

static struct {
	int listen_fd, events_fd;
	bool present[CONTAINERS]; /* running, named w0 to w3, at 10.0.0.1 to 10.0.0.4 */
	unsigned lists, inspects, streams;
	unsigned streams_at_list; /* streams there had been when the list was asked for */
	const char *list_text, *inspect_text; /* answered instead, as they are, when set */
	int silent;                           /* accept, never answer */
	int renamed;                          /* that container is called "other"; -1 = none */
} engine;

static struct loop loop;
static struct registry *registry;
static struct watch *watch;
static char dir[32], path[64];
static unsigned fds;

static void say(int fd, const char *text)
{
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void answer(int fd, unsigned status, const char *body)
{
	char text[8192];

	snprintf(text, sizeof text, "HTTP/1.1 %u Word\r\nContent-Length: %zu\r\n\r\n%s", status,
	    strlen(body), body);
	say(fd, text);
	close(fd);
}

static void answer_list(int fd)
{
	char body[1024] = "[";
	size_t n = 1;

	engine.lists++;
	engine.streams_at_list = engine.streams;
	for (int i = 0; i < CONTAINERS; i++)
		if (engine.present[i])
			n += (size_t)snprintf(body + n, sizeof body - n, "%s{\"Id\":\"%s\"}",
			    n > 1 ? "," : "", ids[i]);
	snprintf(body + n, sizeof body - n, "]");
	if (engine.list_text)
		say(fd, engine.list_text), close(fd);
	else
		answer(fd, 200, body);
}

static void answer_inspect(int fd, const char *request)
{
	char body[512];
	int i = 0;

	engine.inspects++;
	while (i < CONTAINERS && !strstr(request, ids[i]))
		i++;
	ck_assert_int_lt(i, CONTAINERS);
	snprintf(body, sizeof body,
	    "{\"Id\":\"%s\",\"Name\":\"/"
	    "%s%d\",\"State\":{\"Running\":true},\"NetworkSettings\":{\"Networks\":"
	    "{\"n\":{\"IPAddress\":\"10.0.0.%d\"}}}}",
	    ids[i], engine.renamed == i ? "other" : "w", i, i + 1);
	if (engine.inspect_text)
		say(fd, engine.inspect_text), close(fd);
	else if (engine.present[i])
		answer(fd, 200, body);
	else
		answer(fd, 404, "{\"message\":\"No such container\"}");
}

static void open_stream(int fd)
{
	engine.streams++;
	if (engine.events_fd >= 0)
		close(engine.events_fd);
	engine.events_fd = fd;
	say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

/* Answers one request, if there is one. */
static void serve(void)
{
	struct addr peer;
	char request[REQUEST_BYTES];
	ssize_t n;
	int fd = sock_accept(engine.listen_fd, &peer);

	if (fd < 0)
		return;
	if (engine.silent) {
		engine.silent = fd;
		return;
	}
	do /* the client may have connected, and not asked yet */
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	while ((n = read(fd, request, sizeof request - 1)) < 0 && errno == EAGAIN);
	request[n > 0 ? n : 0] = '\0';
	if (strncmp(request, "GET /events?filters=", 20) == 0)
		open_stream(fd);
	else if (strncmp(request, "GET /containers/json ", 21) == 0)
		answer_list(fd);
	else if (strncmp(request, "GET /containers/", 16) == 0)
		answer_inspect(fd, request);
	else
		close(fd);
}

static void event(const char *type, const char *action, int i, bool in_pieces)
{
	char json[512], chunk[600];
	size_t n;

	snprintf(json, sizeof json,
	    "{\"Type\":\"%s\",\"Action\":\"%s\",\"Actor\":{\"ID\":\"%s\",\"Attributes\":{"
	    "\"container\":\"%s\"}}}\n",
	    type, action, ids[i], ids[i]);
	n = (size_t)snprintf(chunk, sizeof chunk, "%zx\r\n%s\r\n", strlen(json), json);
	if (!in_pieces) {
		say(engine.events_fd, chunk);
		return;
	}
	for (size_t k = 0; k < n; k++) {
		ck_assert_int_eq(write(engine.events_fd, chunk + k, 1), 1);
		loop_turn(&loop, 0);
	}
}

static void engine_up(void)
{
	struct addr a;

	ck_assert_int_eq(addr_unix(path, &a), E_OK);
	engine.listen_fd = sock_listen(&a, 16);
	ck_assert_int_ge(engine.listen_fd, 0);
}

static void engine_down(void)
{
	if (engine.events_fd >= 0)
		close(engine.events_fd);
	if (engine.listen_fd >= 0)
		close(engine.listen_fd);
	engine.events_fd = engine.listen_fd = -1;
	unlink(path);
}

/* --- the watcher
 * ------------------------------------------------------------------------------------ */

static void setup(void)
{
	struct registry_conf names = {
	    .max_owners = 8, .max_names = 64, .max_names_per_owner = 8, .max_addrs_per_owner = 8};
	struct watch_conf conf = {
	    .socket = path,
	    .max_containers = 3,
	    .inspects = 4,
	    .event_bytes = 1024,
	    .answer_bytes = 4096,
	    .answer_ms = 1000,
	    .retry_ms = 5,
	    .retry_max_ms = 20,
	};
	struct span bad;

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	memset(&engine, 0, sizeof engine);
	engine.listen_fd = engine.events_fd = engine.renamed = -1;
	strcpy(dir, "/tmp/watch.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/docker.sock", dir);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(dns_name_from_text(span_str("arcbox.local"), &names.domain), E_OK);
	registry = registry_new(&names);
	watch = watch_new(&loop, registry, &conf);
	ck_assert_ptr_nonnull(watch);
}

static void teardown(void)
{
	watch_free(watch);
	registry_free(registry);
	loop_done(&loop);
	engine_down();
	rmdir(dir);
	ck_assert_uint_eq(fault_fds(), fds);
}

static bool resolves(const char *text)
{
	struct registry_answer found;
	struct dns_name name;

	ck_assert_int_eq(dns_name_from_text(span_str(text), &name), E_OK);
	return registry_lookup(registry, &name, 4, &found) == REGISTRY_FOUND && found.n == 1;
}

static bool all_present(void)
{
	char name[16];
	bool right = true;

	for (int i = 0; i < CONTAINERS; i++) {
		snprintf(name, sizeof name, "w%d", i);
		right = right && resolves(name) == engine.present[i];
	}
	return right && watch_synced(watch);
}

static bool listed_again(void)
{
	return engine.lists >= 2 && all_present();
}

static void until(bool (*holds)(void))
{
	for (int i = 0; i < PATIENCE_TURNS && !holds(); i++) {
		if (engine.listen_fd >= 0)
			serve();
		ck_assert_int_eq(loop_turn(&loop, 2), 0);
	}
	ck_assert(holds());
}

static void start_with(bool first, bool second)
{
	engine.present[0] = first;
	engine.present[1] = second;
	engine_up();
	until(all_present);
}

START_TEST(lists_after_it_has_subscribed)
{
	setup();
	start_with(true, true);
	ck_assert_uint_eq(engine.streams_at_list, 1);
	ck_assert_uint_eq(watch_containers(watch), 2);
	ck_assert_uint_eq(registry_owners(registry), 2);
	teardown();
}
END_TEST

START_TEST(waits_for_an_engine_that_is_not_there)
{
	setup();
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(loop_turn(&loop, 2), 0);
	ck_assert(!watch_synced(watch));
	start_with(true, false);
	teardown();
}
END_TEST

START_TEST(follows_events)
{
	setup();
	start_with(true, false);
	engine.present[1] = true;
	event("container", "start", 1, false);
	until(all_present);
	engine.present[0] = false;
	event("container", "die", 0, true);
	event("container", "destroy", 0, false);
	until(all_present);
	ck_assert_uint_eq(watch_containers(watch), 1);
	engine.present[0] = true;
	event("network", "connect", 0, true);
	until(all_present);
	teardown();
}
END_TEST

static bool other_resolves(void)
{
	return resolves("other1") && !resolves("w1");
}

START_TEST(moves_a_name_on_rename)
{
	setup();
	start_with(true, true);
	engine.renamed = 1;
	event("container", "rename", 1, false);
	until(other_resolves);
	teardown();
}
END_TEST

static bool only_the_first(void)
{
	return resolves("w0") && !resolves("w1") && !resolves("a1");
}

/* The address that it had may be another container's by now. */
START_TEST(a_container_whose_names_find_no_room_has_none)
{
	setup();
	start_with(true, true);
	engine.inspect_text =
	    "HTTP/1.1 200 OK\r\n\r\n"
	    "{\"Name\":\"/w1\",\"State\":{\"Running\":true},\"NetworkSettings\":{\"Networks\":"
	    "{\"n\":{\"IPAddress\":\"10.0.0.9\",\"Aliases\":[\"a1\",\"a2\",\"a3\",\"a4\",\"a5\","
	    "\"a6\",\"a7\",\"a8\"]}}}}";
	event("network", "connect", 1, false);
	until(only_the_first);
	teardown();
}
END_TEST

static bool inspected_again(void)
{
	return engine.inspects >= 2 && watch_synced(watch);
}

START_TEST(inspects_once_for_a_burst)
{
	setup();
	start_with(true, false);
	ck_assert_uint_eq(engine.inspects, 1);
	for (int i = 0; i < 100; i++)
		event("network", "connect", 0, false);
	until(inspected_again);
	ck_assert_uint_le(engine.inspects, 10);
	teardown();
}
END_TEST

START_TEST(the_listing_is_the_truth_after_a_restart)
{
	setup();
	start_with(true, true);
	engine_down();
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(loop_turn(&loop, 2), 0);
	ck_assert(resolves("w0")); /* what was known stays until something better is */
	engine.present[0] = false;
	engine.present[2] = true;
	engine_up();
	until(all_present);
	ck_assert_uint_eq(watch_containers(watch), 2);
	teardown();
}
END_TEST

START_TEST(a_container_that_is_gone_when_asked_for_has_no_names)
{
	setup();
	start_with(true, false);
	event("container", "start", 3, false);
	until(all_present);
	ck_assert_uint_eq(watch_containers(watch), 1);
	teardown();
}
END_TEST

static bool three_watched(void)
{
	return watch_containers(watch) == 3 && watch_synced(watch) && engine.inspects >= 3;
}

START_TEST(containers_over_the_limit_get_no_names)
{
	setup();
	for (int i = 0; i < CONTAINERS; i++)
		engine.present[i] = true;
	engine_up();
	until(three_watched);
	ck_assert_uint_eq(registry_owners(registry), 3);
	teardown();
}
END_TEST

/* Every one of these answers makes it begin anew, and it is right again once the engine is. */
START_TEST(survives_lists_that_are_none)
{
	static const char *const lists[] = {
	    "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
	    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[{\"I",
	    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
	    "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n[",
	    "garbage",
	    "",
	};

	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		setup();
		engine.list_text = lists[i];
		engine.present[0] = true;
		engine_up();
		for (int k = 0; k < PATIENCE_TURNS && engine.lists < 2; k++) {
			serve();
			ck_assert_int_eq(loop_turn(&loop, 2), 0);
		}
		ck_assert_uint_ge(engine.lists, 2);
		ck_assert(!watch_synced(watch));
		engine.list_text = NULL;
		until(all_present);
		teardown();
	}
}
END_TEST

START_TEST(keeps_names_when_details_are_garbage)
{
	static const char *const details[] = {
	    "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
	    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{{{{",
	};

	for (size_t i = 0; i < sizeof details / sizeof *details; i++) {
		setup();
		start_with(true, false);
		engine.inspect_text = details[i];
		event("container", "update", 0, false);
		until(all_present);
		ck_assert(resolves("w0"));
		teardown();
	}
}
END_TEST

START_TEST(begins_anew_when_an_inspection_is_cut)
{
	setup();
	start_with(true, false);
	engine.inspect_text = "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{";
	event("container", "update", 0, false);
	for (int k = 0; k < PATIENCE_TURNS && engine.streams < 2; k++) {
		serve();
		ck_assert_int_eq(loop_turn(&loop, 2), 0);
	}
	engine.inspect_text = NULL;
	until(listed_again);
	teardown();
}
END_TEST

START_TEST(begins_anew_when_the_stream_is_no_stream_of_events)
{
	static const char *const streams[] = {"3\r\n]]]\r\n", "2\r\n{}\r\n0\r\n\r\n", "zz\r\n"};
	char large[1200];

	for (size_t i = 0; i <= sizeof streams / sizeof *streams; i++) {
		setup();
		start_with(true, false);
		memset(large, ' ', sizeof large);
		memcpy(large, "480\r\n{\"", 7);
		large[sizeof large - 1] = '\0';
		say(engine.events_fd, i < sizeof streams / sizeof *streams ? streams[i] : large);
		until(listed_again);
		teardown();
	}
}
END_TEST

START_TEST(gives_up_on_an_engine_that_never_answers)
{
	setup();
	engine.silent = 1;
	engine.present[0] = true;
	engine_up();
	for (int k = 0; k < PATIENCE_TURNS && engine.silent == 1; k++) {
		serve();
		ck_assert_int_eq(loop_turn(&loop, 2), 0);
	}
	ck_assert_int_gt(engine.silent, 1);
	int hung = engine.silent;
	engine.silent = 0;
	until(all_present);
	close(hung);
	teardown();
}
END_TEST

/* The Nth call of the process fails while the watcher follows an event and comes back from a
 * restart, for each N of a few dozen: it must be right in the end. */
START_TEST(survives_failing_calls)
{
	static const struct {
		const char *call;
		int err;
	} faults[] = {{"malloc", ENOMEM}, {"calloc", ENOMEM}, {"socket", EMFILE},
	    {"connect", EAGAIN}, {"read", EIO}, {"epoll_ctl", ENOMEM}};

	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		for (unsigned nth = 1; nth <= 12; nth++) {
			setup();
			start_with(true, false);
			fault_arm(faults[i].call, nth, faults[i].err, false);
			engine.present[1] = true;
			event("container", "start", 1, false);
			for (int k = 0; k < 10; k++)
				ck_assert_int_eq(loop_turn(&loop, 0), 0);
			fault_disarm();
			engine_down();
			engine_up();
			until(all_present);
			teardown();
		}
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    lists_after_it_has_subscribed,
	    waits_for_an_engine_that_is_not_there,
	    follows_events,
	    moves_a_name_on_rename,
	    a_container_whose_names_find_no_room_has_none,
	    inspects_once_for_a_burst,
	    the_listing_is_the_truth_after_a_restart,
	    a_container_that_is_gone_when_asked_for_has_no_names,
	    containers_over_the_limit_get_no_names,
	    survives_lists_that_are_none,
	    keeps_names_when_details_are_garbage,
	    begins_anew_when_an_inspection_is_cut,
	    begins_anew_when_the_stream_is_no_stream_of_events,
	    gives_up_on_an_engine_that_never_answers,
	    survives_failing_calls,
	    NULL,
	};

	return suite_of("watch", tests);
}
