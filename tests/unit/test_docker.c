#include "names/docker.h"

#include "base/cursor.h"
#include "cases.h"
#include "suite.h"

#define ID "4b2d510442c738f638239fbf50a88e0064d579959b4ad21bd88a5000378cf4d1"

static struct docker_container details;

static struct docker_event event(const char *text)
{
	struct docker_event e;

	ck_assert_int_eq(docker_event_read(span_str(text), &e), E_OK);
	return e;
}

static void check_event(const char *text, enum docker_event_kind kind)
{
	struct docker_event e = event(text);

	ck_assert_int_eq(e.kind, kind);
	ck_assert_str_eq(e.id, kind == DOCKER_EVENT_OTHER ? "" : ID);
}

START_TEST(events_that_change_names)
{
	check_event("{\"status\":\"start\",\"id\":\"" ID
		    "\",\"from\":\"bb\",\"Type\":\"container\",\"Action\":\"start\","
		    "\"Actor\":{\"ID\":\"" ID
		    "\",\"Attributes\":{\"image\":\"bb\",\"name\":\"web\"}},\"scope\":\"local\","
		    "\"time\":1764000000,\"timeNano\":1764000000123456789}\n",
	    DOCKER_EVENT_CHANGED);
	check_event("{\"Type\":\"container\",\"Action\":\"rename\",\"Actor\":{\"ID\":\"" ID
		    "\",\"Attributes\":{\"oldName\":\"/old\"}}}",
	    DOCKER_EVENT_CHANGED);
	check_event("{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"" ID "\"}}",
	    DOCKER_EVENT_GONE);
	check_event("{\"Actor\":{\"ID\":\"" ID "\"},\"Action\":\"destroy\",\"Type\":\"container\"}",
	    DOCKER_EVENT_GONE);
}
END_TEST

START_TEST(network_events_name_their_container)
{
	check_event("{\"Type\":\"network\",\"Action\":\"connect\",\"Actor\":{\"ID\":\"abc\","
		    "\"Attributes\":{\"container\":\"" ID
		    "\",\"name\":\"n1\",\"type\":\"bridge\"}}}",
	    DOCKER_EVENT_CHANGED);
	check_event("{\"Type\":\"network\",\"Action\":\"disconnect\",\"Actor\":{\"ID\":\"abc\","
		    "\"Attributes\":{\"container\":\"" ID "\"}}}",
	    DOCKER_EVENT_CHANGED);
	check_event("{\"Type\":\"network\",\"Action\":\"create\",\"Actor\":{\"ID\":\"" ID
		    "\",\"Attributes\":{}}}",
	    DOCKER_EVENT_OTHER);
}
END_TEST

START_TEST(events_that_change_nothing)
{
	check_event("{\"Type\":\"container\",\"Action\":\"exec_start: sh -c "
		    "\\\"die\\\"\",\"Actor\":{\"ID\":\"" ID "\"}}",
	    DOCKER_EVENT_OTHER);
	check_event(
	    "{\"Type\":\"container\",\"Action\":\"health_status: healthy\",\"Actor\":{\"ID\":\"" ID
	    "\"}}",
	    DOCKER_EVENT_OTHER);
	check_event("{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"../../etc\"}}",
	    DOCKER_EVENT_OTHER);
	check_event("{\"Type\":7,\"Action\":null,\"Actor\":null}", DOCKER_EVENT_OTHER);
	check_event("{}", DOCKER_EVENT_OTHER);
}
END_TEST

static void no_event(struct span cut, void *whole)
{
	struct docker_event e;

	if (cut.n < *(size_t *)whole)
		ck_assert_int_ne(docker_event_read(cut, &e), E_OK);
}

START_TEST(cut_events_are_refused)
{
	struct span text =
	    span_str("{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"" ID "\"}}");

	each_cut(text, no_event, &text.n);
}
END_TEST

struct ids {
	unsigned n;
	char last[DOCKER_ID_BYTES];
};

static void count_id(void *ctx, const char *id)
{
	struct ids *ids = ctx;

	ids->n++;
	memcpy(ids->last, id, sizeof ids->last);
}

START_TEST(lists_have_ids)
{
	struct ids ids = {0};

	ck_assert_int_eq(docker_list_read(span_str("[]\n"), count_id, &ids), E_OK);
	ck_assert_uint_eq(ids.n, 0);
	ck_assert_int_eq(
	    docker_list_read(
		span_str("[{\"Id\":\"" ID
			 "\",\"Names\":[\"/a\"],\"Ports\":[{\"x\":[1,2]}]},{\"Id\":\"short\"},"
			 "{\"Names\":null}]"),
		count_id, &ids),
	    E_OK);
	ck_assert_uint_eq(ids.n, 1);
	ck_assert_str_eq(ids.last, ID);
	ck_assert_int_ne(docker_list_read(span_str("{\"message\":\"no\"}"), count_id, &ids), E_OK);
	ck_assert_int_ne(docker_list_read(span_str("[{\"Id\":"), count_id, &ids), E_OK);
}
END_TEST

static const char inspect_text[] =
    "{\"Id\":\"" ID
    "\",\"State\":{\"Status\":\"running\",\"Running\":true,\"Paused\":false},\"Name\":\"/web\","
    "\"Config\":{\"Hostname\":\"4b2d510442c7\",\"Labels\":{\"com.docker.compose.project\":\"shop\","
    "\"com.docker.compose.service\":\"front\",\"other\":\"x\"}},"
    "\"NetworkSettings\":{\"IPAddress\":\"172.17.0.2\",\"Networks\":{"
    "\"bridge\":{\"Aliases\":null,\"IPAddress\":\"172.17.0.2\",\"GlobalIPv6Address\":\"\"},"
    "\"n1\":{\"Aliases\":[\"db\",\"4b2d510442c7\"],\"DNSNames\":[\"web\",\"d\\u0062\"],"
    "\"IPAddress\":\"172.18.0.2\","
    "\"GlobalIPv6Address\":\"fd00:1::2\"}}}}\n";

static void check_name(size_t i, const char *name)
{
	ck_assert_uint_lt(i, details.n_names);
	ck_assert_mem_eq(details.names[i].p, name, strlen(name));
	ck_assert_uint_eq(details.names[i].n, strlen(name));
}

START_TEST(a_container_has_names_and_addresses)
{
	ck_assert_int_eq(docker_container_read(span_str(inspect_text), &details), E_OK);
	ck_assert(details.running);
	ck_assert_uint_eq(details.n_names, 5);
	check_name(0, "db");
	check_name(1, "web");
	check_name(2, "db");
	check_name(3, "web");
	check_name(4, "front.shop");
	ck_assert_uint_eq(details.n_addrs, 3);
	ck_assert_uint_eq(details.addrs[2].family, 6);
}
END_TEST

START_TEST(a_container_without_networks_has_no_address)
{
	ck_assert_int_eq(
	    docker_container_read(
		span_str(
		    "{\"Id\":\"" ID
		    "\",\"Name\":\"/h\",\"State\":{\"Running\":true},\"Config\":{\"Labels\":{"
		    "\"com.docker.compose.project\":\"\",\"com.docker.compose.service\":\"s\"}},"
		    "\"NetworkSettings\":{\"Networks\":{\"host\":{\"IPAddress\":\"\"},\"x\":null}}"
		    "}"),
		&details),
	    E_OK);
	ck_assert_uint_eq(details.n_addrs, 0);
	ck_assert_uint_eq(details.n_names, 1);
	check_name(0, "h");
	ck_assert_int_eq(
	    docker_container_read(
		span_str("{\"Config\":null,\"NetworkSettings\":null,\"State\":null}"), &details),
	    E_OK);
	ck_assert(!details.running);
	ck_assert_uint_eq(details.n_names, 0);
}
END_TEST

static void any_container(struct span text, void *ctx)
{
	(void)ctx;
	docker_container_read(text, &details);
	ck_assert_uint_le(details.n_names, DOCKER_NAMES);
	ck_assert_uint_le(details.n_addrs, DOCKER_ADDRS);
	ck_assert_uint_le(details.text_bytes, DOCKER_TEXT_BYTES);
}

START_TEST(damaged_details_do_no_harm)
{
	each_cut(span_str(inspect_text), any_container, NULL);
	each_mutation(span_str(inspect_text), any_container, NULL);
}
END_TEST

/* One more of everything than is kept. */
START_TEST(names_and_addresses_are_bounded)
{
	static char text[65536];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, "{\"Name\":\"/own\",\"NetworkSettings\":{\"Networks\":{");
	for (unsigned i = 0; i < DOCKER_ADDRS + 1; i++) {
		wr_str(&w, i ? ",\"n\":{" : "\"n\":{");
		wr_str(&w, "\"IPAddress\":\"10.0.0.1\",\"Aliases\":[\"");
		for (unsigned k = 0; k < 250; k++)
			wr_u8(&w, 'a');
		wr_str(&w, "\"]}");
	}
	wr_str(&w, "}}}");
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_int_eq(docker_container_read(wr_span(&w), &details), E_OK);
	ck_assert_uint_eq(details.n_addrs, DOCKER_ADDRS);
	ck_assert_uint_eq(details.n_names, DOCKER_NAMES);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    events_that_change_names,
	    network_events_name_their_container,
	    events_that_change_nothing,
	    cut_events_are_refused,
	    lists_have_ids,
	    a_container_has_names_and_addresses,
	    a_container_without_networks_has_no_address,
	    damaged_details_do_no_harm,
	    names_and_addresses_are_bounded,
	    NULL,
	};

	return suite_of("docker", tests);
}
