#include "keyd/prefix.h"

#define DAY 86400
#define DAY_BITS 16

static int judge(const struct policy_class *c, const struct fact_client *client, int64_t created,
	int64_t modified, int64_t now, struct retention_answer *ret)
{
	const struct retention_facts f = {.created = created,
		.modified = modified,
		.relationship_end = client->ended_on,
		.dates = client->dates,
		.dates_count = client->dates_count,
		.held = client->held};

	return retention_class(c, &f, now, ret);
}

/* The later it was modified, the later it is due: so the border is found by halving. */
static int find_border(const struct policy_class *c, const struct fact_client *client, int64_t created,
	int64_t now, int64_t *ret)
{
	int64_t due = created, not_due = now;
	struct retention_answer a;
	int r;

	r = judge(c, client, created, now, now, &a);
	if (r < 0)
		return r;
	if (a.state == RETENTION_DUE) {
		*ret = INT64_MAX;
		return 0;
	}
	while (not_due - due > 1) {
		int64_t middle = due + (not_due - due) / 2;

		r = judge(c, client, created, middle, now, &a);
		if (r < 0)
			return r;
		*(a.state == RETENTION_DUE ? &due : &not_due) = middle;
	}
	*ret = not_due;
	return 0;
}

static int64_t youngest_of(uint16_t before)
{
	return DAY_EPOCH_UNIX + (int64_t)before * DAY - 1;
}

/* Nothing was modified before it was made, whatever its times say. */
int prefix_due(const struct policy_class *c, const struct fact_client *client, uint16_t before, int64_t now,
	struct prefix_answer *ret)
{
	int64_t youngest = youngest_of(before);
	struct retention_answer a;
	int r = judge(c, client, youngest, youngest, now, &a);

	*ret = (struct prefix_answer){0};
	if (r < 0)
		return r;
	ret->due_on = a.due;
	ret->rule = a.rule;
	ret->due = a.state == RETENTION_DUE;
	return 0;
}

int prefix_judge(const struct policy_class *c, const struct fact_client *client, uint16_t before, int64_t now,
	struct prefix_answer *ret)
{
	int r = prefix_due(c, client, before, now, ret);

	if (r < 0 || !ret->due)
		return r;
	r = find_border(c, client, youngest_of(before), now, &ret->modified_since);
	ret->due = r == 0;
	return r;
}

unsigned prefix_cuts(uint16_t class, uint16_t before, struct prefix out[PREFIXES_MAX])
{
	unsigned n = 0;

	for (unsigned bit = DAY_BITS; bit-- > 0;) {
		uint64_t day;

		if (!(before >> bit & 1))
			continue;
		day = (uint64_t)before >> (bit + 1) << (bit + 1);
		out[n++] = (struct prefix){
			.prefix = (uint64_t) class << 48 | day << 32, .bits = 2 * DAY_BITS - bit};
	}
	return n;
}
