/* What a survey hands out and what it moves to other leaves, in batches. */
#include <errno.h>
#include <stdio.h>

#include "fs/store/survey_impl.h"

int survey_flush_out(struct survey *v)
{
	size_t n = v->out_n;

	v->out_n = 0;
	v->counts->leaves += n;
	return n > 0 ? v->opt->hand_out(v->out, n, v->opt->arg) : 0;
}

int survey_hand_out(struct survey *v, uint64_t leaf)
{
	v->out[v->out_n++] = leaf;
	return v->out_n == SURVEY_HAND_OUT ? survey_flush_out(v) : 0;
}

static void move_done(struct move *m)
{
	file_close(m->file);
	store_dir_unref(m->dir);
}

/* So short that nobody waits; what must be on disk is waited for afterwards. */
static int move_one(struct survey *v, struct move *m)
{
	struct link_moved moved;
	int r;

	pthread_rwlock_wrlock(v->opt->names);
	r = m->file ? file_rewrap(m->file, &m->to) : link_rewrap(m->dir, m->entry, m->to.class, m->to.day, &moved);
	if (r == -ENOKEY && !m->file) {
		uint16_t today = (uint16_t)atomic_load(&v->store->today);

		r = link_rewrap(m->dir, m->entry, m->to.class, today < v->opt->before ? v->opt->before : today, &moved);
	}
	if (r == 0 && !m->file && v->opt->replaced)
		v->opt->replaced(&moved.was, &moved.now, v->opt->arg);
	pthread_rwlock_unlock(v->opt->names);
	return r;
}

int survey_flush_moves(struct survey *v)
{
	uint64_t old[SURVEY_BATCH];
	int r = 0, k;

	for (size_t i = 0; i < v->moves_n; i++)
		old[i] = v->moves[i].old;
	v->counts->leaves += v->moves_n;
	if (v->moves_n > 0)
		r = v->opt->leaving(old, v->moves_n, v->opt->arg);
	for (size_t i = 0; i < v->moves_n; i++) {
		struct move *m = &v->moves[i];

		k = r == 0 ? move_one(v, m) : -ECANCELED;
		if (k == 0)
			k = m->file ? file_wait(m->file, true) : store_dir_sync(m->dir);
		if (k == 0)
			v->counts->rewrapped++;
		else if (r == 0 && k != -ENOENT)
			v->counts->failed++;
		move_done(m);
	}
	v->moves_n = 0;
	return r;
}

/* The file is opened at once: so it is found again wherever it is renamed to. */
int survey_plan_move(struct survey *v, const struct item *i, const struct rewrap *to)
{
	struct move *m = &v->moves[v->moves_n];
	int r;

	*m = (struct move){.to = *to, .old = leaf_index_u64(i->leaf)};
	if (i->kind == 'f') {
		pthread_rwlock_rdlock(v->opt->names);
		r = file_open_entry(i->dir, i->entry, &m->file);
		pthread_rwlock_unlock(v->opt->names);
		if (r < 0) {
			v->counts->failed += r != -ENOENT;
			return 0;
		}
	}
	m->dir = store_dir_ref(i->dir);
	snprintf(m->entry, sizeof(m->entry), "%s", i->entry);
	return ++v->moves_n == SURVEY_BATCH ? survey_flush_moves(v) : 0;
}

void survey_drop_moves(struct survey *v)
{
	for (size_t i = 0; i < v->moves_n; i++)
		move_done(&v->moves[i]);
	v->moves_n = 0;
}
