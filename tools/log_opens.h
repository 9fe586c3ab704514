/* The files that were opened, from the book: for commands that count or list them. */
#ifndef COFFER_LOG_OPENS_H
#define COFFER_LOG_OPENS_H

#include "tools/tool.h"

/* Calls take(row, arg) for each record of an open that was allowed and fits params (LogQuery's filters; it is changed),
 * page by page, so that any number of records needs little memory.  Refuses who is no auditor.  An exit code. */
int log_opens(struct tool *t, json_t *params, void (*take)(const json_t *row, void *arg), void *arg);

#endif
