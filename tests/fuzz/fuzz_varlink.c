/* Bytes on a daemon's socket, in pieces: messages come out or the connection ends; what came out goes in again. */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/varlink_wire.h"

static void take(struct wire *w)
{
	int fds[VARLINK_FDS_MAX], r;
	json_t *message;

	while ((r = wire_next(w, &message, fds)) != 0) {
		for (unsigned k = 0; k < VARLINK_FDS_MAX; k++)
			fuzz_check(r < 0 || fds[k] == -1);
		if (r < 0) {
			fuzz_check(r == -EBADMSG);
			continue;
		}
		fuzz_check(json_is_object(message));
		wire_queue(w, message, NULL, 0);
		json_decref(message);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct fuzz_input in = {data, n};
	char sink[65536];
	struct wire w;
	int pair[2];

	fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	wire_init(&w, pair[0]);
	while (in.left > 0) {
		size_t piece = fuzz_byte(&in) % 64 * 8u + 1;

		piece = piece < in.left ? piece : in.left;
		fuzz_check(send(pair[1], in.p, piece, MSG_NOSIGNAL) == (ssize_t)piece);
		in.p += piece;
		in.left -= piece;
		if (wire_read(&w) < 0)
			break;
		take(&w);
		fuzz_check(wire_flush(&w) >= 0);
		while (recv(pair[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
	wire_done(&w);
	close(pair[1]);
	return 0;
}
