/* What a survey does for one person: which items are about him, and what of them is about nobody else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/survey_impl.h"

static unsigned whose(const struct survey *v, const struct subjects *s)
{
	const char *id = v->opt->subject;
	size_t n = strlen(id);

	return (subjects_has(s, id, n) ? WHOSE_THIS : 0u) | (subjects_has_other(s, id, n) ? WHOSE_OTHER : 0u);
}

unsigned survey_whose_dir(const struct survey *v, const struct store_dir *d)
{
	return whose(v, d->own) | whose(v, d->above) | (d->bad_subjects ? WHOSE_UNCLEAR : 0u);
}

static int by_ino(const void *a, const void *b)
{
	const struct linked *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

void survey_whose_linked(const struct survey *v, struct item *i)
{
	const struct linked key = {.ino = i->st.st_ino}, *l;

	l = v->linked_n && !v->linking ? bsearch(&key, v->linked, v->linked_n, sizeof(key), by_ino) : NULL;
	if (l)
		i->whose |= l->whose;
}

void survey_whose_file(const struct survey *v, int fd, const struct key32 *content, struct item *i)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	scoped(subjects_freep) struct subjects *s = NULL;
	struct xattr_owner o = {.fd = fd, .keys = &keys};

	xattr_keys_of_file(content, &keys);
	memcpy(o.id, i->id, sizeof(o.id));
	if (subjects_read(&o, &s) < 0)
		i->whose |= WHOSE_UNCLEAR;
	i->own = whose(v, s) & WHOSE_THIS;
	i->whose |= whose(v, s);
	if (i->st.st_nlink > 1)
		survey_whose_linked(v, i);
}

int survey_note_linked(struct survey *v, const struct item *i)
{
	struct linked *more;

	if (i->whose == 0)
		return 0;
	if (v->linked_n == v->linked_cap) {
		more = reallocarray(v->linked, v->linked_cap * 2 + 64, sizeof(*more));
		if (!more)
			return -ENOMEM;
		v->linked = more;
		v->linked_cap = v->linked_cap * 2 + 64;
	}
	v->linked[v->linked_n++] = (struct linked){.ino = i->st.st_ino, .whose = i->whose};
	return 0;
}

void survey_sort_linked(struct survey *v)
{
	size_t n = 0;

	if (v->linked_n > 0)
		qsort(v->linked, v->linked_n, sizeof(*v->linked), by_ino);
	for (size_t i = 0; i < v->linked_n; i++) {
		if (n > 0 && v->linked[n - 1].ino == v->linked[i].ino)
			v->linked[n - 1].whose |= v->linked[i].whose;
		else
			v->linked[n++] = v->linked[i];
	}
	v->linked_n = n;
}

/* ---- which labels there are ---- */

void survey_labels_file(struct survey *v, int fd, const struct key32 *content, const struct item *i)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o = {.fd = fd, .keys = &keys};

	xattr_keys_of_file(content, &keys);
	memcpy(o.id, i->id, sizeof(o.id));
	subjects_free(take_ptr(&v->labels));
	v->counts->unclear += subjects_read(&o, &v->labels) < 0;
}

void survey_labels_dir(struct survey *v, const struct store_dir *d)
{
	struct subjects *own = NULL, *above = NULL;

	subjects_free(take_ptr(&v->labels));
	if (store_dir_subjects(d, &own, &above) < 0) {
		v->counts->unclear++;
		return;
	}
	subjects_free(above);
	v->labels = own;
}

int survey_tell_labels(struct survey *v, const struct item *i)
{
	if (i->kind == 'l' || subjects_is_empty(v->labels))
		return 0;
	v->counts->about++;
	return v->opt->labelled(i->kind, v->labels, v->opt->arg);
}

static bool is_held(const struct survey *v, const struct item *i)
{
	bool held = survey_is_kept(v, i);

	for (size_t k = 0; !held && i->kind != 'd' && k < v->opt->keep_classes_n; k++)
		held = v->opt->keep_classes[k] == i->class;
	return held;
}

/* ---- telling ---- */

/* As deep as directories are open, of which there are as many as descriptors. */
static void put_path(FILE *f, const struct frame *at, bool clear)
{
	const char *part = clear ? at->name : at->entry;

	if (at->up)
		put_path(f, at->up, clear);
	if (part)
		fprintf(f, "%s/", part);
}

static char *path_of(const struct survey *v, const char *last, bool clear)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	if (!f)
		return NULL;
	if (v->top)
		put_path(f, v->top, clear);
	fputs(last, f);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static int tell(struct survey *v, const struct item *i, bool held)
{
	scoped(freep) char *path = NULL, *store = NULL;
	char name[NAME_MAX_BYTES + 1] = "";
	struct survey_found f = {.kind = i->kind, .st = &i->st, .own = i->own, .held = held};

	if (i->entry && dir_entry_name(i->dir, i->entry, name) < 0) {
		v->counts->unclear++; /* somebody with the disk put it here */
		return 0;
	}
	path = path_of(v, name, true);
	store = path_of(v, i->entry ? i->entry : "", false);
	if (!path || !store)
		return -ENOMEM;
	f.path = path;
	f.store = store;
	f.shared = i->whose & WHOSE_OTHER;
	return v->opt->found(&f, v->opt->arg);
}

/* As programs see it. */
static void translate(const struct survey *v, struct item *i)
{
	if (i->kind != 'f')
		return;
	pthread_rwlock_rdlock(v->opt->names);
	(void)store_translate(i->dir, i->entry, &i->st);
	pthread_rwlock_unlock(v->opt->names);
}

int survey_tell(struct survey *v, struct item *i)
{
	struct survey_counts *c = v->counts;
	bool held;

	if (i->whose & WHOSE_UNCLEAR)
		c->unclear++;
	if (!(i->whose & WHOSE_THIS) || (i->kind == 'd' && !i->own))
		return 0;
	held = is_held(v, i);
	translate(v, i);
	if (i->kind != 'd') {
		c->about++;
		c->about_bytes += i->kind == 'f' ? (uint64_t)i->st.st_size : 0;
		c->shared += (i->whose & WHOSE_OTHER) != 0;
		c->held += held;
	}
	return tell(v, i, held);
}

/* ---- choosing ---- */

void survey_stays(struct survey *v)
{
	if (v->top)
		v->top->whole = false;
}

int survey_choose(struct survey *v, struct item *i)
{
	struct survey_counts *c = v->counts;
	bool mine = i->whose & WHOSE_THIS, document = i->kind != 'd';
	struct known k = {.leaf = leaf_index_u64(i->leaf), .kind = i->kind, .ino = i->st.st_ino};

	if (i->whose & WHOSE_UNCLEAR) {
		c->unclear++;
	} else if (mine && (i->whose & WHOSE_OTHER) && !v->opt->shared) {
		c->shared += document;
	} else if (mine && is_held(v, i)) {
		c->held += document;
	} else if (mine) {
		i->chosen = document || i->dir; /* never the root of the share */
	}
	if (!i->chosen) {
		survey_stays(v);
		return 0;
	}
	if (!document)
		return 0; /* when it is known whether something in it stays */
	translate(v, i);
	c->about++;
	c->about_bytes += i->kind == 'f' ? (uint64_t)i->st.st_size : 0;
	memcpy(k.id, i->id, sizeof(k.id));
	return survey_remember(v, &k);
}

int survey_leave(struct survey *v)
{
	struct frame *f = v->top;

	if (v->opt->mode != SURVEY_ERASE || !v->opt->subject || v->second || v->linking)
		return 0;
	if (f->whole)
		return survey_remember(v, &f->self);
	if (f->up)
		f->up->whole = false;
	return 0;
}
