#include "sys/addr.h"

#include "base/cursor.h"
#include "base/parse.h"

#include <stddef.h>

enum { UNIX_PATH_AT = offsetof(struct sockaddr_un, sun_path) };

/* --- text ------------------------------------------------------------------------------------ */

static enum err parse_port(struct span text, uint16_t *out)
{
	uint64_t port;
	enum err err = parse_u64(text, 0, UINT16_MAX, &port);

	if (!err)
		*out = (uint16_t)port;
	return err;
}

/* Takes the host off the front of *rest; brackets, which are taken off too, go with IPv6 only. */
static enum err parse_host(struct span *rest, struct ip *out)
{
	bool bracket = span_starts(*rest, span_str("["));
	struct span host = span_from(*rest, bracket ? 1 : 0);
	size_t n = span_find(host, bracket ? ']' : ':');

	if (bracket && n == host.n)
		return E_MALFORMED;
	*rest = span_from(host, bracket ? n + 1 : n);
	if (ip_parse(span_first(host, n), out) || (out->family == 6) != bracket)
		return E_MALFORMED;
	return E_OK;
}

enum err addr_parse_inet(struct span text, uint16_t default_port, struct addr *out)
{
	uint16_t port = default_port;
	struct ip ip;
	enum err err = parse_host(&text, &ip);

	if (err)
		return err;
	if (text.n > 0) {
		if (text.p[0] != ':')
			return E_MALFORMED;
		err = parse_port(span_from(text, 1), &port);
	} else if (default_port == 0) {
		err = E_MALFORMED;
	}
	if (!err)
		addr_from_ip(&ip, port, out);
	return err;
}

/* The last CID and the last port mean "any" and are no address of anybody. */
static enum err parse_vsock(struct span text, struct addr *out)
{
	uint64_t cid = (uint32_t)VMADDR_CID_ANY;
	uint64_t port;
	enum err err;

	if (span_find(text, ':') < text.n) {
		err = parse_u64(span_split(&text, ':'), 0, VMADDR_CID_ANY - 1, &cid);
		if (err)
			return err;
	}
	err = parse_u64(text, 0, VMADDR_PORT_ANY - 1, &port);
	if (err)
		return err;
	*out = (struct addr){.len = sizeof out->u.vm};
	out->u.vm.svm_family = AF_VSOCK;
	out->u.vm.svm_cid = (uint32_t)cid;
	out->u.vm.svm_port = (uint32_t)port;
	return E_OK;
}

static enum err parse_unix(struct span path, struct addr *out)
{
	struct addr a = {.len = (socklen_t)(UNIX_PATH_AT + path.n + 1)};

	if (path.n == 0 || span_find(path, 0) < path.n)
		return E_MALFORMED;
	a.u.un.sun_family = AF_UNIX;
	if (!span_to_cstr(path, a.u.un.sun_path, sizeof a.u.un.sun_path))
		return E_LIMIT;
	*out = a;
	return E_OK;
}

enum err addr_parse(struct span text, struct addr *out)
{
	struct span rest = text;
	struct span scheme = span_split(&rest, ':');

	if (span_eq_str(scheme, "vsock"))
		return parse_vsock(rest, out);
	if (span_eq_str(scheme, "unix"))
		return parse_unix(rest, out);
	if (span_eq_str(scheme, "tcp"))
		return addr_parse_inet(rest, 0, out);
	return E_MALFORMED;
}

static void inet_text(const struct addr *a, struct wr *w)
{
	char host[IP_TEXT_BYTES];
	struct ip ip;

	addr_to_ip(a, &ip);
	ip_format(&ip, host);
	wr_str(w, ip.family == 6 ? "tcp:[" : "tcp:");
	wr_str(w, host);
	wr_str(w, ip.family == 6 ? "]:" : ":");
	wr_dec(w, addr_port(a));
}

/* A peer may have no path, or one of the abstract namespace, which starts with a NUL (unix(7)). */
static void unix_text(const struct addr *a, struct wr *w)
{
	struct span path =
	    span_of(a->u.un.sun_path, a->len > UNIX_PATH_AT ? a->len - UNIX_PATH_AT : 0);

	wr_str(w, "unix:");
	if (path.n > 0 && path.p[0] == 0) {
		wr_str(w, "@");
		path = span_from(path, 1);
	}
	wr_bytes(w, span_first(path, span_find(path, 0)));
}

static void vsock_text(const struct sockaddr_vm *vm, struct wr *w)
{
	wr_str(w, "vsock:");
	if (vm->svm_cid != VMADDR_CID_ANY) {
		wr_dec(w, vm->svm_cid);
		wr_str(w, ":");
	}
	wr_dec(w, vm->svm_port);
}

const char *addr_text(const struct addr *a, char buf[ADDR_TEXT_BYTES])
{
	struct wr w = wr_of(buf, ADDR_TEXT_BYTES);

	switch (addr_family(a)) {
	case AF_INET:
	case AF_INET6: inet_text(a, &w); break;
	case AF_UNIX: unix_text(a, &w); break;
	case AF_VSOCK: vsock_text(&a->u.vm, &w); break;
	default: wr_str(&w, "none"); break;
	}
	wr_nul(&w);
	return buf;
}

/* --- values ---------------------------------------------------------------------------------- */

enum err addr_unix(const char *path, struct addr *out)
{
	return parse_unix(span_str(path), out);
}

void addr_from_ip(const struct ip *ip, uint16_t port, struct addr *out)
{
	*out = (struct addr){0};
	if (ip->family == 4) {
		out->len = sizeof out->u.in;
		out->u.in.sin_family = AF_INET;
		out->u.in.sin_port = htons(port);
		memcpy(&out->u.in.sin_addr, ip->b, 4);
	} else {
		out->len = sizeof out->u.in6;
		out->u.in6.sin6_family = AF_INET6;
		out->u.in6.sin6_port = htons(port);
		memcpy(&out->u.in6.sin6_addr, ip->b, 16);
	}
}

bool addr_to_ip(const struct addr *a, struct ip *out)
{
	switch (addr_family(a)) {
	case AF_INET:
		*out = (struct ip){.family = 4};
		memcpy(out->b, &a->u.in.sin_addr, 4);
		return true;
	case AF_INET6:
		*out = (struct ip){.family = 6};
		memcpy(out->b, &a->u.in6.sin6_addr, 16);
		return true;
	default: return false;
	}
}

uint16_t addr_port(const struct addr *a)
{
	switch (addr_family(a)) {
	case AF_INET: return ntohs(a->u.in.sin_port);
	case AF_INET6: return ntohs(a->u.in6.sin6_port);
	default: return 0;
	}
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	struct ip ip_a, ip_b;

	if (addr_family(a) != addr_family(b))
		return false;
	switch (addr_family(a)) {
	case AF_INET:
	case AF_INET6:
		addr_to_ip(a, &ip_a);
		addr_to_ip(b, &ip_b);
		return ip_eq(&ip_a, &ip_b) && addr_port(a) == addr_port(b);
	case AF_VSOCK:
		return a->u.vm.svm_cid == b->u.vm.svm_cid && a->u.vm.svm_port == b->u.vm.svm_port;
	default: return span_eq(span_of(&a->u, a->len), span_of(&b->u, b->len));
	}
}
