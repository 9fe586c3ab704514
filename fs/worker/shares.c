#include "fs/worker/shares.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct share {
	struct share *next;
	uint32_t uid;
	uint64_t taken;
};

struct shares {
	pthread_mutex_t lock; /* a leaf */
	uint64_t left;
	struct share *users; /* who ever took something: few */
};

int shares_new(uint64_t room, struct shares **ret)
{
	struct shares *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	s->left = room;
	*ret = s;
	return 0;
}

void shares_free(struct shares *s)
{
	if (!s)
		return;
	for (struct share *u = s->users, *next; u; u = next) {
		next = u->next;
		free(u);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Under the lock. */
static struct share *share_of(struct shares *s, uint32_t uid)
{
	struct share *u = s->users;

	while (u && u->uid != uid)
		u = u->next;
	return u;
}

/* Under the lock. */
static struct share *share_make(struct shares *s, uint32_t uid)
{
	struct share *u = share_of(s, uid);

	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (u) {
		u->uid = uid;
		u->next = s->users;
		s->users = u;
	}
	return u;
}

int shares_take(struct shares *s, uint32_t uid)
{
	struct share *u;
	int r = 0;

	if (!s)
		return 0;
	pthread_mutex_lock(&s->lock);
	u = share_make(s, uid);
	if (!u) {
		r = -ENOMEM;
	} else if (u->taken >= s->left) {
		r = -EMFILE;
	} else {
		u->taken++;
		s->left--;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

void shares_give_back(struct shares *s, uint32_t uid)
{
	struct share *u;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	u = share_of(s, uid);
	if (u && u->taken > 0) {
		u->taken--;
		s->left++;
	}
	pthread_mutex_unlock(&s->lock);
}
