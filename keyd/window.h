/* A window: the destructions that come due together share one rotation of the root key.  Of classes, what survives moves
 * first (keyd/erase.h), a few clients at a time; their sessions stay out until all is over.  One at a time. */
#ifndef COFFER_KEYD_WINDOW_H
#define COFFER_KEYD_WINDOW_H

#include "keyd/destruction.h"
#include "keyd/facts_life.h"
#include "keyd/prefix.h"

struct window;

int window_new(struct keyd *k, struct window **ret);	/* empty */
void window_free(struct window *w);			/* what was not begun is let be */
int window_add_client(struct window *w, struct destruction *d);	/* takes d, also on failure */
int window_add_class(struct window *w, const struct fact_client *c, const struct fact_class *l,
	const struct policy_class *class, const struct prefix_answer *a);
size_t window_count(const struct window *w);

/* Takes w: it becomes k->window until it is over (at once, without classes). */
void window_begin(struct keyd *k, struct window *w);
bool window_concerns(const struct keyd *k, const char *client);	/* of a class of whom something moves or waits in it */
/* A hold comes: no class of that client is destroyed in this window. */
void window_drop(struct keyd *k, const char *client);

#endif
