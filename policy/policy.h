/* The policy: what its file says, checked.  Read with libcyaml; the default (inemsoft.yaml) is built in.
 * Plain data, immutable once loaded. */
#ifndef COFFER_POLICY_H
#define COFFER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rights { RIGHTS_NONE = 0, RIGHTS_READ = 1, RIGHTS_WRITE = 2, RIGHTS_RW = 3 };
enum party { PARTY_EMPLOYEE = 0, PARTY_PROVIDER, PARTY_PARTNER, PARTY_AFFILIATE };
enum retention_event { EVENT_CREATED = 0, EVENT_MODIFIED, EVENT_RELATIONSHIP_END, EVENT_NAMED };

struct period {		/* "90d", "18m", "7y", or a sum "1y 6m" */
	int years, months, days;
};

struct policy_purpose {
	char *id, *title;	/* "data-migration" */
	char *basis;		/* id of a legal basis */
	char *source;		/* the heading it rests on */
	enum rights rights;	/* the most a grant for it may give */
	char *ticket;		/* extended regular expression a ticket must match; NULL: none needed */
	bool ticket_required;
	bool after_end;		/* may be used when the relationship has ended, until destruction */
	struct period max_session;	/* zero: no limit */
	char **parties;		/* party ids that may use it; NULL: all */
	size_t parties_count;
	char **classes;		/* record class ids it may open; NULL: all */
	size_t classes_count;
};

struct policy_basis {
	char *id, *title, *source;
	bool consent;		/* rests on a consent fact (enforced with the consents of a later version) */
};

struct policy_party {
	enum party party;
	char *id, *title, *source;
	bool reference_required;	/* a grant needs a request reference ... */
	bool until_required;		/* ... and an end */
};

/* A date of a client that an admin records, such as the end of a contract. */
struct policy_event {
	char *id, *title, *source;
};
#define POLICY_EVENTS_MAX 8

struct policy_retention {
	enum retention_event event;
	const char *named;	/* id of an event of the policy; NULL unless EVENT_NAMED */
	bool legal;		/* the least that the law asks for (at_least) */
	struct period period;
	char *source;
};

struct policy_class {
	uint16_t number;	/* >= CLASS_FIRST_POLICY; never reused for another class */
	char *id, *title, *source;
	bool is_default;	/* exactly one */
	struct policy_retention *retention;	/* the longest applicable wins */
	size_t retention_count;
};

struct policy {
	char *name, *version;	/* "inemsoft", "2024-05-10" */
	int64_t effective;
	char *controller, *contact;
	char *sendmail;		/* absolute path of the program that notices are handed to; NULL: none */
	struct period wait;	/* between the notice of a destruction and the destruction */
	char *text_hash;	/* BLAKE2b-256 of the file, hex: decisions record it */
	struct policy_basis *bases;
	size_t bases_count;
	struct policy_purpose *purposes;
	size_t purposes_count;
	struct policy_party *parties;
	size_t parties_count;
	struct policy_event *events;
	size_t events_count;
	struct policy_class *classes;
	size_t classes_count;
};

struct policy_error {
	unsigned line;		/* 1-based; 0: the whole file */
	char text[512];		/* what is wrong and what to do */
};

/* From a file / from memory (NULL text: the built-in default).  -EINVAL with *err filled. */
int policy_load_file(const char *path, struct policy **ret, struct policy_error *err);
int policy_load_text(const char *text, size_t n, struct policy **ret, struct policy_error *err);
void policy_free(struct policy *p);

const struct policy_purpose *policy_purpose(const struct policy *p, const char *id);	/* NULL: none */
const struct policy_event *policy_event(const struct policy *p, const char *id);
const struct policy_class *policy_class(const struct policy *p, const char *id);
const struct policy_class *policy_class_by_number(const struct policy *p, uint16_t number);
const struct policy_class *policy_default_class(const struct policy *p);
const struct policy_party *policy_party(const struct policy *p, enum party party);
int policy_party_parse(const char *id, enum party *ret);	/* -EINVAL */
const char *policy_party_name(enum party party);
int policy_rights_parse(const char *text, enum rights *ret);	/* "r", "rw" */
const char *policy_rights_name(enum rights r);
int policy_period_parse(const char *text, struct period *ret);

#endif
