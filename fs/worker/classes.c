#include "fs/worker/classes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct class_set {
	bool all;
	size_t n, uncached_n;
	uint16_t *numbers; /* n that open, then uncached_n */
};

struct class_sets {
	struct class_sets *next;
	struct class_set set;
};

static int put(const json_t *list, uint16_t *to)
{
	const json_t *v;
	size_t i;

	json_array_foreach(list, i, v)
	{
		json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;

		if (n < 0 || n > UINT16_MAX)
			return -EINVAL;
		to[i] = (uint16_t)n;
	}
	return 0;
}

static bool equal(const struct class_set *a, const struct class_set *b)
{
	return a->all == b->all && a->n == b->n && a->uncached_n == b->uncached_n &&
	       memcmp(a->numbers, b->numbers, (a->n + a->uncached_n) * sizeof(*a->numbers)) == 0;
}

int class_set_get(struct class_sets **sets, const json_t *classes, const json_t *uncached, const struct class_set **ret)
{
	struct class_sets *new;
	int r;

	if ((!json_is_null(classes) && !json_is_array(classes)) || (uncached && !json_is_array(uncached)))
		return -EINVAL;
	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	new->set.all = json_is_null(classes);
	new->set.n = json_array_size(classes);
	new->set.uncached_n = json_array_size(uncached);
	new->set.numbers = calloc(new->set.n + new->set.uncached_n + 1, sizeof(*new->set.numbers));
	r = new->set.numbers ? put(classes, new->set.numbers) : -ENOMEM;
	if (r == 0)
		r = put(uncached, new->set.numbers + new->set.n);
	for (struct class_sets *s = *sets; r == 0 && s; s = s->next)
		if (equal(&s->set, &new->set)) {
			*ret = &s->set;
			free(new->set.numbers);
			free(new);
			return 0;
		}
	if (r < 0) {
		free(new->set.numbers);
		free(new);
		return r;
	}
	new->next = *sets;
	*sets = new;
	*ret = &new->set;
	return 0;
}

void class_sets_free(struct class_sets *sets)
{
	for (struct class_sets *next; sets; sets = next) {
		next = sets->next;
		free(sets->set.numbers);
		free(sets);
	}
}

const struct class_set *class_set_all(void)
{
	static const struct class_set all = {.all = true};

	return &all;
}

bool class_set_opens_all(const struct class_set *c)
{
	return c && c->all;
}

bool class_set_opens(const struct class_set *c, uint16_t class)
{
	if (!c)
		return false;
	for (size_t i = 0; i < c->n; i++)
		if (c->numbers[i] == class)
			return true;
	return c->all;
}

bool class_set_caches(const struct class_set *c, uint16_t class)
{
	for (size_t i = 0; c && i < c->uncached_n; i++)
		if (c->numbers[c->n + i] == class)
			return false;
	return true;
}
