/* A varlink server's connections, for its own sources: varlink.c reads, dispatches and answers, varlink_listen.c accepts. */
#ifndef COFFER_VARLINK_CONN_H
#define COFFER_VARLINK_CONN_H

#include "common/log.h"
#include "common/varlink.h"
#include "common/varlink_wire.h"

struct listener;

struct conn {
	struct varlink_server *server;
	struct conn *next;
	struct wire wire;
	sd_event_source *io, *again; /* `again`: a whole message waits in the buffer */
	sd_event_source *gone;       /* tells on_close from the loop; NULL without one */
	sd_event_source *late;       /* runs while a message is unfinished, else NULL; never on inherited ones */
	struct peer peer;
	bool inherited;             /* its roles were given, not looked up */
	bool closing;               /* close when all is sent */
	bool dispatching, dead;     /* dead while dispatching: freed after it */
	struct varlink_call *call;  /* one at a time: the next is read when it is answered */
	struct varlink_call *watch; /* one with "more" that its handler kept: it holds up no other */
	void (*on_close)(void *userdata);
	void *userdata;
};

struct varlink_server {
	sd_event *event;
	const struct varlink_method *methods;
	uid_t owner;
	void *userdata;
	unsigned state;
	char *refusal;
	struct conn *conns;
	struct listener *listeners;
	size_t message_max;
	unsigned part_seconds;
	struct log_limit log_limit; /* what peers do wrong */
	bool (*fds_from)(const struct peer *p, void *userdata);
	unsigned (*usable)(const struct peer *p, void *userdata);
};

/* Takes fd, also on failure. */
int varlink_conn_new(struct varlink_server *s, int fd, const struct peer *peer, struct conn **ret);
/* Closes it, at once or after the call that is being dispatched; its call finds nobody to answer. */
void varlink_conn_drop(struct conn *c);
void varlink_listeners_free(struct listener *l);

#endif
