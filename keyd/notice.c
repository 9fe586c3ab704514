#include "keyd/notice.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/date.h"

#define ADDRESS_MAX 255

char *notice_name(int64_t row, const char *client, char buf[NOTICE_NAME_MAX])
{
	snprintf(buf, NOTICE_NAME_MAX, "notice-%" PRId64 "-%s.eml", row, client);
	return buf;
}

/* Narrow on purpose: it goes into a header, and to a mail program. */
static bool is_address_char(char c)
{
	return isascii((unsigned char)c) && (isalnum((unsigned char)c) || strchr(".+-_", c)) && c != '\0';
}

bool notice_address(const char *text, char *buf, size_t n)
{
	const char *at = strchr(text, '@'), *begin, *end;

	if (!at)
		return false;
	for (begin = at; begin > text && is_address_char(begin[-1]);)
		begin--;
	for (end = at + 1; *end && is_address_char(*end);)
		end++;
	while (end > at + 1 && end[-1] == '.')
		end--; /* the end of a sentence */
	if (begin == at || end == at + 1 || *begin == '-' || *end == '@' ||
		(begin > text && !strchr(" <\t,;:", begin[-1])) || end - begin > ADDRESS_MAX || (size_t)(end - begin) >= n)
		return false;
	snprintf(buf, n, "%.*s", (int)(end - begin), begin);
	return true;
}

/* RFC 5322, without the locale. */
static void put_date(FILE *f, int64_t t)
{
	static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char *const months[] = {
		"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t tt = (time_t)t;
	struct tm tm;

	if (gmtime_r(&tt, &tm))
		fprintf(f, "Date: %s, %02d %s %d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday], tm.tm_mday,
			months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* Facts are free text: one line of the letter each, whatever they hold. */
static void put_line(FILE *f, const char *what, const char *text)
{
	fprintf(f, "%s", what);
	for (; *text; text++)
		fputc(iscntrl((unsigned char)*text) ? ' ' : *text, f);
	fputs("\r\n", f);
}

static void put_body(FILE *f, const struct notice_letter *l)
{
	char until[DATE_TEXT_MAX], ended[DATE_TEXT_MAX], due[DATE_TEXT_MAX], before[DATE_TEXT_MAX];

	date_format_day(l->notice->wait_until, until);
	fprintf(f,
		"On %s the data that we keep of the client named below%s will be\r\n"
		"destroyed: its keys are deleted, and nobody can read it again, from backups neither.\r\n\r\n",
		until, l->class ? ", as far as it is described" : "");
	put_line(f, "Client:             ", l->client->name);
	put_line(f, "Known here as:      ", l->client->client);
	if (l->class) {
		put_line(f, "Kind of data:       ", l->class->title);
		put_line(f, "Its record class:   ", l->class->id);
		put_line(f, "Made before:        ",
			date_format_day(DAY_EPOCH_UNIX + (int64_t)l->notice->before * 86400, before));
	}
	put_line(f, "Relationship ended: ",
		l->client->ended_on ? date_format_day(l->client->ended_on, ended) : "not yet");
	put_line(f, "Rule:               ", l->notice->rule);
	put_line(f, "It rests on:        ", l->notice->source);
	put_line(f, "Due since:          ", date_format_day(l->notice->due, due));
	put_line(f, "Destroyed on:       ", until);
	put_line(f, "Controller:         ", l->policy->controller);
	put_line(f, "Whom to ask:        ", l->policy->contact);
	fprintf(f,
		"\r\nWhoever has a reason to keep it must say so before that day: a custodian can\r\n"
		"cancel this (coffer expiry cancel) or place a hold (coffer hold place).\r\n"
		"Afterwards a signed certificate of the destruction is made.\r\n");
}

int notice_text(const struct notice_letter *l, char *to, size_t n, char **ret)
{
	char client[ADDRESS_MAX + 1], contact[ADDRESS_MAX + 1];
	bool have_client = notice_address(l->client->email, client, sizeof(client));
	bool have_contact = notice_address(l->policy->contact, contact, sizeof(contact));
	size_t size = 0;
	FILE *f;

	snprintf(to, n, "%s%s%s", have_client ? client : "", have_client && have_contact ? ", " : "",
		have_contact ? contact : "");
	f = open_memstream(ret, &size);
	if (!f)
		return -ENOMEM;
	put_date(f, l->now);
	fprintf(f, "From: %s\r\n", have_contact ? contact : "coffer-keyd@localhost");
	fprintf(f, "To: %s\r\n", *to ? to : "undisclosed-recipients:;");
	fprintf(f, "Message-ID: <notice-%" PRId64 "-%" PRId64 "-%s@coffer.invalid>\r\n", l->row, l->now,
		l->client->hex);
	fprintf(f, "Subject: %s data of %s will be destroyed\r\n", l->class ? "Some" : "The", l->client->client);
	fputs("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
	      "Content-Transfer-Encoding: 8bit\r\nAuto-Submitted: auto-generated\r\n\r\n",
		f);
	put_body(f, l);
	return fclose(f) == 0 ? 0 : -ENOMEM;
}

/* To who is answerable; NULL: no memory. */
static FILE *open_letter(const struct policy *p, const char *name, int64_t number, int64_t now, char **ret, size_t *ret_n)
{
	char contact[ADDRESS_MAX + 1];
	bool have = notice_address(p->contact, contact, sizeof(contact));
	FILE *f = open_memstream(ret, ret_n);

	if (!f)
		return NULL;
	put_date(f, now);
	fprintf(f, "From: %s\r\nTo: %s\r\n", have ? contact : "coffer-keyd@localhost", have ? contact : "undisclosed-recipients:;");
	fprintf(f, "Message-ID: <%s-%" PRId64 "-%" PRId64 "@coffer.invalid>\r\n", name, number, now);
	fputs("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
	      "Content-Transfer-Encoding: 8bit\r\nAuto-Submitted: auto-generated\r\n",
		f);
	return f;
}

int notice_alarm_text(const struct notice_alarm *a, char **ret)
{
	char until[DATE_TEXT_MAX];
	size_t size = 0;
	FILE *f = open_letter(a->policy, "emergency", a->review, a->now, ret, &size);

	if (!f)
		return -ENOMEM;
	put_line(f, "Subject: Emergency: opened without a grant: ", a->client);
	fputs("\r\n", f);
	put_line(f, "Client:   ", a->client);
	put_line(f, "By:       ", a->user);
	put_line(f, "Purpose:  ", a->purpose);
	put_line(f, "Reason:   ", a->reason);
	put_line(f, "Until:    ", date_format(a->until, until));
	fprintf(f,
		"\r\nSomebody else must look at it and say so: coffer reviews close %" PRId64 " --note TEXT\r\n"
		"The record says what was opened: coffer log --client CLIENT\r\n",
		a->review);
	return fclose(f) == 0 ? 0 : -ENOMEM;
}

int notice_gain_text(const struct notice_gain *g, char **ret)
{
	size_t size = 0;
	FILE *f = open_letter(g->policy, "gain", g->review, g->now, ret, &size);

	if (!f)
		return -ENOMEM;
	put_line(f, "Subject: Somebody enlarged his own powers: ", g->user);
	fputs("\r\n", f);
	put_line(f, "Changed:  ", g->what);
	if (g->client)
		put_line(f, "Client:   ", g->client);
	put_line(f, "By:       ", g->user);
	put_line(f, "So that:  ", g->text);
	fprintf(f,
		"\r\nSomebody else must look at it and say so: coffer reviews close %" PRId64 " --note TEXT\r\n"
		"What was there before: coffer policy versions, coffer agreement list\r\n",
		g->review);
	return fclose(f) == 0 ? 0 : -ENOMEM;
}

int notice_incident_text(const struct notice_incident *i, char *to, size_t n, char **ret)
{
	char client[ADDRESS_MAX + 1], contact[ADDRESS_MAX + 1], from[DATE_TEXT_MAX], until[DATE_TEXT_MAX];
	bool have_client = notice_address(i->client->email, client, sizeof(client));
	bool have_contact = notice_address(i->policy->contact, contact, sizeof(contact));
	size_t size = 0;
	FILE *f = open_memstream(ret, &size);

	if (!f)
		return -ENOMEM;
	snprintf(to, n, "%s%s%s", have_client ? client : "", have_client && have_contact ? ", " : "",
		have_contact ? contact : "");
	put_date(f, i->now);
	fprintf(f, "From: %s\r\nTo: %s\r\n", have_contact ? contact : "coffer-keyd@localhost",
		*to ? to : "undisclosed-recipients:;");
	fprintf(f, "Message-ID: <incident-%" PRId64 "-%s@coffer.invalid>\r\n", i->now, i->client->hex);
	put_line(f, "Subject: Security incident: data of ", i->client->client);
	fputs("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
	      "Content-Transfer-Encoding: 8bit\r\nAuto-Submitted: auto-generated\r\n\r\n"
	      "We suspect that data which we hold for you were opened without right.\r\n\r\n",
		f);
	put_line(f, "Client:     ", i->client->name);
	put_line(f, "From:       ", date_format(i->from, from));
	put_line(f, "Until:      ", date_format(i->until, until));
	put_line(f, "Data:       ", i->categories);
	fprintf(f, "Files:      %" PRId64 " were opened then, by %" PRId64 " of our users\r\n", i->files, i->persons);
	put_line(f, "Controller: ", i->policy->controller);
	put_line(f, "Whom to ask:", i->policy->contact);
	return fclose(f) == 0 ? 0 : -ENOMEM;
}
