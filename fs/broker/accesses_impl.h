/* What the parts of counting accesses share: ledger_accesses.c goes through the records, accesses_answer.c says what was counted. */
#ifndef COFFER_BROKER_ACCESSES_IMPL_H
#define COFFER_BROKER_ACCESSES_IMPL_H

#include "fs/broker/ledger_impl.h"

#define ACCESSES_PAGE_NS 30000000 /* a page: other questions come in between */
#define NS 1000000000

/* One user (name and uid) for one purpose. */
struct group {
	char *user, *purpose; /* NULL: not known */
	int64_t uid;
	int64_t sessions, files, opens, writes, changes, refused, got, put;
	int64_t first, last; /* opens, seconds; 0: none */
};

struct week {
	int64_t from; /* seconds */
	size_t group;
	int64_t opens;
};

/* Of the files those that were opened most. */
struct top {
	struct file_id file;
	int64_t opens, last; /* last: nanoseconds */
};

struct accesses {
	int64_t number; /* of this count: `after` names it */
	char *client, *without;
	int64_t since, until, last_record;
	struct group *groups;
	size_t groups_n;
	struct week *weeks;
	size_t weeks_n, week; /* the last that counted */
	int64_t *sessions;    /* by row id: number of the group + 1; 0: not seen yet; or left out */
	size_t sessions_n;
	int64_t records, files;
	struct top top[LEDGER_ACCESSES_FILES];
	size_t top_n, least; /* least: index of the one that goes first */
	struct file_id at;   /* the file to go on with, once the records are counted */
	bool files_done;     /* then refusals are counted, behind `act` */
	int64_t act, last_act;
	sqlite3_stmt *session, *more, *first, *known; /* while a page is made */
	struct ledger *l;
};

/* Once the records are counted: goes on looking for the files that were opened most, and for refusals.  1: there is more. */
int accesses_look(struct accesses *a);
int accesses_answer(struct accesses *a, json_t **ret);

#endif
