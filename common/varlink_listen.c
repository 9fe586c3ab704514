/* The listening sockets of a varlink server. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/log.h"
#include "common/scope.h"
#include "common/varlink_conn.h"

#define LISTEN_BACKLOG 128

struct listener {
	struct listener *next;
	struct varlink_server *server;
	sd_event_source *io;
	int fd;
	int reserve; /* given up for a moment when descriptors run out, to accept and close */
};

static bool over_quota(const struct varlink_server *s, uid_t uid)
{
	unsigned n = 0;

	for (const struct conn *c = s->conns; c; c = c->next)
		n += !c->inherited && c->peer.uid == uid;
	return uid != 0 && n >= VARLINK_PEER_CONNECTIONS_MAX;
}

static int on_accept(sd_event_source *source, int listen_fd, uint32_t events, void *userdata)
{
	struct listener *l = userdata;
	struct peer peer;
	struct conn *c = NULL;
	int fd, r;

	fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EMFILE && errno != ENFILE)
			return 0;
		log_warning_limited(&l->server->log_limit, "no descriptor left for a new connection; it is refused");
		close_fdp(&l->reserve);
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		close_fdp(&fd);
		l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return 0;
	}
	r = peer_from_socket(fd, l->server->owner, &peer);
	if (r < 0 || over_quota(l->server, peer.uid)) {
		if (r < 0)
			log_warning_limited(&l->server->log_limit,
				"a connection is refused: who it is cannot be found out: %s", strerror(-r));
		else
			log_warning_limited(&l->server->log_limit, "a connection of %s is refused: he has %u already", peer.user,
				VARLINK_PEER_CONNECTIONS_MAX);
		close(fd);
		return 0;
	}
	r = varlink_conn_new(l->server, fd, &peer, &c);
	if (r < 0)
		log_error("a connection of %s is refused: %s", peer.user, strerror(-r));
	return 0;
}

/* The path goes through the descriptor's entry in /proc, so the folder's own length does not count. */
static int socket_address(int dirfd, const char *name, struct sockaddr_un *ret)
{
	int n;

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
	return n < 0 || (size_t)n >= sizeof(ret->sun_path) ? -ENAMETOOLONG : 0;
}

/* -EADDRINUSE: somebody listens there.  -EEXIST: it is not a socket. */
static int remove_stale(int dirfd, const char *name, const struct sockaddr_un *sa)
{
	scoped(close_fdp) int fd = -1;
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
}

static void listener_free(struct listener *l)
{
	sd_event_source_disable_unref(l->io);
	close_fdp(&l->fd);
	close_fdp(&l->reserve);
	free(l);
}
DEFINE_SCOPED(struct listener *, listener_free)

int varlink_server_listen(struct varlink_server *s, int dirfd, const char *name, unsigned mode)
{
	scoped(listener_freep) struct listener *l = calloc(1, sizeof(*l));
	struct sockaddr_un sa;
	int r;

	if (!l)
		return -ENOMEM;
	l->server = s;
	l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0 || l->reserve < 0)
		return -errno;
	r = socket_address(dirfd, name, &sa);
	if (r == 0)
		r = remove_stale(dirfd, name, &sa);
	if (r < 0)
		return r;
	/* bind() takes the mode from the socket, less the umask: never wider than wanted at any moment. */
	if (fchmod(l->fd, mode) < 0 || bind(l->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
		fchmodat(dirfd, name, mode, 0) < 0 || listen(l->fd, LISTEN_BACKLOG) < 0)
		return -errno;
	r = sd_event_add_io(s->event, &l->io, l->fd, EPOLLIN, on_accept, l);
	if (r < 0)
		return r;
	l->next = s->listeners;
	s->listeners = take_ptr(&l);
	return 0;
}

void varlink_listeners_free(struct listener *l)
{
	for (struct listener *next; l; l = next) {
		next = l->next;
		listener_free(l);
	}
}
