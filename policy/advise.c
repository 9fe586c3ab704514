/* What a policy says that can hardly be meant: policy_advise(). */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "policy/compare.h"
#include "policy/policy_lines.h"

struct advice {
	const struct policy *p;
	const struct policy_lines *lines;
	void (*say)(unsigned line, const char *text, void *arg);
	void *arg;
};

__attribute__((format(printf, 4, 5))) static void warn(
	const struct advice *a, const char *list, size_t i, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	a->say(policy_lines_at(a->lines, list, i, "id"), text, a->arg);
}

static bool has_children(const struct policy *p, size_t i)
{
	for (size_t k = i + 1; k < p->purposes_count; k++)
		if (p->purposes[k].parent == (int)i)
			return true;
	return false;
}

static bool may_be_used(const struct policy_purpose *u)
{
	return !u->node && u->prohibited_at < 0;
}

/* Parties that may use it all see only shareable classes, and there are none that it opens. */
static bool sees_nothing(const struct policy *p, const struct policy_purpose *u)
{
	for (size_t i = 0; i < p->parties_count; i++) {
		bool may = u->parties_count == 0;

		for (size_t k = 0; k < u->parties_count; k++)
			may |= strcmp(u->parties[k], p->parties[i].id) == 0;
		for (size_t k = 0; may && k < p->classes_count; k++) {
			const struct policy_class *c = &p->classes[k];
			bool opens = c->purposes_count == 0;

			for (size_t n = 0; n < c->purposes_count; n++)
				opens |= policy_covers(p, c->purposes[n], u);
			if (opens && (!p->parties[i].only_shareable || c->shareable))
				return false;
		}
	}
	return true;
}

static void advise_purposes(const struct advice *a)
{
	const struct policy *p = a->p;

	for (size_t i = 0; i < p->purposes_count; i++) {
		const struct policy_purpose *u = &p->purposes[i];

		if (u->node && !has_children(p, i))
			warn(a, "purposes", i, "the node \"%s\" has nothing below it: remove it, or give a purpose this parent", u->id);
		else if (!u->node && u->prohibited_at >= 0)
			warn(a, "purposes", i, "nobody may use \"%s\": it is prohibited; only an agreement with a client can permit it",
				u->id);
		else if (!u->node && sees_nothing(p, u))
			warn(a, "purposes", i, "who may use \"%s\" opens no record class: mark one shareable, or name another party",
				u->id);
		for (size_t k = 0; k < i; k++)
			if (strcmp(p->purposes[k].title, u->title) == 0)
				warn(a, "purposes", i, "\"%s\" and \"%s\" have the same title: nobody can tell which to choose", u->id,
					p->purposes[k].id);
	}
}

static int64_t length_of(const struct period *t)
{
	return policy_period_add(0, t);
}

static void advise_retention(const struct advice *a, size_t i)
{
	const struct policy_class *c = &a->p->classes[i];

	for (size_t n = 0; n < c->retention_count; n++)
		for (size_t k = 0; k < c->retention_count; k++) {
			const struct policy_retention *t = &c->retention[n], *o = &c->retention[k];
			bool same = t->event == o->event && (t->event != EVENT_NAMED || strcmp(t->named, o->named) == 0);

			if (n != k && same && !t->legal && !o->legal &&
				(length_of(&t->period) < length_of(&o->period) ||
					(length_of(&t->period) == length_of(&o->period) && n > k)))
				warn(a, "classes", i, "of \"%s\" rule %zu overlaps with rule %zu, which is as long or longer: remove it",
					c->id, n + 1, k + 1);
		}
}

static void advise_classes(const struct advice *a)
{
	const struct policy *p = a->p;

	for (size_t i = 0; i < p->classes_count; i++) {
		const struct policy_class *c = &p->classes[i];
		bool open = false;

		for (size_t k = 0; k < p->purposes_count; k++)
			for (size_t n = 0; n < c->purposes_count; n++)
				open |= may_be_used(&p->purposes[k]) && policy_covers(p, c->purposes[n], &p->purposes[k]);
		if (c->purposes_count && !open)
			warn(a, "classes", i, "nobody may open \"%s\": name a purpose that somebody may use", c->id);
		if (c->is_default && (c->purposes_count || c->approval))
			warn(a, "classes", i,
				"\"%s\" is what nobody classified, and not everybody opens it: new files will be closed to others", c->id);
		advise_retention(a, i);
	}
}

static void advise_unused(const struct advice *a)
{
	const struct policy *p = a->p;

	for (size_t i = 0; i < p->bases_count; i++) {
		bool used = false;

		for (size_t k = 0; k < p->purposes_count; k++)
			used |= p->purposes[k].basis && strcmp(p->purposes[k].basis, p->bases[i].id) == 0;
		if (!used)
			warn(a, "legal_bases", i, "nothing rests on \"%s\": remove it", p->bases[i].id);
	}
	for (size_t i = 0; i < p->services_count; i++) {
		bool used = false;

		for (size_t k = 0; k < p->purposes_count; k++)
			for (size_t n = 0; n < p->purposes[k].services_count; n++)
				used |= strcmp(p->purposes[k].services[n], p->services[i].id) == 0;
		if (!used)
			warn(a, "service_lines", i, "no purpose belongs to \"%s\": remove it, or name it in one", p->services[i].id);
	}
}

DEFINE_SCOPED(struct policy_lines *, policy_lines_free)

int policy_advise(const char *text, size_t n, const struct policy *p, void (*say)(unsigned line, const char *text, void *arg),
	void *arg)
{
	scoped(policy_lines_freep) struct policy_lines *lines = NULL;
	struct advice a = {.p = p, .say = say, .arg = arg};
	struct policy_error err;
	int r = policy_lines_new(text, n, &lines, &err);

	if (r < 0)
		return r;
	a.lines = lines;
	advise_purposes(&a);
	advise_classes(&a);
	advise_unused(&a);
	return 0;
}
