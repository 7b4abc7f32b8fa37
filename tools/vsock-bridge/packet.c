#include "packet.h"

#include "base/cursor.h"

struct packet packet_read(const uint8_t in[PACKET_BYTES])
{
	struct rd r = rd_of(span_of(in, PACKET_BYTES));
	struct packet p;

	p.src_cid = rd_u64le(&r);
	p.dst_cid = rd_u64le(&r);
	p.src_port = rd_u32le(&r);
	p.dst_port = rd_u32le(&r);
	p.len = rd_u32le(&r);
	p.type = rd_u16le(&r);
	p.op = rd_u16le(&r);
	p.flags = rd_u32le(&r);
	p.buf_alloc = rd_u32le(&r);
	p.fwd_cnt = rd_u32le(&r);
	return p;
}

void packet_write(const struct packet *p, uint8_t out[PACKET_BYTES])
{
	struct wr w = wr_of(out, PACKET_BYTES);

	wr_u64le(&w, p->src_cid);
	wr_u64le(&w, p->dst_cid);
	wr_u32le(&w, p->src_port);
	wr_u32le(&w, p->dst_port);
	wr_u32le(&w, p->len);
	wr_u16le(&w, p->type);
	wr_u16le(&w, p->op);
	wr_u32le(&w, p->flags);
	wr_u32le(&w, p->buf_alloc);
	wr_u32le(&w, p->fwd_cnt);
}
