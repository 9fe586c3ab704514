/* What a survey does with what it finds: one function a mode, but for what is about one person (survey_subject.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/survey_impl.h"

static void count_class(struct survey_counts *c, const struct item *i)
{
	size_t k;

	for (k = 0; k < c->classes_n && c->classes[k].class != i->class; k++)
		;
	if (k == SURVEY_CLASSES)
		return;
	if (k == c->classes_n)
		c->classes[c->classes_n++].class = i->class;
	c->classes[k].files++;
	c->classes[k].bytes += (uint64_t)i->st.st_size;
}

static int do_class(struct survey *v, const struct item *i)
{
	const struct rewrap to = {v->opt->class, i->day, v->opt->class};

	if (i->leaf.class == to.class && i->class == to.class)
		return 0;
	return survey_plan_move(v, i, &to);
}

bool survey_is_kept(const struct survey *v, const struct item *i)
{
	if (i->kept)
		return true;
	/* Another of its names may be in a directory on hold. */
	if (i->kind != 'd' && i->st.st_nlink > 1 && v->opt->keep_dirs_n > 0)
		return true;
	for (size_t k = 0; k < v->opt->keep_ids_n; k++)
		if (memcmp(v->opt->keep_ids[k].b, i->id, sizeof(i->id)) == 0)
			return true;
	for (size_t k = 0; i->kind == 'f' && k < v->opt->keep_lines_n; k++)
		if (v->opt->keep_lines[k] == i->line)
			return true;
	return false;
}

bool survey_is_kept_dir(const struct survey *v, const uint8_t id[16])
{
	for (size_t k = 0; k < v->opt->keep_dirs_n; k++)
		if (memcmp(v->opt->keep_dirs[k].b, id, FILE_ID_BYTES) == 0)
			return true;
	return false;
}

/* Written before it was made, says a time that somebody set: it counts from when it was made. */
static bool is_doomed(const struct survey *v, const struct item *i)
{
	const struct survey_options *o = v->opt;

	return i->class == o->class && i->day < o->before && i->st.st_mtim.tv_sec < o->modified_since;
}

static int do_move(struct survey *v, const struct item *i)
{
	const struct survey_options *o = v->opt;
	bool inside = i->leaf.class == o->class && i->leaf.day < o->before, kept = survey_is_kept(v, i);
	bool doomed = is_doomed(v, i) && !kept;
	struct rewrap to = {i->class, i->day, i->class};

	v->counts->held += kept && is_doomed(v, i);
	if (inside && doomed)
		v->counts->dying++;
	if (inside == doomed)
		return 0;
	if (doomed)
		return survey_hand_out(v, leaf_index_u64(i->leaf));
	if (kept && o->keep_class)
		to.class = o->keep_class;
	if (to.class == o->class && to.day < o->before) {
		to.day = (uint16_t)atomic_load(&v->store->today);
		/* Whoever set `before` knows the day better than we, who are told of it: never into what is to die. */
		if (to.day < o->before)
			to.day = o->before;
	}
	return survey_plan_move(v, i, &to);
}

static void do_due(struct survey *v, const struct item *i)
{
	struct survey_counts *c = v->counts;

	if (i->class != v->opt->class)
		return;
	if (c->oldest_day == UINT16_MAX || i->st.st_mtim.tv_sec < c->oldest_change)
		c->oldest_change = i->st.st_mtim.tv_sec;
	if (i->day < c->oldest_day)
		c->oldest_day = i->day;
	if (is_doomed(v, i))
		(*(survey_is_kept(v, i) ? &c->held : &c->dying))++;
}

static int by_leaf(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return x->leaf < y->leaf ? -1 : x->leaf > y->leaf;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

void survey_sort_known(struct survey *v)
{
	if (v->known_n > 0)
		qsort(v->known, v->known_n, sizeof(*v->known), by_leaf);
}

void survey_sort_leaves(struct survey *v)
{
	if (v->opt->leaves_n > 0)
		qsort(v->opt->leaves, v->opt->leaves_n, sizeof(uint64_t), by_number);
}

int survey_remember(struct survey *v, const struct known *k)
{
	struct known *more;

	if (v->known_n == v->known_cap) {
		more = reallocarray(v->known, v->known_cap * 2 + 64, sizeof(*more));
		if (!more)
			return -ENOMEM;
		v->known = more;
		v->known_cap = v->known_cap * 2 + 64;
	}
	v->known[v->known_n++] = *k;
	return 0;
}

static int remember(struct survey *v, const struct item *i)
{
	struct known k = {.leaf = leaf_index_u64(i->leaf), .kind = i->kind, .ino = i->st.st_ino};

	memcpy(k.id, i->id, sizeof(k.id));
	return survey_remember(v, &k);
}

/* Somebody outside of what is to be erased.  Another name of the same thing goes with it; whoever else shares
 * its leaf (two loads that drew the same numbers) must not. */
static int do_others(struct survey *v, const struct item *i)
{
	const struct known key = {.leaf = leaf_index_u64(i->leaf)}, *k;
	const struct rewrap to = {i->class, i->day, i->class};

	k = v->known_n ? bsearch(&key, v->known, v->known_n, sizeof(key), by_leaf) : NULL;
	if (!k)
		return 0;
	while (k > v->known && k[-1].leaf == key.leaf)
		k--;
	for (const struct known *self = k; v->opt->subject && self < v->known + v->known_n && self->leaf == key.leaf; self++)
		if (self->kind == i->kind && self->ino == i->st.st_ino)
			return 0; /* what is to be erased, wherever it is */
	for (; k < v->known + v->known_n && k->leaf == key.leaf; k++)
		if (k->kind == i->kind && memcmp(k->id, i->id, sizeof(k->id)) == 0 &&
			(i->kind != 'l' || i->st.st_nlink > 1)) {
			v->counts->other_names++;
			return 0;
		}
	return i->kind == 'd' ? -EDEADLK : survey_plan_move(v, i, &to);
}

static int do_check(struct survey *v, const struct item *i)
{
	uint64_t leaf = leaf_index_u64(i->leaf);

	if (v->opt->leaves_n == 0 ||
		!bsearch(&leaf, v->opt->leaves, v->opt->leaves_n, sizeof(leaf), by_number))
		return 0;
	return survey_hand_out(v, leaf);
}

static bool is_kept_class(const struct survey *v, const struct item *i)
{
	for (size_t k = 0; k < v->opt->keep_classes_n; k++)
		if (v->opt->keep_classes[k] == i->class)
			return true;
	return false;
}

int survey_act_on(struct survey *v, struct item *i)
{
	if (v->linking)
		return i->kind == 'd' ? 0 : survey_note_linked(v, i);
	switch (v->opt->mode) {
	case SURVEY_FIND:
		return 0;
	case SURVEY_LOOK:
		if (i->kind == 'f')
			count_class(v->counts, i);
		return 0;
	case SURVEY_CLASS:
		return i->kind == 'd' ? 0 : do_class(v, i);
	case SURVEY_MOVE:
		return i->kind == 'd' ? 0 : do_move(v, i);
	case SURVEY_DUE:
		if (i->kind != 'd')
			do_due(v, i);
		return 0;
	case SURVEY_ERASE:
		if (v->second)
			return do_others(v, i);
		if (v->opt->subject)
			return survey_choose(v, i);
		v->counts->held += survey_is_kept(v, i) || (i->kind != 'd' && is_kept_class(v, i));
		return remember(v, i);
	case SURVEY_CHECK:
		return do_check(v, i);
	case SURVEY_SUBJECT:
		return survey_tell(v, i);
	case SURVEY_LABELS:
		return survey_tell_labels(v, i);
	}
	return -EINVAL;
}
