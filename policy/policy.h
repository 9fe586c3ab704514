/* The policy: what its file says, checked.  Read with libcyaml; the default (inemsoft.yaml) is built in.
 * Plain data, immutable once loaded. */
#ifndef COFFER_POLICY_H
#define COFFER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rights { RIGHTS_NONE = 0, RIGHTS_READ = 1, RIGHTS_WRITE = 2, RIGHTS_RW = 3 };
enum party { PARTY_EMPLOYEE = 0, PARTY_PROVIDER, PARTY_PARTNER, PARTY_AFFILIATE };
/* What the policy says of copies outside the share, the strictest last: nothing; they are allowed, and every session is
 * marked; only `coffer shell` opens it, whose program cannot write elsewhere. */
enum policy_export { EXPORT_FREE = 0, EXPORT_RECORDED, EXPORT_NO };
/* What a record must survive before the answer that it is about: the end of any process, or a power cut too. */
enum policy_durability { DURABILITY_UNSAID = 0, DURABILITY_PROCESS, DURABILITY_SYNC };
enum retention_event { EVENT_CREATED = 0, EVENT_MODIFIED, EVENT_RELATIONSHIP_END, EVENT_NAMED };

struct period {		/* "90d", "18m", "7y", or a sum "1y 6m" */
	int years, months, days;
	int seconds;	/* only of lengths: "8h", "30min", "90s" */
};

/* What a client's agreement changes of a purpose or class, and which of the two prevails (agreement.h). */
struct policy_override {
	char text[384];		/* names both rules */
	const char *source;	/* the agreement's paragraph */
	bool prevails;		/* false: the law does */
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
	struct period idle;	/* a session that is not used for so long ends; zero: no limit */
	struct period approval;	/* how long the approval lasts that it needs; zero: it needs none */
	enum policy_export export;	/* its own, or the stricter one of a purpose above it */
	enum policy_durability durability;	/* the strictest of its own, of those above it and of the whole policy's */
	char **parties;		/* party ids that may use it; NULL: all */
	size_t parties_count;
	int parent;		/* index of the purpose above it in the tree, smaller than its own; -1: none */
	bool node;		/* a heading for those below it: nobody opens anything for it */
	bool law;		/* the law's part: no agreement changes it */
	int prohibited_at;	/* index of the purpose that prohibits it, itself or one above it; -1: it is not */
	char **services;	/* ids of the service lines that need it; NULL: see policy_services() */
	size_t services_count;
	const struct policy_override *override;	/* NULL: no agreement says anything of it */
};

struct policy_service {		/* a service line: what a client engages the firm for */
	char *id, *title, *source;
};

struct policy_basis {
	char *id, *title, *source;
	bool consent;		/* holds only while there is a consent of the client */
};

struct policy_party {
	enum party party;
	char *id, *title, *source;
	bool reference_required;	/* a grant needs a request reference ... */
	bool until_required;		/* ... and an end */
	bool only_shareable;		/* opens only classes that are marked so */
};

/* Break-glass: who may open a client without a grant, when there is no time for one. */
struct policy_emergency {
	char **groups;
	size_t groups_count;
	struct period max_session;
	enum rights rights;
	char *source;
};

/* Roles that one person may hold at the same time. */
enum policy_role { POLICY_ADMIN = 0, POLICY_CUSTODIAN, POLICY_AUDITOR, POLICY_CONSULTANT, POLICY_ROLES };

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
	char **purposes;	/* only they (and what is below them) open it; NULL: all */
	size_t purposes_count;
	bool shareable;		/* also to parties that see only such classes */
	bool approval;		/* only in a session for which somebody approved this class */
	bool uncached;		/* never kept in the page cache */
	const struct policy_override *override;
};
#define POLICY_CLASSES_MAX 256

/* Where the signed heads of the book go, besides the system's journal. */
enum anchor_kind { ANCHOR_FILE = 1, ANCHOR_COMMAND, ANCHOR_MAIL };
#define POLICY_ANCHORS_MAX 8
struct policy_anchor {
	enum anchor_kind kind;
	char *to;		/* absolute path, or an address */
	int64_t every;		/* seconds: not more often */
};

struct agreement;

struct policy {
	const struct agreement *agreement;	/* that it was merged with (agreement.h); NULL: none */
	char *name, *version;	/* "inemsoft", "2024-05-10" */
	int64_t effective;
	char *controller, *contact;
	enum policy_durability durability;	/* of all purposes, at least */
	char *sendmail;		/* absolute path of the program that notices are handed to; NULL: none */
	struct policy_anchor anchors[POLICY_ANCHORS_MAX];
	size_t anchors_count;
	int window_at;		/* seconds after midnight UTC: when the destructions of a day happen, together */
	struct period wait;	/* between the notice of a destruction and the destruction */
	struct period record_archive;	/* after its end a month of the record moves into an archive */
	struct period record_keep;	/* after its end it is destroyed, if record_ends */
	bool record_ends;		/* false: it is kept for ever */
	char *text_hash;	/* BLAKE2b-256 of the file, hex: decisions record it */
	struct policy_service *services;
	size_t services_count;
	struct policy_emergency *emergency;	/* NULL: nobody */
	unsigned together[POLICY_ROLES];	/* bit n: this role may be used together with role n */
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
/* The text of a policy or an agreement, ended by NUL; *ret is malloc'd.  What no file of ours can be is refused: *err. */
int policy_read_file(const char *path, char **ret, size_t *ret_n, struct policy_error *err);
void policy_free(struct policy *p);

const struct policy_purpose *policy_purpose(const struct policy *p, const char *id);	/* NULL: none */
/* Whether `above` is `purpose` itself or stands above it in the tree. */
bool policy_covers(const struct policy *p, const char *above, const struct policy_purpose *purpose);
/* Its service lines, or those of the nearest above it that names some.  *ret_n 0: it needs none. */
char *const *policy_services(const struct policy *p, const struct policy_purpose *purpose, size_t *ret_n);
const struct policy_service *policy_service(const struct policy *p, const char *id);
const struct policy_basis *policy_basis(const struct policy *p, const char *id);
const struct policy_event *policy_event(const struct policy *p, const char *id);
const struct policy_class *policy_class(const struct policy *p, const char *id);
const struct policy_class *policy_class_by_number(const struct policy *p, uint16_t number);
const struct policy_class *policy_default_class(const struct policy *p);
const struct policy_party *policy_party(const struct policy *p, enum party party);
int policy_party_parse(const char *id, enum party *ret);	/* -EINVAL */
const char *policy_party_name(enum party party);
int policy_rights_parse(const char *text, enum rights *ret);	/* "r", "rw" */
const char *policy_rights_name(enum rights r);
const char *policy_export_name(enum policy_export e);	/* "", "recorded", "no" */
const char *policy_durability_name(enum policy_durability d);	/* "", "process", "sync" */
/* Whether `ticket` has the form that the purpose asks for. */
#define POLICY_TICKET_MAX 256 /* bounds the matching; a ticket is a number, not a text */
bool policy_ticket_fits(const struct policy_purpose *purpose, const char *ticket);
/* Sets the event of a rule from its word.  False: there is no such event. */
bool policy_retention_event(const struct policy *p, const char *id, struct policy_retention *to);
int policy_period_parse(const char *text, struct period *ret);
int policy_length_parse(const char *text, struct period *ret);	/* also hours, minutes, seconds: "8h", "1h 30min", "90s" */
bool policy_period_is_zero(const struct period *p);
int64_t policy_period_add(int64_t t, const struct period *p);
int policy_role_parse(const char *id, enum policy_role *ret);
const char *policy_role_name(enum policy_role role);

#endif
