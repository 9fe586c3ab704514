#include "words.h"

#include <stdio.h>

int main(void)
{
	struct words w = { 0 };
	char word[256];
	size_t different;

	while (scanf("%255s", word) == 1)
		if (words_add(&w, word) < 0)
			return 1;
	different = words_different(&w);
	printf("%zu words, %zu different, longest: %s\n", w.count, different, words_longest(&w));
	words_free(&w);
	return 0;
}
