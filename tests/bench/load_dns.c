/* load_dns ADDR:PORT MILLISECONDS OUTSTANDING - asks for web.arcbox.local with so many questions
 * under way, and prints `answers N lost N seconds S`. A question is lost when nothing at all comes
 * for a while. */
#include "bench.h"
#include "sys/clock.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_OUTSTANDING = 1024, ANSWER_BYTES = 128, PATIENCE_MS = 100 };

static const char question[] = "\0\1\1\0\0\1\0\0\0\0\0\0" /* id 1, RD, one question */
			       "\3web\6arcbox\5local\0"
			       "\0\1\0\1"; /* A, IN */
enum { QUESTION_BYTES = sizeof question - 1 };

struct load {
	int fd;
	uint64_t sent, answers;
	struct mmsghdr out[MAX_OUTSTANDING], in[MAX_OUTSTANDING];
	struct iovec out_iov, in_iov[MAX_OUTSTANDING];
	uint8_t in_bytes[MAX_OUTSTANDING][ANSWER_BYTES];
};

static void load_init(struct load *l, int fd)
{
	l->fd = fd;
	l->out_iov = (struct iovec){(void *)question, QUESTION_BYTES};
	for (unsigned i = 0; i < MAX_OUTSTANDING; i++) {
		l->in_iov[i] = (struct iovec){l->in_bytes[i], ANSWER_BYTES};
		l->in[i].msg_hdr = (struct msghdr){.msg_iov = &l->in_iov[i], .msg_iovlen = 1};
		l->out[i].msg_hdr = (struct msghdr){.msg_iov = &l->out_iov, .msg_iovlen = 1};
	}
}

/* musl's sendmmsg() is a loop of sendmsg(): the kernel's is wanted. */
static void ask(struct load *l, unsigned n)
{
	l->sent += (uint64_t)must("sendmmsg", (int)syscall(SYS_sendmmsg, l->fd, l->out, n, 0));
}

static void check_answer(const uint8_t *p, size_t n)
{
	static const uint8_t address[] = {10, 1, 2, 3};

	if (n > QUESTION_BYTES && (p[3] & 15) == 0 && p[7] == 1 &&
	    memcmp(p + n - sizeof address, address, sizeof address) == 0)
		return;
	fputs("load_dns: not the answer that was expected\n", stderr);
	exit(EXIT_FAILURE);
}

/* How many answers came, one at least but when patience ended. */
static unsigned take(struct load *l)
{
	int n = recvmmsg(l->fd, l->in, MAX_OUTSTANDING, MSG_WAITFORONE, NULL);

	if (n < 0 && errno == EAGAIN)
		return 0;
	must("recvmmsg", n);
	for (int i = 0; i < n; i++)
		check_answer(l->in_bytes[i], l->in[i].msg_len);
	l->answers += (unsigned)n;
	return (unsigned)n;
}

static int open_socket(const char *text)
{
	struct timeval patience = {.tv_usec = PATIENCE_MS * 1000};
	struct addr a = inet_arg(text);
	int fd = must("socket", sock_udp_connect(&a));

	must("fcntl", fcntl(fd, F_SETFL, 0));
	must("setsockopt", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	return fd;
}

int main(int argc, char **argv)
{
	static struct load load;
	unsigned outstanding;
	uint64_t begin, end, now;

	need_args(argc, argv, 3, "ADDR:PORT MILLISECONDS OUTSTANDING");
	outstanding = number_arg(argv, 3, MAX_OUTSTANDING);
	load_init(&load, open_socket(argv[1]));
	begin = now = clock_mono_ns();
	end = begin + number_arg(argv, 2, 60000) * NS_PER_MS;
	ask(&load, outstanding);
	for (; now < end; now = clock_mono_ns()) {
		unsigned n = take(&load);

		ask(&load, n ? n : outstanding);
	}
	while (load.answers < load.sent && take(&load) > 0)
		continue;
	printf("answers %llu lost %llu seconds %.6f\n", (unsigned long long)load.answers,
	    (unsigned long long)(load.sent - load.answers), (double)(now - begin) / 1e9);
}
