#include "words.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t words_different(struct words *w)
{
	size_t n = 0;

	if (w->count)
		qsort(w->list, w->count, sizeof(*w->list), compare);
	for (size_t i = 0; i < w->count; i++)
		n += i == 0 || strcmp(w->list[i], w->list[i - 1]) != 0;
	return n;
}

const char *words_longest(const struct words *w)
{
	const char *longest = "";

	for (size_t i = 0; i < w->count; i++)
		if (strlen(w->list[i]) > strlen(longest))
			longest = w->list[i];
	return longest;
}
