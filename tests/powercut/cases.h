/* Scenarios by name: a file, all *.txt of a folder, or "random:SEED". */
#ifndef COFFER_POWERCUT_CASES_H
#define COFFER_POWERCUT_CASES_H

#include "play.h"

int cases_load(const char *name, size_t random_lines, struct play *ret);	/* 0, or -errno with a message */
/* Calls `run` with the name of each; stops at the first that is not 0. */
int cases_each(char **names, size_t n, int (*run)(const char *name));

#endif
