/* Heads of the book, brought to where root of this host cannot rewrite them: the system's journal at once, and what the policy
 * names (anchors): appended to a file, given to a command, sent as a letter.  Files and commands are a program's work beside the
 * loop, since they may hang; it has none of our capabilities, an environment of PATH and LANG only, and half a minute,
 * also when we end meanwhile.  What it leaves running in its process group goes with it.
 * What fails is logged, recorded once, shown by status, and tried again.  Lives on the loop. */
#ifndef COFFER_KEYD_ANCHOR_H
#define COFFER_KEYD_ANCHOR_H

#include "keyd/facts.h"

struct keyd;

/* A head was signed. */
void anchors_head(struct keyd *k, const struct fact_head *h);
void anchors_tick(struct keyd *k);
void anchors_done(struct keyd *k);
/* At the end: what waits is started at once; it outlives us. */
void anchors_flush(struct keyd *k);
/* [{kind, to, batch (the last that arrived; 0: none), at, failing (text, or null)}]; what fails is a warning, too. */
json_t *anchors_json(const struct keyd *k, json_t *warnings);
/* The line that every anchor gets. */
#define ANCHOR_LINE_MAX 320
void anchor_line(const struct fact_head *h, char buf[ANCHOR_LINE_MAX]);

#endif
