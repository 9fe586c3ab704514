/* Method Report: what a client may ask for, in one object that the installation signs.  What was done with his data is counted
 * by coffer-fsd (Accesses), piece by piece between other calls; the rest are facts (report_facts.h).  One at a time. */
#ifndef COFFER_KEYD_REPORT_H
#define COFFER_KEYD_REPORT_H

#include "common/varlink.h"

#define REPORT_CONTEXT "coffer-report"

struct keyd;
void report_stop(struct keyd *k); /* at the end of keyd: the one that is being made comes to nothing */

int keyd_report(struct varlink_call *call, json_t *params, void *userdata);

#endif
