#ifndef WORDS_H
#define WORDS_H
#include <stddef.h>

struct words {
	char **list;
	size_t count, space;
};

int words_add(struct words *w, const char *word);
void words_free(struct words *w);
size_t words_different(struct words *w);
const char *words_longest(const struct words *w);

#endif
