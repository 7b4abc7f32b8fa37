#include "base/cursor.h"
#include "rpc/methods.h"
#include "sys/sysinfo.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* "pong: " and the message, which may be as long as a frame, in *large if it has to be: to be
 * freed. */
static struct span greet(struct span message, char *small, size_t cap, void **large)
{
	static const struct span greeting = SPAN_LIT("pong: ");
	size_t n = greeting.n + message.n;
	struct wr w;

	*large = n > cap ? malloc(n) : NULL;
	w = *large ? wr_of(*large, n) : wr_of(small, cap);
	wr_bytes(&w, greeting);
	wr_bytes(&w, message);
	return w.err == E_OK ? wr_span(&w) : span_of(NULL, 0);
}

void rpc_ping(struct rpc_call *call, const void *message)
{
	const struct rpc_ping_request *request = message;
	struct rpc_services *services = call->services;
	struct rpc_ping_response response = {
	    .message = SPAN_LIT("pong"), .version = SPAN_LIT(AGENT_VERSION)};
	char small[256];
	void *large = NULL;

	host_clock_follow(&services->clock, request->timestamp_secs);
	if (request->message.n)
		response.message = greet(request->message, small, sizeof small, &large);
	if (response.message.p)
		rpc_answer(call->server, call->token, &response);
	else
		rpc_error(
		    call->server, call->token, RPC_FAILED, "PingRequest: no memory for the answer");
	free(large);
}

void rpc_get_system_info(struct rpc_call *call, const void *message)
{
	struct sysinfo_report report;
	struct rpc_system_info response;
	char texts[SYSINFO_ADDRS][IP_TEXT_BYTES];
	struct span addrs[SYSINFO_ADDRS];

	(void)message;
	sysinfo_read(&report);
	for (size_t i = 0; i < report.n_addrs; i++)
		addrs[i] = span_of(texts[i], ip_format(&report.addrs[i], texts[i]));
	response = (struct rpc_system_info){
	    .kernel_version = span_str(report.kernel_version),
	    .os_name = span_str(report.os_name),
	    .os_version = span_str(report.os_version),
	    .arch = span_str(report.arch),
	    .total_memory = report.memory_total_bytes,
	    .available_memory = report.memory_available_bytes,
	    .cpu_count = report.cpu_count,
	    .load_average = PB_LIST(report.load),
	    .hostname = span_str(report.hostname),
	    .uptime = report.uptime_secs,
	    .ip_addresses = {addrs, report.n_addrs},
	};
	rpc_answer(call->server, call->token, &response);
}

static void read_failed(struct rpc_server *s, struct rpc_token token, int rc)
{
	char text[128];

	text_join(text, sizeof text, "cannot read the file: ", err_text(rc));
	rpc_error(s, token, -rc, text); /* this request's codes are errno values */
}

/* The response is put together around a `data` that is not in memory. */
static void answer_with_file(struct rpc_server *s, struct rpc_token token, int fd, uint64_t n)
{
	const struct rpc_mmap_read_file_response rest = {.bytes_read = n};
	uint8_t before[16], after[16];
	struct wr head = wr_of(before, sizeof before), tail = wr_of(after, sizeof after);

	pb_write_bytes_head(&head, 1, n);
	pb_write(&tail, &rpc_mmap_read_file_response_table, &rest);
	rpc_answer_file(s, token, wr_span(&head), fd, 0, n, wr_span(&tail));
}

static void file_read(struct read_job *job, int rc, int fd, uint64_t n)
{
	static const struct rpc_mmap_read_file_response nothing;
	struct read_caller caller = read_job_caller(job);
	struct rpc_token token = {caller.id[0], caller.id[1]};

	if (rc < 0) {
		read_failed(caller.owner, token, rc);
	} else if (n == 0) {
		close(fd);
		rpc_answer(caller.owner, token, &nothing);
	} else {
		answer_with_file(caller.owner, token, fd, n);
	}
}

void rpc_mmap_read_file(struct rpc_call *call, const void *message)
{
	static const struct rpc_mmap_read_file_response nothing;
	const struct rpc_mmap_read_file_request *request = message;
	struct rpc_services *services = call->services;
	const struct read_range range = {request->path, request->offset, request->length};
	const struct read_caller caller = {
	    call->server, {call->token.slot, call->token.generation}};
	int rc;

	if (request->length == 0) {
		rpc_answer(call->server, call->token, &nothing);
		return;
	}
	rc = services->reader ? reader_read(services->reader, &range, file_read, caller) : -ENOMEM;
	if (rc < 0)
		read_failed(call->server, call->token, rc);
}

void rpc_shutdown(struct rpc_call *call, const void *message)
{
	const struct rpc_shutdown_request *request = message;
	struct rpc_services *services = call->services;
	const struct rpc_shutdown_response response = {.accepted = true};

	rpc_answer(call->server, call->token, &response);
	shutdown_begin(services->shutdown, request->timeout_seconds);
}
