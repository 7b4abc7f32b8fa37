#include "init/dhcp_client.h"

#include "base/log.h"
#include "codec/udpip.h"
#include "sys/packet.h"
#include "sys/random.h"
#include "sys/timer.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	REQUEST_TRIES = 4,  /* of a REQUEST, before the offer is taken for void */
	REBOOT_TRIES = 2,   /* a server that does not know the address says nothing at all */
	WARN_TRIES = 4,     /* DISCOVERs without an answer, before the log says so */
	LEASE_MIN_SECS = 2, /* T1 of a shorter one would be 0 */
	RENEW_SHARE = 8,    /* a renewal is repeated no faster than in eighths of the lease */
	JITTER_MAX_MS = 1000,
	PACKET_BYTES = UDPIP_HEADER_BYTES + DHCP_MESSAGE_BYTES,
};

/* RFC 2131 figure 5. Its INIT-REBOOT is REBOOTING before the first request is sent. */
enum state {
	INIT,       /* will ask when the timer says so */
	SELECTING,  /* waits for an OFFER */
	REQUESTING, /* has asked for what was offered */
	REBOOTING,  /* has asked for an address that it had, or has */
	BOUND,
	RENEWING,  /* asks the lease's server for more time */
	REBINDING, /* asks any server for more time */
	NO_LINK,   /* asks nobody; a lease goes on */
	STATES
};

enum event { TIMER, OFFER, ACK, NAK, EXPIRY, LINK_UP, LINK_DOWN, EVENTS };

struct dhcp_client {
	struct loop *loop;
	struct dhcp_conf conf; /* its strings are the next two */
	char ifname[IFNAMSIZ], hostname[HOSTNAME_BYTES + 1];

	enum state state;
	struct timer timer;      /* the state's next step */
	struct timer expiry;     /* the end of the lease, in whatever state */
	struct source packet;    /* hears answers, while one may come */
	bool packet_held;        /* by the loop */
	int udp;                 /* sends renewals, and holds the port; -1 = not open */
	bool ended;              /* freed once the loop lets go of it */
	struct dhcp_reply reply; /* that OFFER, ACK and NAK are about */
	struct dhcp_lease lease; /* none while its lease_secs is 0 */

	/* What is asked. */
	uint32_t xid;
	struct ip address; /* family 0: any. Outlives the lease, unless it was refused */
	struct ip server;  /* the one whose answer counts; family 0: any's does */
	uint64_t begun_ns, sent_ns;
	uint16_t secs;
	unsigned tries;

	unsigned failures; /* since the last lease */
	uint64_t ignored;  /* packets */
	int last_rc;       /* why nothing can be sent, as far as it was logged */
};

static const struct ip nobody;

static void handle(struct dhcp_client *c, enum event event);

static bool has_lease(const struct dhcp_client *c)
{
	return c->lease.lease_secs != 0;
}

/* --- hearing --------------------------------------------------------------------------------- */

static enum err reply_read(struct dhcp_client *c, struct span packet, bool checked)
{
	struct udpip datagram;
	struct dhcp_reply reply;
	enum err err = udpip_read(packet, checked, &datagram);

	if (err == E_OK)
		err = dhcp_reply_read(datagram.payload, c->xid, c->conf.mac, &reply);
	if (err)
		return err;
	if (c->server.family != 0 && !ip_eq(&c->server, &reply.lease.server))
		return E_UNKNOWN;
	if (reply.type != DHCP_NAK && reply.lease.lease_secs < c->conf.min_lease_secs)
		return E_RANGE;
	c->reply = reply;
	return E_OK;
}

static void take_packet(struct dhcp_client *c, struct span packet, bool checked)
{
	enum err err = reply_read(c, packet, checked);

	if (err) {
		c->ignored++;
		log_debug("dhcp", "ignored a packet", KV_STR("interface", c->ifname), KV_ERR(err));
		return;
	}
	switch (c->reply.type) {
	case DHCP_OFFER: handle(c, OFFER); break;
	case DHCP_ACK: handle(c, ACK); break;
	default: handle(c, NAK); break;
	}
}

/* A socket that fails is closed: the next try opens another. */
static int on_packets(struct source *s, uint32_t events)
{
	static uint8_t packet[PACKET_BYTES];
	struct dhcp_client *c = container_of(s, struct dhcp_client, packet);

	(void)events;
	for (unsigned i = 0; i < LOOP_EVENTS && s->fd >= 0; i++) {
		bool checked;
		ssize_t n = packet_receive(s->fd, packet, sizeof packet, &checked);

		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n >= 0)
			take_packet(c, span_of(packet, (size_t)n), checked);
		else if (n == -EMSGSIZE)
			c->ignored++;
		else
			source_remove(s);
	}
	return 0;
}

static int hear(struct dhcp_client *c)
{
	int fd, rc;

	if (c->packet.fd >= 0)
		return 0;
	fd = packet_open(c->conf.ifindex, DHCP_CLIENT_PORT);
	if (fd < 0)
		return fd;
	rc = source_add(c->loop, &c->packet, fd, EPOLLIN);
	if (rc < 0)
		close(fd);
	else
		c->packet_held = true;
	return rc;
}

/* --- asking ---------------------------------------------------------------------------------- */

static int send_to_all(struct dhcp_client *c, const struct ip *from, struct span message)
{
	const struct udpip datagram = {
	    .from = *from,
	    .to = ip_v4(255, 255, 255, 255),
	    .from_port = DHCP_CLIENT_PORT,
	    .to_port = DHCP_SERVER_PORT,
	    .payload = message,
	};
	uint8_t packet[UDPIP_HEADER_BYTES + DHCP_REQUEST_BYTES];
	struct wr w = wr_of(packet, sizeof packet);

	udpip_write(&w, &datagram);
	return packet_send(c->packet.fd, c->conf.ifindex, packet_broadcast, wr_span(&w));
}

/* The kernel finds the way, since the server may be behind a router. */
static int send_to_server(struct dhcp_client *c, struct span message)
{
	struct addr from, to;

	addr_from_ip(&c->lease.address, DHCP_CLIENT_PORT, &from);
	addr_from_ip(&c->lease.server, DHCP_SERVER_PORT, &to);
	if (c->udp < 0)
		c->udp = packet_udp_open(c->conf.ifindex, &from);
	return c->udp < 0 ? c->udp : packet_udp_send(c->udp, &to, message);
}

static void udp_close(struct dhcp_client *c)
{
	if (c->udp >= 0)
		close(c->udp);
	c->udp = -1;
}

static int send_form(struct dhcp_client *c, enum dhcp_form form)
{
	const struct dhcp_request request = {
	    .form = form,
	    .xid = c->xid,
	    .secs = c->secs,
	    .mac = c->conf.mac,
	    .address = c->address,
	    .server = c->server,
	    .hostname = span_str(c->hostname),
	};
	const struct ip unset = ip_v4(0, 0, 0, 0);
	uint8_t message[DHCP_REQUEST_BYTES];
	struct wr w = wr_of(message, sizeof message);

	dhcp_request_write(&w, &request);
	if (form == DHCP_FORM_RENEW || form == DHCP_FORM_RELEASE)
		return send_to_server(c, wr_span(&w));
	return send_to_all(c, form == DHCP_FORM_REBIND ? &c->address : &unset, wr_span(&w));
}

/* Starts to ask for something new: answers to what was asked before do not count any more. */
static void begin(struct dhcp_client *c, enum state state)
{
	c->state = state;
	c->xid = (uint32_t)random_u16() << 16 | random_u16();
	c->server = state == RENEWING ? c->lease.server : nobody;
	c->begun_ns = c->loop->now_ns;
	c->tries = 0;
}

/* Sends what the state asks for. What cannot be sent is as good as lost on the way. */
static void ask(struct dhcp_client *c)
{
	static const enum dhcp_form forms[STATES] = {
	    [SELECTING] = DHCP_FORM_DISCOVER,
	    [REQUESTING] = DHCP_FORM_SELECT,
	    [REBOOTING] = DHCP_FORM_REBOOT,
	    [RENEWING] = DHCP_FORM_RENEW,
	    [REBINDING] = DHCP_FORM_REBIND,
	};
	uint64_t secs = (c->loop->now_ns - c->begun_ns) / NS_PER_SEC;
	int rc = hear(c);

	if (c->state != REQUESTING) /* it repeats what the DISCOVER said */
		c->secs = (uint16_t)(secs < UINT16_MAX ? secs : UINT16_MAX);
	if (rc == 0)
		rc = send_form(c, forms[c->state]);
	if (rc < 0 && rc != c->last_rc)
		log_info("dhcp", "cannot send, trying again", KV_STR("interface", c->ifname),
		    KV_ERR(rc));
	c->last_rc = rc;
	c->sent_ns = c->loop->now_ns;
	c->tries++;
}

/* The wait after the nth time that something did not work, n from 1. */
static uint64_t backoff_ns(const struct dhcp_client *c, unsigned n)
{
	uint64_t ms = c->conf.retry_ms, jitter;

	while (--n > 0 && ms < c->conf.retry_max_ms)
		ms *= 2;
	if (ms > c->conf.retry_max_ms)
		ms = c->conf.retry_max_ms;
	jitter = ms / 4 < JITTER_MAX_MS ? ms / 4 : JITTER_MAX_MS;
	return (ms - jitter + random_u16() % (2 * jitter + 1)) * NS_PER_MS;
}

static void ask_and_wait(struct dhcp_client *c)
{
	ask(c);
	timer_in(&c->timer, backoff_ns(c, c->tries));
}

/* --- getting a lease ------------------------------------------------------------------------- */

static void discover_again(struct dhcp_client *c)
{
	ask_and_wait(c);
	if (c->tries == WARN_TRIES)
		log_warn("dhcp", "no server offers an address, asking on",
		    KV_STR("interface", c->ifname), KV_NUM("ignored_packets", c->ignored));
}

static void discover(struct dhcp_client *c)
{
	begin(c, SELECTING);
	discover_again(c);
}

/* At once for the first time, then ever later: a server may offer what it goes on to refuse. */
static void start_over(struct dhcp_client *c)
{
	c->state = INIT;
	timer_in(&c->timer, c->failures ? backoff_ns(c, c->failures) : 0);
	c->failures++;
}

/* In the exchange that the DISCOVER began. */
static void take_offer(struct dhcp_client *c)
{
	c->state = REQUESTING;
	c->address = c->reply.lease.address;
	c->server = c->reply.lease.server;
	c->tries = 0;
	ask_and_wait(c);
}

static void request_again(struct dhcp_client *c)
{
	if (c->tries < REQUEST_TRIES)
		ask_and_wait(c);
	else
		start_over(c);
}

/* --- having one ------------------------------------------------------------------------------ */

/* That long after the lease began; 0 = never. */
static uint64_t lease_at_ns(const struct dhcp_lease *lease, uint32_t secs)
{
	return secs == DHCP_INFINITE_SECS ? 0 : lease->bound_ns + secs * NS_PER_SEC;
}

/* T1 and T2 are the server's if they are in order, else those of RFC 2131 section 4.4.5. */
static void settle_times(struct dhcp_lease *lease, uint32_t max_secs)
{
	uint32_t end = lease->lease_secs < max_secs ? lease->lease_secs : max_secs;
	uint32_t half = end / 2, late = (uint32_t)((uint64_t)end * 7 / 8);
	uint32_t renew = lease->renew_secs ? lease->renew_secs : half;
	uint32_t rebind = lease->rebind_secs ? lease->rebind_secs : late;
	bool in_order = renew < rebind && rebind < end;

	lease->lease_secs = end;
	lease->renew_secs = in_order ? renew : half;
	lease->rebind_secs = in_order ? rebind : late;
	if (end == DHCP_INFINITE_SECS)
		lease->renew_secs = lease->rebind_secs = end;
}

/* Rests until T1. */
static void hold(struct dhcp_client *c)
{
	c->state = BOUND;
	source_remove(&c->packet);
	udp_close(c);
	timer_at(&c->timer, lease_at_ns(&c->lease, c->lease.renew_secs));
}

static void log_bound(const struct dhcp_client *c, bool again)
{
	char address[IP_TEXT_BYTES], server[IP_TEXT_BYTES];

	ip_format(&c->lease.address, address);
	ip_format(&c->lease.server, server);
	log_line(again ? LOG_DEBUG : LOG_INFO, "dhcp", again ? "renewed" : "leased",
	    KV_STR("interface", c->ifname), KV_STR("address", address),
	    KV_NUM("prefix", c->lease.prefix), KV_STR("server", server),
	    KV_NUM("lease_secs", c->lease.lease_secs));
}

static void accept_lease(struct dhcp_client *c)
{
	bool again = has_lease(c) && ip_eq(&c->lease.address, &c->reply.lease.address);

	c->lease = c->reply.lease;
	c->lease.bound_ns = c->sent_ns;
	c->address = c->lease.address;
	c->failures = 0;
	settle_times(&c->lease, c->conf.max_lease_secs);
	timer_at(&c->expiry, lease_at_ns(&c->lease, c->lease.lease_secs));
	hold(c);
	log_bound(c, again);
	c->conf.ops->bound(c->conf.ctx, &c->lease);
}

/* The owner may free the client when it is told: nothing comes after that. */
static void lose(struct dhcp_client *c, const char *why)
{
	const struct dhcp_lease lost = c->lease;
	char address[IP_TEXT_BYTES];

	c->lease = (struct dhcp_lease){0};
	timer_at(&c->expiry, 0);
	udp_close(c);
	ip_format(&lost.address, address);
	log_warn("dhcp", why, KV_STR("interface", c->ifname), KV_STR("address", address));
	c->conf.ops->lost(c->conf.ctx, &lost);
}

static void run_out(struct dhcp_client *c)
{
	lose(c, "the lease ran out");
}

static void expire(struct dhcp_client *c)
{
	start_over(c);
	run_out(c);
}

static void be_refused(struct dhcp_client *c)
{
	c->address = nobody;
	start_over(c);
	if (has_lease(c))
		lose(c, "the server ended the lease");
}

/* --- keeping it ------------------------------------------------------------------------------ */

/* Waits half of what is left until `end_ns`, which is to come, but repeats itself not too fast. */
static void ask_and_wait_half(struct dhcp_client *c, uint64_t end_ns)
{
	uint64_t now = c->loop->now_ns, floor = c->lease.lease_secs * NS_PER_SEC / RENEW_SHARE;
	uint64_t left = end_ns - now, wait = left / 2;

	ask(c);
	if (floor > c->conf.renew_retry_ms * NS_PER_MS)
		floor = c->conf.renew_retry_ms * NS_PER_MS;
	if (wait < floor)
		wait = floor;
	timer_in(&c->timer, wait < left ? wait : left);
}

/* At the end of the lease there is nothing more to ask: it expires in this turn of the loop. */
static void rebind_again(struct dhcp_client *c)
{
	uint64_t end_ns = lease_at_ns(&c->lease, c->lease.lease_secs);

	if (c->loop->now_ns < end_ns)
		ask_and_wait_half(c, end_ns);
}

static void renew_again(struct dhcp_client *c)
{
	uint64_t end_ns = lease_at_ns(&c->lease, c->lease.rebind_secs);

	if (c->loop->now_ns < end_ns) {
		ask_and_wait_half(c, end_ns);
		return;
	}
	begin(c, REBINDING);
	rebind_again(c);
}

static void renew(struct dhcp_client *c)
{
	begin(c, RENEWING);
	renew_again(c);
}

/* --- after a change of the link -------------------------------------------------------------- */

/* Silence says nothing of the lease, which is good until it ends (RFC 2131 section 3.2). */
static void confirm_again(struct dhcp_client *c)
{
	if (c->tries < REBOOT_TRIES)
		ask_and_wait(c);
	else if (has_lease(c))
		hold(c);
	else
		discover(c);
}

static void resume(struct dhcp_client *c)
{
	if (!has_lease(c)) {
		discover(c);
		return;
	}
	begin(c, REBOOTING);
	confirm_again(c);
}

static void pause_asking(struct dhcp_client *c)
{
	c->state = NO_LINK;
	timer_at(&c->timer, 0);
}

/* --- the table ------------------------------------------------------------------------------- */

typedef void step_fn(struct dhcp_client *c);

/* What is not there is passed over: an offer too many, an answer that comes too late. */
static step_fn *const steps[STATES][EVENTS] = {
    [INIT] = {[TIMER] = discover, [LINK_UP] = discover, [LINK_DOWN] = pause_asking},
    [SELECTING] =
	{
	    [TIMER] = discover_again,
	    [OFFER] = take_offer,
	    [LINK_UP] = discover,
	    [LINK_DOWN] = pause_asking,
	},
    [REQUESTING] =
	{
	    [TIMER] = request_again,
	    [ACK] = accept_lease,
	    [NAK] = be_refused,
	    [LINK_DOWN] = pause_asking,
	},
    [REBOOTING] =
	{
	    [TIMER] = confirm_again,
	    [ACK] = accept_lease,
	    [NAK] = be_refused,
	    [EXPIRY] = expire,
	    [LINK_DOWN] = pause_asking,
	},
    [BOUND] = {[TIMER] = renew, [EXPIRY] = expire, [LINK_DOWN] = pause_asking},
    [RENEWING] =
	{
	    [TIMER] = renew_again,
	    [ACK] = accept_lease,
	    [NAK] = be_refused,
	    [EXPIRY] = expire,
	    [LINK_DOWN] = pause_asking,
	},
    [REBINDING] =
	{
	    [TIMER] = rebind_again,
	    [ACK] = accept_lease,
	    [NAK] = be_refused,
	    [EXPIRY] = expire,
	    [LINK_DOWN] = pause_asking,
	},
    [NO_LINK] = {[EXPIRY] = run_out, [LINK_UP] = resume},
};

static void handle(struct dhcp_client *c, enum event event)
{
	step_fn *step = steps[c->state][event];

	if (step)
		step(c);
}

static void on_timer(struct timer *t)
{
	handle(container_of(t, struct dhcp_client, timer), TIMER);
}

static void on_expiry(struct timer *t)
{
	handle(container_of(t, struct dhcp_client, expiry), EXPIRY);
}

/* --- life ------------------------------------------------------------------------------------ */

static void free_if_let_go(struct dhcp_client *c)
{
	if (c->ended && !c->packet_held)
		free(c);
}

static void packet_gone(struct source *s)
{
	struct dhcp_client *c = container_of(s, struct dhcp_client, packet);

	c->packet_held = false;
	free_if_let_go(c);
}

static void conf_copy(struct dhcp_client *c, const struct dhcp_conf *conf)
{
	c->conf = *conf;
	c->conf.ifname = c->ifname;
	c->conf.hostname = c->hostname;
	span_to_cstr(span_first(span_str(conf->ifname), IFNAMSIZ - 1), c->ifname, IFNAMSIZ);
	if (conf->hostname)
		span_to_cstr(span_str(conf->hostname), c->hostname, sizeof c->hostname);
	if (c->conf.min_lease_secs < LEASE_MIN_SECS)
		c->conf.min_lease_secs = LEASE_MIN_SECS;
	if (c->conf.max_lease_secs < c->conf.min_lease_secs)
		c->conf.max_lease_secs = c->conf.min_lease_secs;
}

struct dhcp_client *dhcp_client_new(struct loop *l, const struct dhcp_conf *conf)
{
	struct dhcp_client *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->loop = l;
	c->packet =
	    (struct source){.fn = on_packets, .done = packet_gone, .name = "dhcp", .fd = -1};
	c->udp = -1;
	if (conf->address.family == 4)
		c->address = conf->address;
	conf_copy(c, conf);
	timer_init(&c->timer, l, on_timer);
	timer_init(&c->expiry, l, on_expiry);
	begin(c, c->address.family ? REBOOTING : INIT);
	timer_in(&c->timer, 0);
	return c;
}

static void release_lease(struct dhcp_client *c)
{
	int rc;

	begin(c, BOUND);
	c->server = c->lease.server;
	c->secs = 0;
	rc = send_form(c, DHCP_FORM_RELEASE);
	if (rc < 0)
		log_info("dhcp", "cannot release the address", KV_STR("interface", c->ifname),
		    KV_ERR(rc));
	else
		log_info("dhcp", "released the address", KV_STR("interface", c->ifname));
}

void dhcp_client_free(struct dhcp_client *c, bool release)
{
	if (!c)
		return;
	if (release && has_lease(c))
		release_lease(c);
	c->ended = true;
	timer_at(&c->timer, 0);
	timer_at(&c->expiry, 0);
	udp_close(c);
	source_remove(&c->packet);
	free_if_let_go(c);
}

void dhcp_client_link(struct dhcp_client *c, bool up)
{
	handle(c, up ? LINK_UP : LINK_DOWN);
}

const struct dhcp_lease *dhcp_client_lease(const struct dhcp_client *c)
{
	return has_lease(c) ? &c->lease : NULL;
}
