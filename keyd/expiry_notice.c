/* Notices: the letter, then the row that makes it run; and their ends by the clock. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/expiry.h"
#include "keyd/facts_life.h"
#include "keyd/keyd.h"
#include "keyd/notice.h"
#include "keyd/outbox.h"
#include "keyd/prefix.h"
#include "keyd/retain.h"
#include "keyd/sendmail.h"

static int write_letter(struct keyd *k, const struct notice_letter *l, json_t **ret_detail)
{
	scoped(close_fdp) int fd = statedir_open(&k->dir, "outbox", O_RDONLY | O_DIRECTORY, 0);
	char name[NOTICE_NAME_MAX], to[FACT_TEXT_MAX];
	scoped(freep) char *text = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = notice_text(l, to, sizeof(to), &text);
	if (r == 0)
		r = disk_replace(fd, notice_name(l->row, l->client->client, name), text, strlen(text));
	if (r < 0)
		return r;
	if (!*to)
		log_warning("the notice outbox/%s has no address: neither client nor policy name one", name);
	*ret_detail = json_pack("{s:I, s:s, s:s, s:I, s:I, s:s, s:s}", "notice", (json_int_t)l->row, "file", name,
		"to", to, "due", (json_int_t)l->notice->due, "until", (json_int_t)l->notice->wait_until, "rule",
		l->notice->rule, "source", l->notice->source);
	if (l->class)
		json_object_set_new(*ret_detail, "class", json_string(l->class->id));
	return 0;
}

/* The letter is on disk before the waiting begins: a crash between leaves a letter that is written again. */
static int give(struct keyd *k, const struct fact_client *c, const struct policy_class *class,
	const struct policy_retention *rule, struct fact_notice *n)
{
	struct outbox_entry e = {.kind = "expiry-notice", .by = FACTS_CLOCK, .client = c->client};
	int64_t now = keyd_now();
	struct notice_letter l = {.client = c, .notice = n, .policy = k->policy, .class = class, .now = now};
	char name[NOTICE_NAME_MAX];
	int r;

	n->client = c->row;
	n->wait_until = expiry_wait_until(k->policy, now);
	expiry_rule_text(rule, n->rule, sizeof(n->rule));
	snprintf(n->source, sizeof(n->source), "%s", rule->source ? rule->source : "");
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_notice_begin(k->facts, n, now, &l.row);
	if (r == 0)
		r = write_letter(k, &l, &e.detail);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return r;
	notice_send(k, notice_name(l.row, c->client, name), c->client);
	if (class)
		retain_tell(k, c);
	return 0;
}

int expiry_notify(struct keyd *k, const struct fact_client *c, const struct expiry_answer *a)
{
	struct fact_notice n = {.due = a->retention.due};

	return give(k, c, NULL, a->retention.rule, &n);
}

int expiry_notify_class(struct keyd *k, const struct fact_client *c, const struct policy_class *class,
	uint16_t before, const struct prefix_answer *a)
{
	struct fact_notice n = {.due = a->due_on, .class = class->number, .before = before};

	return give(k, c, class, a->rule, &n);
}

int expiry_stop(struct keyd *k, const struct fact_client *c, const struct fact_class *class, enum notice_end how,
	const char *why)
{
	struct outbox_entry e = {.kind = "expiry-stop", .by = FACTS_CLOCK, .client = c->client};
	int r = facts_begin(k->facts);

	if (r == 0)
		r = facts_notice_end_class(
			k->facts, c->row, class ? class->class : 0, how, why, 0, FACTS_CLOCK, keyd_now());
	e.detail = json_pack("{s:I, s:s}", "notice", (json_int_t)(class ? class->waiting : c->waiting), "reason", why);
	r = outbox_commit_with(k, r, &e);
	if (r == 0 && class)
		retain_tell(k, c);
	return r;
}
