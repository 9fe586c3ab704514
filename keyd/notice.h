/* The letter that says that a client's data will be destroyed: one mail to his address of record and to the
 * policy's contact, as a file that any mail program takes. */
#ifndef COFFER_KEYD_NOTICE_H
#define COFFER_KEYD_NOTICE_H

#include <stddef.h>
#include <stdint.h>

#include "keyd/facts.h"
#include "policy/policy.h"

struct notice_letter {
	int64_t row;			/* of the notice: names the file */
	const struct fact_client *client;
	const struct fact_notice *notice;
	const struct policy *policy;
	const struct policy_class *class;	/* only of this class, made before notice->before; NULL: everything */
	int64_t now;
};

#define NOTICE_NAME_MAX (CLIENT_NAME_MAX + 40)
char *notice_name(int64_t row, const char *client, char buf[NOTICE_NAME_MAX]);	/* "notice-3-acme.eml" */

/* The first address in a text ("Ada <ada@example.org>, Exampleton"): false when there is none, or what looks like
 * one is more than letters, digits and .+-_ around an @. */
bool notice_address(const char *text, char *buf, size_t n);

/* The whole mail, malloc'd.  `to` (n bytes): its addresses, comma between; "" when nobody has one. */
int notice_text(const struct notice_letter *l, char *to, size_t n, char **ret);

/* The letter that says that somebody opened a client in an emergency; malloc'd. */
struct notice_alarm {
	int64_t review;
	const char *client, *user, *purpose, *reason;
	int64_t until;
	const struct policy *policy;
	int64_t now;
};
int notice_alarm_text(const struct notice_alarm *a, char **ret);

/* The letter that says that somebody changed rules so that he may do more; malloc'd. */
struct notice_gain {
	int64_t review;
	const char *client;	/* or NULL */
	const char *user, *what, *text;
	const struct policy *policy;
	int64_t now;
};
int notice_gain_text(const struct notice_gain *g, char **ret);

/* The letter about a breach of security to a client's address of record; malloc'd.  `to` (n bytes): as of notice_text. */
struct notice_incident {
	const struct fact_client *client;
	int64_t from, until, now, persons, files;
	const char *categories;
	const struct policy *policy;
};
int notice_incident_text(const struct notice_incident *i, char *to, size_t n, char **ret);

#endif
