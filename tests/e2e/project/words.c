#include "words.h"

#include <stdlib.h>
#include <string.h>

int words_add(struct words *w, const char *word)
{
	if (w->count == w->space) {
		size_t space = w->space ? w->space * 2 : 16;
		char **list = realloc(w->list, space * sizeof(*list));

		if (!list)
			return -1;
		w->list = list;
		w->space = space;
	}
	w->list[w->count] = strdup(word);
	return w->list[w->count] ? (w->count++, 0) : -1;
}

void words_free(struct words *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->list[i]);
	free(w->list);
}
