/* `coffer class`: which record class a file or directory is of, and giving it another.  The directory's label comes first,
 * then each file's key moves to a leaf of that class; the old leaves are noted before and destroyed with the next
 * destruction.  Goes on after a crash.  On keyd's loop. */
#ifndef COFFER_KEYD_CLASSES_H
#define COFFER_KEYD_CLASSES_H

#include "common/varlink.h"
#include "keyd/job.h"
#include "keyd/keyd.h"
#include "keyd/survey.h"

int keyd_class_set(struct varlink_call *call, json_t *params, void *userdata);
int keyd_class_show(struct varlink_call *call, json_t *params, void *userdata);
void classes_tick(struct keyd *k);

/* What each of these needs, and replies with an error if it is not there: keys, a store that nobody else is busy with. */
bool classes_may_begin(struct keyd *k, struct varlink_call *call, const struct fact_client *c);
/* For who ends nothing that runs, not even what gives way (SURVEY_IS_LAST). */
bool classes_may_begin_last(struct keyd *k, struct varlink_call *call, const struct fact_client *c);


/* What ends a survey that only looks for who calls: nothing, of a custodian; else who asks in a loop would stop destructions,
 * by hand and by the rules.  classes_made_way says so to his job. */
enum survey_way classes_way(const struct varlink_call *call);
void classes_made_way(struct job *j, const char *client);

#endif
